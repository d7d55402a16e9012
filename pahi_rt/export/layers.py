"""Compares graphs tensor by tensor, in Polygraphy's runners and Comparator: where does one lose what the other has?

The plain side is a graph in ONNX Runtime without optimisations. The other side is the same graph or one of another
precision, in the runtime that is examined. Tensors are compared by name. They are marked as outputs in portions, so
that memory stays bounded: each portion runs both graphs once.

A marked tensor is one that a runtime has to compute. Nodes across it are not fused then, so an error of a fused kernel
alone is not seen here: pictures show it, and the layers do not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from polygraphy import config as polygraphy_config
from polygraphy.comparator import Comparator, SnrCompareFunc
from polygraphy.exception import PolygraphyException

from pahi_rt.bundle import Bundle
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.export.inputs import Inputs
from pahi_rt.export.marked import make_onnxruntime, portions, quiet
from pahi_rt.export.parity import EIGHT_BITS
from pahi_rt.export.precision import ALL
from pahi_rt.manifest import Graph
from pahi_rt.qualification import EQUAL_DB, Layers, Loss
from pahi_rt.runtimes.providers import CPU, PROVIDERS, own_errors, reason
from pahi_rt.runtimes.tensorrt import require_tensorrt

SHOWN = 10
BROKEN_DB = -200.0
SAME_ARITHMETIC_DB = 60.0
"""Least ratio of a tensor where both sides compute with the same weights in 32 bits. A thousandth of the values."""

MakeRunner = Callable[[Path, Sequence[str], Inputs], Any]
"""A graph with its weights beside it, names of tensors, inputs -> a runner of Polygraphy's with these outputs."""


@dataclass(frozen=True)
class Side:
    """A runtime that can be examined."""

    name: str
    make: MakeRunner


def find_side(runtime: str) -> Side:
    """The runtime with a runner of Polygraphy's. Raises RuntimeUnavailable if there is none."""
    if runtime in ("tensorrt", "tensorrt-rtx"):
        return Side(runtime, partial(_make_tensorrt, runtime))
    if runtime in PROVIDERS and not PROVIDERS[runtime].is_tensorrt:  # its graphs are files, not marked ones in memory
        return Side(runtime, partial(make_onnxruntime, PROVIDERS[runtime], True))
    raise RuntimeUnavailable(f"Polygraphy has no runner for {runtime}", fix="leave --layers out")


def tolerance_db(plain: str, precision: str) -> float:
    """The least signal-to-noise ratio of a tensor, for a graph of `precision` beside one of another: as export's PSNR.

    A picture's PSNR and this ratio differ by how bright it is, some 6 dB.
    """
    same = plain == precision and ALL[precision].is_32_bit
    return SAME_ARITHMETIC_DB if same else ALL[precision].near.psnr_db or EIGHT_BITS.psnr_db


def compare_layers(bundle: Bundle, plain: Graph, other: Graph, side: Side, feeds: Inputs) -> Layers:
    """Compare the tensors of `other` in a runtime with those of `plain` without optimisations, for one picture.

    Raises RuntimeUnavailable if Polygraphy cannot run the graph there.
    """
    given = {spec.name: feeds[spec.name] for spec in plain.inputs}
    tolerance = tolerance_db(plain.precision, other.precision)
    with bundle.opened(plain) as one, bundle.opened(other) as two:
        ratios = compare_graphs(one.path, two.path, side, given)
        nodes = list(onnx.load(one.path, load_external_data=False).graph.node)
    losses = list(_losses(nodes, ratios))
    first = next((loss for loss in losses if loss.snr_db < tolerance), None)
    worst = sorted(losses, key=lambda loss: -loss.added)[:SHOWN]
    against = f"{plain.file} in ONNX Runtime without optimisations"
    return Layers(against, tolerance, len(ratios), first, tuple(loss for loss in worst if loss.added > 0))


def compare_graphs(plain: Path, other: Path, side: Side, feeds: Inputs) -> dict[str, float]:
    """Signal-to-noise ratio in dB of every tensor of numbers that both graphs compute. Raises RuntimeUnavailable."""
    make_plain = partial(make_onnxruntime, CPU, False)
    ratios: dict[str, float] = {}
    with quiet():
        for names in portions(plain, shared_tensors(plain, other), feeds):
            runners = [make_plain(plain, names, feeds), side.make(other, names, feeds)]
            ratios |= _compare(runners, feeds, side.name)
    return ratios


