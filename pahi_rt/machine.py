"""What this machine is, for reports: a number means little without its hardware."""

from __future__ import annotations

import platform
from pathlib import Path

FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""What decides how fast a processor multiplies in 32, 16 and 8 bits, as Linux names it."""


def cpu_name() -> str | None:
    """The processor's model name; None where the system does not tell."""
    return _read_cpuinfo("model name") or platform.processor() or None


def cpu_features() -> list[str]:
    """Those of FEATURES that the processor has; none where the system does not tell."""
    flags = (_read_cpuinfo("flags") or "").split()
    return [feature for feature in FEATURES if feature in flags]


def _read_cpuinfo(key: str) -> str | None:
    """Of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)
