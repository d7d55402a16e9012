"""Facts about this machine. A number in a report means little without the hardware and the versions behind it."""

from __future__ import annotations

import os
import platform
import re
from importlib import import_module
from pathlib import Path

from pahi_rt.cache import lend_cache
from pahi_rt.errors import RuntimeUnavailable

_X86 = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_ARM = ("asimdhp", "asimddp", "i8mm", "bf16", "sve")
FEATURES = (*_X86, *_ARM)
"""Processor features that decide how it multiplies in 32, 16 and 8 bits, by Linux's names."""
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_ENOUGH_THREADS = 16
"""Threads that are accepted on any machine, so that a script works on a smaller one too."""


def check_threads(threads: int) -> None:
    """Raises RuntimeUnavailable for less than one thread, and for many more than cores: they only cost memory."""
    most = max(_ENOUGH_THREADS, os.cpu_count() or 1)
    if not 1 <= threads <= most:
        raise RuntimeUnavailable(f"cannot run on {threads} threads", fix=f"use --threads 1 to {most}, or leave it out")


def cpu_name() -> str | None:
    """The processor's model name; None if the system does not tell."""
    return _read_cpuinfo("model name") or platform.processor() or None


def cpu_features() -> list[str]:
    """The FEATURES that the processor has; an empty list if the system does not tell."""
    flags = (_read_cpuinfo("flags") or _read_cpuinfo("Features") or "").split()  # the latter on ARM
    return [feature for feature in FEATURES if feature in flags]


def has_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16; False if the system does not tell.

    Without them PyTorch takes more than twenty times as long for a convolution in bfloat16 as in float32.
    """
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(cpu_features())


def cpu_kind() -> str:
    """The architecture and the FEATURES of the processor; its name in place of them if the system does not tell."""
    told = cpu_features() or [name for name in [cpu_name()] if name]
    return ", ".join([platform.machine(), *told])


def cpu_identity() -> str:
    """What decides how code is laid out for this processor: its kind, its name and all its features, as text."""
    told = [_read_cpuinfo(key) or "" for key in ("model name", "flags", "Features")]  # the last one on ARM
    return "\n".join([platform.machine(), *told])


def gpu_identity() -> str:
    """NVIDIA's GPUs and which of them this process may use, as text; no names if the driver does not tell.

    CUDA would tell as well, but takes longer to start than a small model takes to draw.
    """
    files = sorted((_PROC / "driver" / "nvidia" / "gpus").glob("*/information"))
    models = [line for file in files for line in _read(file).splitlines() if "Model:" in line]
    return "\n".join([*models, os.environ.get("CUDA_VISIBLE_DEVICES", "")])


def usable_cores() -> int:
    """Cores that this process may use: those that it may run on, as far as its control groups allow."""
    quotas = [_read(group / "cpu.max").split() for group in _control_groups()]
    allowed = [int(quota[0]) // int(quota[1]) for quota in quotas if len(quota) == 2 and quota[0] != "max"]
    return max(1, min([_own_cores(), *allowed]))


def free_memory() -> int:
    """Bytes that new processes may take: what the system can free, as far as its control groups allow."""
    return max(0, min([_available_memory(), *(left for group in _control_groups() for left in _memory_left(group))]))


def is_core_taken(threads: int | None) -> bool:
    """Whether other work leaves fewer cores than `threads`, or than one for each core if None; False if unknown.

    Unknown if this process may not run on all cores: the system does not tell which of them have work.
    """
    cores = _own_cores()  # whose work is counted, whatever share of them is ours
    if cores < (os.cpu_count() or 1):
        return False
    return runnable_tasks() - 1 + min(threads or cores, cores) > cores


def runnable_tasks() -> int:
    """Threads that run or could run now, on all cores, this one included; 1 if the system does not tell."""
    try:
        return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return 1


def module_version(name: str) -> str | None:
    """The `__version__` of a module; None if it cannot be imported, or has none. Raises OutputError as `lend_cache`.

    A package's metadata would not do: the module onnxruntime may come from the package onnxruntime-gpu or
    onnxruntime-openvino.
    """
    lend_cache()  # some modules cannot be imported without a home
    try:
        version = getattr(import_module(name), "__version__", None)
    except Exception:  # whatever a package raises that does not fit the machine: it cannot be used
        return None
    return None if version is None else str(version)


def _own_cores() -> int:
    """Cores that this process may run on, which runtimes count the same way."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _available_memory() -> int:
    """Free memory, and what the system holds in it of files and would give up."""
    told = _read_value(_PROC / "meminfo", "MemAvailable")
    return int(told.split()[0]) * 1024 if told else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_groups() -> list[Path]:
    """The folders of this process's control group (version 2) and of those around it. They need not exist."""
    own = (_read_value(_PROC / "self" / "cgroup", "0:") or "").removeprefix(":")
    folder = _CGROUPS / own.strip("/")
    return [group for group in (folder, *folder.parents) if group.is_relative_to(_CGROUPS)]


def _memory_left(group: Path) -> list[int]:
    """Bytes that a control group may still take, in a list; files that it would give up do not count as taken."""
    most, taken = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if not (most.isdigit() and taken.isdigit()):
        return []
    given_up = re.search(r"^inactive_file (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
    return [int(most) - int(taken) + (int(given_up[1]) if given_up else 0)]


def _read_cpuinfo(key: str) -> str | None:
    """The value of `key` in /proc/cpuinfo for the first core; None if it is not there."""
    return _read_value(_PROC / "cpuinfo", key)


def _read_value(path: Path, key: str) -> str | None:
    """What stands behind the colon in the first line that begins with `key`; None if there is none."""
    lines = _read(path).splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)


def _read(path: Path) -> str:
    """The text of a system's file; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
