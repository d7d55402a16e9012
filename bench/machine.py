"""What a measurement was taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pahi_rt.machine import cpu_name


def describe() -> dict[str, str | int | float | None]:
    """CPU, cores, load, versions and commit; null where this machine does not tell."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": metadata.version("onnxruntime"),
        "commit": _commit(),
    }


def is_busy() -> bool:
    """Whether other programs use so much of this machine that timings mean little."""
    return os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1)


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def command() -> str:
    """The command line that is running, as a user would type it."""
    return " ".join(["python", "-m", "pahi_rt.bench", *sys.argv[1:]])
