"""Plans for NVIDIA's GPUs, built from a graph ahead of time.

    tensorrt-rtx   TensorRT for RTX: for GPUs that need not be here, several kinds in one plan
    tensorrt       TensorRT proper: for the GPU that is here, whose kernels it times

Both have one API. What a plan computes in is what its graph does: networks are strongly typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pahi_rt.errors import PahiError
from pahi_rt.runtimes.tensorrt import MODULES, last_error, make_log, require_tensorrt

AMPERE = "86"
"""Compute capability of the RTX 30 series."""


@dataclass(frozen=True)
class PlanSettings:
    """What a plan is built for. Raises PahiError for an unknown flavour, and for batch sizes that do not ascend."""

    flavour: str = "tensorrt-rtx"
    """A key of MODULES."""
    compute_capabilities: tuple[str, ...] = (AMPERE,)
    """NVIDIA's numbers of the GPUs, without the dot; empty for TensorRT proper, which builds for the GPU here."""
    batch: tuple[int, int, int] = (1, 2, 4)
    """Pictures at once: the least, the number that the plan is tuned for, and the most."""

    def __post_init__(self) -> None:
        if self.flavour not in MODULES:
            raise PahiError(f"there is no engine {self.flavour[:40]!r}", fix=f"use {' or '.join(MODULES)}")
        least, best, most = self.batch
        if not 1 <= least <= best <= most:
            what = f"no batch goes from {least} over {best} to {most}"
            raise PahiError(what, fix="use --batch MIN/OPT/MAX, as in 1/2/4")


@dataclass(frozen=True)
class Layer:
    """One layer of a plan, as TensorRT's log describes it."""

    name: str
    kind: str
    """TensorRT's own name: "gemm", "correlation" (a convolution), "kgen" (generated), ..."""
    types: frozenset[str]
    """Types of all inputs and outputs: "Float", "Half", ..."""


def build_plan(graph: Path, output: Path, settings: PlanSettings) -> list[Layer]:
    """Build a plan of `graph`, write it to the file `output`, and return its layers.

    Raises RuntimeUnavailable if TensorRT is not installed, and PahiError for a graph that it cannot read, a GPU that
    it does not know, and any error that it reports, even if it built a plan.
    """
    trt = require_tensorrt(settings.flavour)
    log = make_log(trt)
    builder = trt.Builder(log)
    if builder is None or log.error:
        raise PahiError(f"{settings.flavour} cannot start: {last_error(log)}", fix="check NVIDIA's driver")
    network, parser = _read_graph(trt, builder, log, graph)
    config = builder.create_builder_config()
    # Names layers and their types in the log, which is how they are checked.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.add_optimization_profile(_make_profile(builder, network, settings.batch))
    _choose_gpus(trt, config, settings)
    # TF32 is on by default. It rounds the factors of a 32-bit graph's products to 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    del parser  # only now: it owns the weights that the network points to
    if plan is None or log.error:
        what = f"{settings.flavour} cannot build a plan of {graph.name}: {last_error(log)}"
        raise PahiError(what, fix="export the graph with --precision fp16, or without this engine")
    output.parent.mkdir(exist_ok=True)
    output.write_bytes(plan)
    return read_layers(log.layers)


def read_layers(text: str) -> list[Layer]:
    """Parse the layers that TensorRT lists in its log once a plan is built."""
    entries = re.split(r"^Name: ", text.partition("Layers:\n")[2].partition("\n\n")[0], flags=re.MULTILINE)[1:]
    return [
        Layer(
            name=entry.partition(", LayerType")[0],
            kind=re.search(r"LayerType: ([^,]*)", entry)[1],  # type: ignore[index]
            types=frozenset(re.findall(r"Datatype: (\w+)", _ends(entry))),
        )
        for entry in entries
        if "LayerType: " in entry
    ]


def _ends(entry: str) -> str:
    """A layer's inputs and outputs, without its constants."""
    return re.sub(r"Constants: \[.*?\], Outputs", "Outputs", entry)


def _read_graph(trt: Any, builder: Any, log: Any, graph: Path) -> tuple[Any, Any]:
    """The network, and its parser, which owns the weights that the network points to."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        reasons = "; ".join(str(parser.get_error(index)).strip() for index in range(parser.num_errors))
        raise PahiError(f"TensorRT cannot read {graph.name}: {reasons[:400]}", fix="export it with --opset 20")
    return network, parser


def _make_profile(builder: Any, network: Any, batch: tuple[int, int, int]) -> Any:
    """A profile in which the first axis of each input, the batch, has these sizes."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, *((size, *rest) for size in batch))
    return profile


def _choose_gpus(trt: Any, config: Any, settings: PlanSettings) -> None:
    wanted = settings.compute_capabilities
    if settings.flavour == "tensorrt":
        if wanted:
            fix = "leave --compute-capability out, or use --engine tensorrt-rtx"
            raise PahiError("TensorRT proper builds for the GPU that is here alone", fix=fix)
        return
    known = {name.removeprefix("SM"): value for name, value in trt.ComputeCapability.__members__.items()}
    unknown = [name for name in wanted if not name.isdigit() or name not in known]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        fix = f"name one or more of {', '.join(name for name in known if name.isdigit())}, each once"
        what = f"TensorRT for RTX builds no plan for the compute capability {', '.join(unknown or wanted) or 'none'}"
        raise PahiError(what, fix=fix)
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        config.set_compute_capability(known[name], index)


def check_types(layers: Sequence[Layer], precision: str) -> None:
    """Raises PahiError if a convolution or a matrix product in the plan of an fp16 graph still reads 32 bits.

    It also does if there are none of either: then TensorRT lists its layers in a way that `read_layers` cannot parse.
    """
    heavy = [layer for layer in layers if layer.kind in ("correlation", "gemm", "conv", "attention")]
    wide = [layer.name for layer in heavy if "Float" in layer.types]
    if precision == "fp16" and not heavy:
        fix = "report it with TensorRT's version; meanwhile build with --precision fp32"
        raise PahiError("TensorRT does not tell what its plan computes in", fix=fix)
    if precision == "fp16" and wide:
        what = (
            f"{len(wide)} of {len(heavy)} convolutions and matrix products are computed in 32 bits, such as {wide[0]}"
        )
        raise PahiError(what, fix="export the graph again; report the model if it stays so")