def shared_tensors(plain: Path, other: Path) -> list[str]:
    """Names of the tensors that nodes of both graphs compute, in the order of the first."""
    theirs = set(_computed(other))
    return [name for name in _computed(plain) if name in theirs]


def _computed(path: Path) -> list[str]:
    nodes = onnx.load(path, load_external_data=False).graph.node
    return [name for node in nodes if node.op_type != "Constant" for name in node.output if name]


def _compare(runners: list[Any], feeds: Inputs, name: str) -> dict[str, float]:
    try:
        drawn = Comparator.run(runners, data_loader=[feeds])
        numbers = _numbers(drawn)
        by_name = SnrCompareFunc(find_output_func=lambda output, *_: [output] if output in numbers else [])
        compared = Comparator.compare_accuracy(drawn, compare_func=by_name) if numbers else []
    except (PolygraphyException, *own_errors(), RuntimeError, SystemError) as error:  # TensorRT raises the last
        what = f"{name} cannot compute the graph's tensors one by one: {reason(error)[:300]}"
        raise RuntimeUnavailable(what, fix="qualify without --layers") from error
    found = [result for accuracy in compared for results in accuracy.values() for result in results]
    # What has another shape on the other side is False.
    return {output: _finite(result.snr) for one in found for output, result in one.items() if result is not False}


def _numbers(drawn: Any) -> set[str]:
    """The tensors that hold floats on both sides."""
    sides = [iterations[0] for _, iterations in drawn.items()]
    kept = [{name for name, value in side.items() if np.issubdtype(value.dtype, np.floating)} for side in sides]
    return set.intersection(*kept)


def _finite(decibels: float) -> float:
    return BROKEN_DB if math.isnan(decibels) else max(BROKEN_DB, min(EQUAL_DB, decibels))


def _losses(nodes: Sequence[onnx.NodeProto], ratios: Mapping[str, float]) -> Iterator[Loss]:
    """What each node loses, in their order: the noise of its worst output less that of its worst input."""
    for node in nodes:
        outputs = [name for name in node.output if name in ratios]
        if not outputs:
            continue
        worst = min(outputs, key=lambda name: ratios[name])
        before = max((_noise(ratios[name]) for name in node.input if name in ratios), default=0.0)
        added = max(0.0, _noise(ratios[worst]) - before)
        yield Loss(node.name, node.op_type, worst, round(ratios[worst], 2), added)


def _noise(decibels: float) -> float:
    """Power of the noise over the signal's; at most 1, as nothing is left then."""
    return 0.0 if decibels >= EQUAL_DB else min(1.0, 10 ** (-decibels / 10))


def _make_tensorrt(flavour: str, path: Path, names: Sequence[str], feeds: Inputs) -> Any:
    """An engine of its own, built for the GPU here: the marked tensors are outputs, so it is not the plan's."""
    require_tensorrt(flavour)
    _drive(flavour)
    from polygraphy.backend.trt import (
        CreateConfig,
        EngineFromNetwork,
        NetworkFromOnnxPath,
        PostprocessNetwork,
        Profile,
        TrtRunner,
    )

    profile = Profile()
    for name, value in feeds.items():
        profile.add(name, value.shape, value.shape, value.shape)
    network = NetworkFromOnnxPath(str(path), strongly_typed=True)
    marked = PostprocessNetwork(network, partial(mark_network, names=names), name="mark")
    return TrtRunner(EngineFromNetwork(marked, CreateConfig(profiles=[profile])), name=flavour)


def _drive(flavour: str) -> None:
    """Have Polygraphy drive this one of the two TensorRTs. It decides once for a process."""
    is_rtx = flavour == "tensorrt-rtx"
    if "polygraphy.backend.trt" in sys.modules and is_rtx != polygraphy_config.USE_TENSORRT_RTX:
        what = "a process examines the layers of one TensorRT, and this one has begun with the other"
        raise RuntimeUnavailable(what, fix="qualify one of the two at a time")
    polygraphy_config.USE_TENSORRT_RTX = is_rtx


def mark_network(network: Any, names: Sequence[str]) -> Any:
    """A TensorRT network with these tensors as outputs, as far as it has them."""
    wanted = set(names)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for number in range(layer.num_outputs):
            tensor = layer.get_output(number)
            if tensor is not None and tensor.name in wanted and not tensor.is_network_output:
                network.mark_output(tensor)
    return network
