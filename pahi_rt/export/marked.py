"""Graphs with tensors marked as outputs, in Polygraphy's runners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from polygraphy.backend.onnx import ModifyOutputs
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.logger import G_LOGGER

from pahi_rt.export.drawing import open_session
from pahi_rt.export.inputs import Inputs

PLAIN = "CPUExecutionProvider"
"""The provider of ONNX Runtime that is compared with."""


def mark(path: Path, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with these tensors as its outputs. Its weights stay in their files."""
    return ModifyOutputs(onnx.load(path, load_external_data=False), outputs=list(names))()


def run_marked(path: Path, names: Sequence[str], feeds: Inputs) -> dict[str, np.ndarray]:
    """These tensors, as ONNX Runtime computes them without optimisations."""
    with quiet(), make_onnxruntime(PLAIN, False, path, names, feeds) as runner:
        return dict(runner.infer(feeds))


def make_onnxruntime(provider: str, optimised: bool, path: Path, names: Sequence[str], _feeds: Inputs) -> Any:
    """ONNX Runtime on one of its providers, with these tensors of a graph as its outputs."""

    def open_marked() -> Any:
        return open_session(mark(path, names), path.parent, provider=provider, optimised=optimised)

    return OnnxrtRunner(open_marked, name=f"{provider}{' optimised' * optimised}")


@contextmanager
def quiet() -> Iterator[None]:
    """Polygraphy logs nothing inside: what is wrong, it raises. Means of 16-bit tensors, for its log, may overflow."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), np.errstate(all="ignore"):
        yield
