"""What this machine is, for reports: a number means little without its hardware."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_name() -> str | None:
    """The processor's model name; None where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
