"""What this machine is, has and can: a number in a report means little without its hardware and its versions."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from pathlib import Path

from pahi_rt.errors import RuntimeUnavailable

FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""What decides how fast a processor multiplies in 32, 16 and 8 bits, as Linux names it."""
_ENOUGH_THREADS = 16
"""Few enough for any machine, so that a script may be moved from one to another."""


def check_threads(threads: int) -> None:
    """Raises RuntimeUnavailable for no threads, and for many more than there are cores: they only cost memory."""
    most = max(_ENOUGH_THREADS, os.cpu_count() or 1)
    if not 1 <= threads <= most:
        raise RuntimeUnavailable(f"cannot run on {threads} threads", fix=f"use --threads 1 to {most}, or leave it out")


def cpu_name() -> str | None:
    """The processor's model name; None where the system does not tell."""
    return _read_cpuinfo("model name") or platform.processor() or None


def cpu_features() -> list[str]:
    """Those of FEATURES that the processor has; none where the system does not tell."""
    flags = (_read_cpuinfo("flags") or "").split()
    return [feature for feature in FEATURES if feature in flags]


def module_version(name: str) -> str | None:
    """What the module `name` says that it is; None if it cannot be imported, or does not say.

    Not what a package's metadata say: onnxruntime may have come as onnxruntime-gpu or onnxruntime-openvino, each under
    its own name and all with the same module.
    """
    try:
        version = getattr(import_module(name), "__version__", None)
    except ImportError:
        return None
    return None if version is None else str(version)


def _read_cpuinfo(key: str) -> str | None:
    """Of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)
