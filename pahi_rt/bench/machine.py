"""Describes what a measurement is taken on."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pahi_rt
from pahi_rt.bench.reports.report import GpuMachine, Machine
from pahi_rt.errors import PahiError
from pahi_rt.machine import cpu_features, cpu_name, module_version


def describe() -> Machine:
    """CPU, cores, load, versions and commit."""
    return Machine(**_describe_cpu())


def describe_gpu() -> GpuMachine:
    """The same, and the GPU that PyTorch uses, its driver, its memory, and the versions of PyTorch and CUDA."""
    return GpuMachine(**_describe_cpu(), **_describe_torch(), gpu_driver=_driver())


def _describe_cpu() -> dict[str, Any]:
    features = cpu_features()
    return {
        "cpu": cpu_name(),
        "cpu_features": None if features is None else tuple(features),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": module_version("onnxruntime"),
        "openvino": _openvino(),
        "pahi_rt": pahi_rt.__version__,
        "commit": _commit(),
    }


def _describe_torch() -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        return {}
    known: dict[str, Any] = {"cuda": torch.version.cuda, "torch": torch.__version__, "triton": module_version("triton")}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        memory = round(gpu.total_memory / 2**30, 1)
        known |= {"gpu": gpu.name, "compute_capability": f"{gpu.major}{gpu.minor}", "gpu_memory_gib": memory}
    return known


def _driver() -> str | None:
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0] or None


def _openvino() -> str | None:
    version = module_version("openvino")
    # The part after the dash is the commit that it was built from.
    return version and version.split("-")[0]


def check_idle(is_forced: bool) -> bool:
    """Whether the machine is busy. Raises PahiError if it is, unless `is_forced`."""
    busy = is_busy()
    if busy and not is_forced:
        raise PahiError("the machine is busy, timings would mean little", fix="wait, or add --force")
    return busy


def is_busy() -> bool:
    """Whether other programs use so much of this machine that timings mean little."""
    return os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1)


def _commit() -> str | None:
    """Commit of the checkout that pahi_rt is used from; None for an installed package, wherever it lies."""
    package = Path(pahi_rt.__file__).parent
    try:
        # A package in an environment inside somebody's repository is not tracked there.
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def command() -> str:
    """The command line that is running, as a user would type it."""
    return shlex.join(["pahi-rt", *sys.argv[1:]])
