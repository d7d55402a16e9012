"""Takes a bundle's graph apart: without its prior, without its text encoder, or each component alone.

Nodes are named after the module they come from. The graph runs its components one after the other. A node without such
a name, as in a step of the sampler, belongs to the component that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pahi_rt.bench.reports.table2 import COMPONENTS, PRIOR, TEXT_ENCODER
from pahi_rt.manifest import STRENGTH

_SCOPES = {"text_encoder": 0, "text_encoder_2": 0, "prior": 1, "unets": 2, "decoder": 3}


def without_prior(model: ir.Model) -> ir.Model:
    """The same graph with the noise itself as x_T."""
    stages = find_stages(model)
    (latents,) = _results(stages, COMPONENTS.index(PRIOR))
    noise = next(value for value in model.graph.inputs if value.name == "noise")
    ir.convenience.replace_all_uses_with(latents, noise)
    inputs = [value for value in model.graph.inputs if value.name != STRENGTH]
    return _extract(model, inputs, list(model.graph.outputs))


def after_prompt(model: ir.Model) -> ir.Model:
    """The graph without the text encoder, whose results become inputs: the work for a prompt that was drawn before."""
    stages = find_stages(model)
    inputs = [value for value in model.graph.inputs if value.name != "input_ids"]
    return _extract(model, [*_results(stages, COMPONENTS.index(TEXT_ENCODER)), *inputs], list(model.graph.outputs))


def split(model: ir.Model) -> dict[str, ir.Model]:
    """Each component as a graph of its own, whose inputs are the results of the components before it."""
    stages = find_stages(model)
    parts = {}
    for number in sorted(set(stages.values())):
        own = [node for node, stage in stages.items() if stage == number]
        read = _unique(value for node in own for value in node.inputs if value is not None)
        given = [value for value in read if _comes_before(value, stages, number)]
        parts[COMPONENTS[number]] = _extract(model, given, _results(stages, number))
    return parts


def find_stages(model: ir.Model) -> dict[ir.Node, int]:
    """The component of each node, as an index into COMPONENTS; nodes that compute constants are left out."""
    depends = set()
    for node in model.graph:
        read = [value for value in node.inputs if value is not None]
        if any(value.is_graph_input() or value.producer() in depends for value in read):
            depends.add(node)
    stages: dict[ir.Node, int] = {}
    for node in reversed(model.graph):
        if node in depends:
            readers = [stages[reader] for value in node.outputs for reader, _ in value.uses()]
            stages[node] = _SCOPES.get(_scope(node), min(readers, default=len(COMPONENTS) - 1))
    return stages


def _scope(node: ir.Node) -> str:
    """The module of a node: text_encoder for text_encoder.encoder.layers.0.mlp.fc1/MatMul."""
    return str(node.name).split("/")[0].split(".")[0]


def _comes_before(value: ir.Value, stages: dict[ir.Node, int], number: int) -> bool:
    """Whether a value is an input of the graph or an earlier component's result, rather than a constant."""
    producer = value.producer()
    return value.is_graph_input() or (producer is not None and stages.get(producer, number) < number)


def _results(stages: dict[ir.Node, int], number: int) -> list[ir.Value]:
    """The results of a component that later components read, or that the graph returns."""
    return _unique(
        value
        for node, stage in stages.items()
        if stage == number
        for value in node.outputs
        if value.is_graph_output() or any(stages[reader] > number for reader, _ in value.uses())
    )


def _unique(values: Iterator[ir.Value]) -> list[ir.Value]:
    return sorted(set(values), key=lambda value: str(value.name))


def _extract(model: ir.Model, inputs: list[ir.Value], outputs: list[ir.Value]) -> ir.Model:
    return ir.Model(ir.convenience.extract(model.graph, inputs, outputs), ir_version=model.ir_version)
