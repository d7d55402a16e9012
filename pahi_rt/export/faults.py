"""Finds the first place where a graph that draws NaN or infinity goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pahi_rt.export.marked import portions, run_marked

Kinds = frozenset[str]
"""What a tensor holds besides numbers: "NaN", "infinity"."""


def find_fault(path: Path, feeds: dict[str, NDArray[Any]]) -> str | None:
    """Name the weight that holds NaN, or the first node that makes NaN or infinity from inputs that have none.

    None if there is neither. `path` is a graph with its weights beside it; its nodes are examined in the order in which
    it computes them.
    """
    model = onnx.load(path)
    seen: dict[str, Kinds] = {}
    for tensor in model.graph.initializer:
        seen[tensor.name] = _kinds(onnx.numpy_helper.to_array(tensor))
        # Masks hold infinity on purpose.
        if "NaN" in seen[tensor.name]:
            return f"the weight {tensor.name} holds NaN"
    del model
    return next(_faults(path, feeds, seen), None)


def _faults(path: Path, feeds: dict[str, NDArray[Any]], seen: dict[str, Kinds]) -> Iterator[str]:
    graph = onnx.load(path, load_external_data=False).graph
    nodes = {name: node for node in graph.node if node.op_type != "Constant" for name in node.output if name}
    for names in portions(path, list(nodes), feeds):
        seen |= {name: _kinds(value) for name, value in run_marked(path, names, feeds).items()}
        for name in names:
            node = nodes[name]
            read = frozenset[str]().union(*(seen.get(source, frozenset()) for source in node.input))
            if made := seen[name] - read:
                yield f"{' and '.join(sorted(made))} first in the node {node.name} ({node.op_type})"


def _kinds(array: NDArray[Any]) -> Kinds:
    if not np.issubdtype(array.dtype, np.floating):
        return frozenset()
    found = {"NaN": np.isnan(array).any(), "infinity": np.isinf(array).any()}
    return frozenset(kind for kind, there in found.items() if there)
