"""What everything is compared with: PyTorch with the model that the bundle was made of, else ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pahi_rt.bundle import Bundle
from pahi_rt.errors import ModelError
from pahi_rt.export.drawing import draw_reference
from pahi_rt.export.model import load_model
from pahi_rt.export.provenance import Source, describe_components, describe_prior
from pahi_rt.manifest import GAUSSIAN, STRENGTH, Graph
from pahi_rt.qualify.pairs import Pairs, draw, gather
from pahi_rt.runtimes import load

NEAREST = ("fp32", "w16", "fp16", "w8", "int8")
"""Precisions, from that which is nearest to the model as it was trained."""
ONNX_RUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Reference:
    """Draws the reference's pictures."""

    name: str
    precision: str
    """Graphs of this precision compute with the same weights."""
    is_pytorch: bool
    draw: Callable[[Graph], NDArray[np.uint8]]
    """A graph, whose steps and prior count -> its pictures [N, H, W, 3]."""


def open_reference(bundle: Bundle, pairs: Pairs, source: Source | None) -> Reference:
    """PyTorch in fp32 with the weights of `source`; without it, ONNX Runtime with the bundle's most precise graphs.

    Raises ModelError if the bundle was made of another model or other priors.
    """
    return _open_onnx_runtime(bundle, pairs) if source is None else _open_pytorch(bundle, pairs, source)


def nearest(bundle: Bundle) -> str:
    """The bundle's precision that is nearest to the model as it was trained."""
    return next(name for name in NEAREST if name in bundle.precisions)


def _open_onnx_runtime(bundle: Bundle, pairs: Pairs) -> Reference:
    precision = nearest(bundle)

    def draw_with(graph: Graph) -> NDArray[np.uint8]:
        runtime = load(bundle, graph.steps, ONNX_RUNTIME, prior=graph.prior, precision=precision)
        return draw(runtime, pairs, graph.prior)

    return Reference(f"ONNX Runtime {precision}", precision, False, draw_with)


def _open_pytorch(bundle: Bundle, pairs: Pairs, source: Source) -> Reference:
    check_source(bundle, source)
    model = load_model(source)

    def draw_with(graph: Graph) -> NDArray[np.uint8]:
        prior = None if graph.prior == GAUSSIAN else model.priors[graph.prior]
        names = ("input_ids", "noise", STRENGTH) if prior else ("input_ids", "noise")
        rows = ({name: one[name] for name in names} for one in pairs.inputs(graph.prior))
        drawn = (draw_reference(model.generator, row, graph.steps, prior).levels for row in rows)
        return gather(drawn, len(pairs))

    return Reference("PyTorch fp32, weights as trained", "fp32", True, draw_with)


def check_source(bundle: Bundle, source: Source) -> None:
    """Raises ModelError unless the bundle was made of exactly these weights."""
    manifest = bundle.manifest
    generator, autoencoder = describe_components(source)
    priors = {describe_prior(path).sha256 for path in source.priors}
    fix = "name the model that the bundle was exported from, with the same --decoder, --lora, --variant and --prior"
    for part, found, made_of in (
        ("generator", generator.sha256, manifest.generator),
        ("autoencoder", autoencoder.sha256, manifest.autoencoder),
    ):
        if found != made_of.sha256:
            what = f"bundle {manifest.name!r} was made of another {part} than {source.folder}: {made_of.id}"
            raise ModelError(what, fix=fix)
    lacking = [kind for kind, prior in manifest.priors.items() if prior.component.sha256 not in priors]
    if lacking:
        raise ModelError(f"the checkpoint of the bundle's prior {lacking[0]} is not among the --prior given", fix=fix)
