"""pahi-rt bench sensitivity BUNDLE: what each layer of a bundle costs in quality when it alone computes in 8 bits.

A layer is a convolution or a matrix product with weights. Ranges are measured with one half of the prompts, as in an
export; the other half is drawn, with all layers in 32 bits and with each alone in 8, from the same noise. The error of
a layer is the mean squared error of its pictures.

The rule that `SENSITIVE` of pahi_rt/export/quantise.py is held against: errors of layers add up as if they were
independent. So those that cost the largest error for each operation that they do stay in 32 bits, as many as it takes
for the rest to add up to the target.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from pahi_rt.bench import machine
from pahi_rt.bench.parts import find_stages
from pahi_rt.bench.reports.sensitivity import Choice, Layer, SensitivityReport
from pahi_rt.bench.reports.table2 import COMPONENTS
from pahi_rt.bench.switches import SWITCHES, add_switches, unpack_weights
from pahi_rt.bench.work import count_node, infer_shapes
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.errors import PahiError, PromptError
from pahi_rt.export.calibration import FIRST_SEED, load_calibration
from pahi_rt.export.drawing import open_session
from pahi_rt.export.inputs import Inputs, fixed_inputs, split_rows
from pahi_rt.export.precision import ALL
from pahi_rt.export.quantise import choose_nodes, list_nodes, measure_ranges
from pahi_rt.manifest import GAUSSIAN, STRENGTH, Graph
from pahi_rt.pictures import rounded_psnr
from pahi_rt.pipeline import load_tokenizer

OnLayer = Callable[[str, float], None]
"""Called after each layer with its name and its error."""


@dataclass(frozen=True)
class Settings:
    prompts: str | None = None
    """Source of prompts, as for `export --calibration`; the default ones if None."""
    pictures: int = 16
    """Drawn with each layer, at most."""
    target_db: float = 30.0


def measure(source: str, settings: Settings, on_layer: OnLayer = lambda name, error: None) -> SensitivityReport:
    """The whole report, for one step with the bundle's default prior.

    Raises PahiError for a bundle that only computes in fewer bits, PromptError, and what the loaders raise.
    """
    bundle = open_bundle(source)
    graph = _choose_graph(bundle)
    prompts = load_calibration(settings.prompts)
    half = len(prompts) // 2
    if not half:
        raise PromptError("one prompt cannot both calibrate and be drawn", fix="give two prompts or more")
    calibration = _make_inputs(bundle, graph, prompts[half:])
    drawn = _make_inputs(bundle, graph, prompts[:half][: settings.pictures])
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(bundle.file(graph.file), calibration, drawn, Path(scratch))
        errors: dict[str, float] = {}
        for name in bench.gflop:
            errors[name] = float(bench.draw([name]).mean())
            on_layer(name, errors[name])
        ranked = sorted(errors, key=lambda name: -errors[name] / bench.gflop[name])
        by_rule = follow_rule(ranked, errors, settings.target_db)
        return SensitivityReport(
            command=machine.command(),
            machine=machine.describe(),
            bundle=bundle.manifest.name,
            pictures=len(drawn),
            calibration=len(calibration),
            target_db=settings.target_db,
            all_layers=_draw_choice(bench, ranked, errors),
            as_exported=_draw_choice(bench, bench.exported, errors),
            by_rule=_draw_choice(bench, by_rule, errors),
            layers=tuple(
                Layer(
                    name=name,
                    component=bench.components[name],
                    gflop=round(bench.gflop[name], 6),
                    error=errors[name],
                    is_exported=name in bench.exported,
                    is_by_rule=name in by_rule,
                )
                for name in ranked
            ),
        )


def _draw_choice(bench: Bench, in_8_bits: Collection[str], errors: dict[str, float]) -> Choice:
    """What comes of computing these layers in 8 bits; `errors` are those of each layer alone."""
    found = bench.draw(in_8_bits)
    return Choice(
        gflop_in_8_bits=round(sum(bench.gflop[name] for name in in_8_bits), 3),
        psnr_db=rounded_psnr(float(found.mean())),
        worst_psnr_db=rounded_psnr(float(found.max())),
        expected_psnr_db=rounded_psnr(sum(errors[name] for name in in_8_bits)),
    )


def follow_rule(ranked: Sequence[str], errors: dict[str, float], target_db: float) -> set[str]:
    """The layers that may compute in 8 bits: the last ones of `ranked` whose errors add up to the target."""
    total, chosen = 0.0, set[str]()
    for name in reversed(ranked):
        total += errors[name]
        if total > 10 ** (-target_db / 10):
            break
        chosen.add(name)
    return chosen


class Bench:
    """A bundle's graph with a switch for each of its layers."""

    def __init__(self, path: Path, calibration: Iterable[Inputs], drawn: Sequence[Inputs], scratch: Path) -> None:
        """`drawn` are the inputs that every choice draws; weights are written into the empty folder `scratch`."""
        model = ir.load(path)
        unpack_weights(model)
        copy = scratch / "float.onnx"
        ir.save(model, copy, external_data="float.bin")
        proto = onnx.load(copy, load_external_data=False)
        nodes = list_nodes(proto.graph)
        self.exported = [node.name for node in choose_nodes(proto.graph)]
        known = {node.name: (node, stage) for node, stage in find_stages(infer_shapes(copy, 1)).items()}
        self.components = {node.name: COMPONENTS[known[node.name][1]] for node in nodes}
        self.gflop = {node.name: count_node(known[node.name][0])[0] / 1e9 for node in nodes}
        ranges = measure_ranges(proto, nodes, calibration, scratch)
        # The graph's only Round turns values of 0..255 into levels.
        (self._values,) = (node.input[0] for node in proto.graph.node if node.op_type == "Round")
        switched = add_switches(proto, nodes, ranges, scratch)
        switched.graph.output.append(onnx.helper.make_tensor_value_info(self._values, onnx.TensorProto.FLOAT, None))
        self._session, self._drawn = open_session(switched, scratch), drawn
        self._plain = self._draw([])

    def draw(self, in_8_bits: Collection[str]) -> NDArray[np.float64]:
        """Mean squared error of each picture, in [0, 1], with these layers in 8 bits."""
        errors: NDArray[np.float64] = ((self._draw(in_8_bits) - self._plain) ** 2).mean((1, 2, 3))
        return errors

    def _draw(self, in_8_bits: Collection[str]) -> NDArray[np.float64]:
        chosen = set(in_8_bits)
        switches = np.array([name in chosen for name in self.gflop])
        drawn = [self._session.run([self._values], {**row, SWITCHES: switches})[0] for row in self._drawn]
        return np.concatenate(drawn).astype(np.float64) / 255


def _choose_graph(bundle: Bundle) -> Graph:
    """The graph that computes in 32 bits. Raises PahiError if there is none."""
    for precision, arithmetic in ALL.items():  # the most precise first
        if arithmetic.is_32_bit and precision in bundle.precisions:
            return bundle.graph(1, next(iter(bundle.priors), GAUSSIAN), precision)
    fix = "export one that has: --precision fp32"
    raise PahiError(f"the bundle {bundle.manifest.name!r} has no graph that computes in 32 bits", fix=fix)


def _make_inputs(bundle: Bundle, graph: Graph, prompts: Sequence[str]) -> list[Inputs]:
    inputs = fixed_inputs(load_tokenizer(bundle), bundle.manifest.image.latent_shape, prompts, FIRST_SEED)
    strengths = {STRENGTH: np.ones(len(prompts), np.float32)} if graph.prior != GAUSSIAN else {}
    return split_rows({**inputs, **strengths})
