"""A bundle's graph in parts: what it would be without its prior, without its text encoder, and its components alone.

Nodes are named by the module that they come from. The graph goes through its components one after the other, and a
node that has no such name, such as a step of the sampler, belongs to what reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pahi_rt.manifest import STRENGTH

TEXT_ENCODER, PRIOR, UNET, DECODER = COMPONENTS = ("text encoder", "prior", "unet", "decoder")
_SCOPES = {"text_encoder": 0, "text_encoder_2": 0, "prior": 1, "unets": 2, "decoder": 3}


def without_prior(model: ir.Model) -> ir.Model:
    """The same graph with the noise itself for x_T."""
    stages = find_stages(model)
    (latents,) = _results(stages, COMPONENTS.index(PRIOR))
    noise = next(value for value in model.graph.inputs if value.name == "noise")
    ir.convenience.replace_all_uses_with(latents, noise)
    inputs = [value for value in model.graph.inputs if value.name != STRENGTH]
    return _extract(model, inputs, list(model.graph.outputs))


def after_prompt(model: ir.Model) -> ir.Model:
    """All but the text encoder, whose results are inputs: what is left to do for a prompt that was drawn before."""
    stages = find_stages(model)
    inputs = [value for value in model.graph.inputs if value.name != "input_ids"]
    return _extract(model, [*_results(stages, COMPONENTS.index(TEXT_ENCODER)), *inputs], list(model.graph.outputs))


def split(model: ir.Model) -> dict[str, ir.Model]:
    """Each component that the graph has as a graph of its own: its inputs are what those before it hand on."""
    stages = find_stages(model)
    parts = {}
    for number in sorted(set(stages.values())):
        own = [node for node, stage in stages.items() if stage == number]
        read = _unique(value for node in own for value in node.inputs if value is not None)
        given = [value for value in read if _comes_before(value, stages, number)]
        parts[COMPONENTS[number]] = _extract(model, given, _results(stages, number))
    return parts


def find_stages(model: ir.Model) -> dict[ir.Node, int]:
    """The component of each node, as a place in COMPONENTS, but for those that compute constants."""
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
    """text_encoder of text_encoder.encoder.layers.0.mlp.fc1/MatMul."""
    return str(node.name).split("/")[0].split(".")[0]


def _comes_before(value: ir.Value, stages: dict[ir.Node, int], number: int) -> bool:
    """Whether it is an input of the graph or an earlier component's result, and no constant."""
    producer = value.producer()
    return value.is_graph_input() or (producer is not None and stages.get(producer, number) < number)


def _results(stages: dict[ir.Node, int], number: int) -> list[ir.Value]:
    """What a component hands on to those after it, or out of the graph."""
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
