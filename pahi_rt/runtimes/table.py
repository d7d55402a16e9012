"""The table of runtimes. `load`, `auto`, `pahi-rt doctor`, the benchmarks and docs/runtimes.md read it.

A new runtime is one entry here and one class: a GraphRuntime that is made from what was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from pahi_rt.bundle import Bundle
from pahi_rt.choice import AUTO, Chosen
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.runtimes.base import Runtime
from pahi_rt.runtimes.onnxruntime import OnnxRuntime, check_provider
from pahi_rt.runtimes.onnxruntime_cuda import OnnxRuntimeCuda
from pahi_rt.runtimes.openvino import INSTALL as INSTALL_OPENVINO
from pahi_rt.runtimes.openvino import OpenVinoRuntime
from pahi_rt.runtimes.providers import PROVIDERS
from pahi_rt.runtimes.tensorrt import INSTALL as INSTALL_TENSORRT
from pahi_rt.runtimes.tensorrt import TensorRtRuntime, check_plan


@dataclass(frozen=True)
class Entry:
    """One runtime."""

    name: str
    """What `--runtime` takes and `describe` returns."""
    title: str
    """Its name in reports."""
    device: Literal["cpu", "nvidia"]
    hardware: str
    """Where it runs, in words."""
    install: str
    """The command that installs what it needs."""
    make: Callable[[Chosen], Runtime]
    """Loads the graph. Raises RuntimeUnavailable or BundleError."""
    rank: int | None = None
    """Its turn when "auto" looks for a runtime, from 1; None if it is only used when asked for by name."""
    check: Callable[[str, Bundle], None] | None = None
    """Raises RuntimeUnavailable if the named runtime obviously cannot draw the bundle here; it loads nothing."""
    needs_plan: bool = False
    """Whether it runs what `pahi-rt build` has built, rather than the graph itself."""
    is_exact: bool = True
    """Whether it draws what the others draw, to one level of 255."""

    def open(self, chosen: Chosen, why: str | None = None) -> Runtime:
        """Load the graph; `why` is for its description. Raises RuntimeUnavailable or BundleError."""
        return self.make(replace(chosen, runtime=self.name, why=why))


TABLE = (
    Entry(
        "onnxruntime",
        "ONNX Runtime",
        "cpu",
        "any CPU",
        "pip install pahi-rt",
        OnnxRuntime,
        rank=4,
    ),
    Entry(
        "onnxruntime-cuda",
        "ONNX Runtime CUDA",
        "nvidia",
        "NVIDIA GPUs, with CUDA's kernels",
        PROVIDERS["onnxruntime-cuda"].install,
        OnnxRuntimeCuda,
        rank=3,
        check=check_provider,
    ),
    Entry(
        "onnxruntime-tensorrt",
        "ONNX Runtime TensorRT",
        "nvidia",
        "NVIDIA GPUs, with TensorRT inside ONNX Runtime",
        PROVIDERS["onnxruntime-tensorrt"].install,
        OnnxRuntime,
    ),
    Entry(
        "onnxruntime-tensorrt-rtx",
        "ONNX Runtime TensorRT for RTX",
        "nvidia",
        "NVIDIA RTX GPUs, with TensorRT for RTX inside ONNX Runtime",
        PROVIDERS["onnxruntime-tensorrt-rtx"].install,
        OnnxRuntime,
    ),
    Entry(
        "openvino",
        "OpenVINO",
        "cpu",
        "Intel and AMD CPUs, in 32 bits",
        INSTALL_OPENVINO,
        OpenVinoRuntime,
    ),
    Entry(
        "openvino-bf16",
        "OpenVINO bfloat16",
        "cpu",
        "CPUs with bfloat16 instructions (AMX, AVX512-BF16)",
        INSTALL_OPENVINO,
        partial(OpenVinoRuntime, is_bfloat16=True),
        is_exact=False,
    ),
    Entry(
        "tensorrt",
        "TensorRT",
        "nvidia",
        "NVIDIA GPUs, from a plan of `pahi-rt build`",
        INSTALL_TENSORRT["tensorrt"],
        TensorRtRuntime,
        rank=1,
        check=check_plan,
        needs_plan=True,
    ),
    Entry(
        "tensorrt-rtx",
        "TensorRT for RTX",
        "nvidia",
        "NVIDIA RTX GPUs, from a plan of `pahi-rt build`",
        INSTALL_TENSORRT["tensorrt-rtx"],
        TensorRtRuntime,
        rank=2,
        check=check_plan,
        needs_plan=True,
    ),
)
NAMES = (AUTO, *(entry.name for entry in TABLE))
"""What `--runtime` takes."""


def find(name: str) -> Entry:
    """The entry of a runtime. Raises RuntimeUnavailable for a name that is not in the table."""
    for entry in TABLE:
        if entry.name == name:
            return entry
    raise RuntimeUnavailable(f"there is no runtime {name!r}", fix=f"use one of {', '.join(NAMES)}")


def by_rank() -> list[Entry]:
    """What "auto" may choose, the fastest first."""
    return sorted((entry for entry in TABLE if entry.rank), key=lambda entry: entry.rank or 0)
