"""The config.pbtxt of each model, complete, so that Triton also accepts it with --disable-auto-complete-config.

Triton reads protobuf's text format. A message is a mapping here, and a repeated field a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pahi_rt.manifest import STRENGTH

Message = dict[str, Any]


class Word(str):
    """An enum's value, written without quotes."""


@dataclass(frozen=True)
class Port:
    """An input or output of a model, without the batch."""

    name: str
    type: str
    dims: tuple[int, ...] = (1,)
    is_scalar: bool = False
    """Whether the model itself takes [B] where clients give [B, 1]."""
    is_optional: bool = False

    def to_message(self) -> Message:
        message: Message = {"name": self.name, "data_type": Word(f"TYPE_{self.type}"), "dims": list(self.dims)}
        if self.is_scalar:
            message["reshape"] = {"shape": []}
        if self.is_optional:
            message["optional"] = True
        return message


@dataclass(frozen=True)
class Ports:
    """All inputs and outputs of the models of one bundle."""

    tokens: int
    """T."""
    latent_shape: tuple[int, int, int]
    """C, h, w."""
    picture: tuple[int, int]
    """H, W in pixels."""
    has_prior: bool

    prompt = Port("prompt", "STRING")
    seed = Port("seed", "UINT64")
    strength = Port(STRENGTH, "FP32", is_scalar=True)
    png = Port("png", "STRING")

    @property
    def ids(self) -> Port:
        return Port("input_ids", "INT64", (self.tokens,))

    @property
    def noise(self) -> Port:
        return Port("noise", "FP32", self.latent_shape)

    @property
    def image(self) -> Port:
        return Port("image", "UINT8", (*self.picture, 3))

    @property
    def graph(self) -> list[Port]:
        """Inputs of the graph."""
        return [self.ids, self.noise, *([self.strength] if self.has_prior else [])]


@dataclass(frozen=True)
class Batching:
    most: int = 8
    """Pictures at once."""
    delay_us: int = 0
    """How long a request waits for others."""
    instances: int = 1
    """Copies of the graph."""
    is_on_gpu: bool = False
    """Whether ONNX Runtime's backend draws on a GPU."""

    def on(self, device: str) -> list[Message]:
        """The instances on "CPU", or on each "GPU"."""
        return [{"count": self.instances, "kind": Word(f"KIND_{device}")}]


def step_config(name: str, inputs: Sequence[Port], outputs: Sequence[Port], most: int, **parameters: object) -> Message:
    """A quick model of Triton's Python backend."""
    return (
        _head(name, inputs, outputs, most)
        | {"backend": "python", "instance_group": [{"count": 1, "kind": Word("KIND_CPU")}], "dynamic_batching": {}}
        | parameters_of(parameters)
    )


def pipeline_config(ports: Ports, batching: Batching, backend: Message) -> Message:
    """The fused graph, run as `backend` says. It draws one picture before it takes requests."""
    sample = [
        {
            "key": port.name,
            "value": {"data_type": Word(f"TYPE_{port.type}"), "dims": list(port.dims), "zero_data": True},
        }
        for port in ports.graph
    ]
    return (
        _head("pipeline", ports.graph, [ports.image], batching.most)
        | backend
        | {
            "dynamic_batching": {"max_queue_delay_microseconds": batching.delay_us},
            "model_warmup": [{"name": "a picture", "batch_size": 1, "inputs": sample}],
        }
    )


def ensemble_config(name: str, ports: Ports, steps: Sequence[tuple[str, list[Port], Port]], most: int) -> Message:
    """Models in a row: name, inputs and output of each. A tensor has the same name in all of them."""
    inputs = [ports.prompt, ports.seed, *([replace(ports.strength, is_scalar=False)] if ports.has_prior else [])]
    return _head(name, inputs, [steps[-1][2]], most) | {
        "platform": "ensemble",
        "ensemble_scheduling": {
            "step": [
                {"model_name": model, "model_version": -1}
                | {"input_map": [_same(port) for port in taken], "output_map": [_same(given)]}
                for model, taken, given in steps
            ]
        },
    }


def _same(port: Port) -> Message:
    return {"key": port.name, "value": port.name}


def _head(name: str, inputs: Sequence[Port], outputs: Sequence[Port], most: int) -> Message:
    return {
        "name": name,
        "max_batch_size": most,
        "input": [port.to_message() for port in inputs],
        "output": [port.to_message() for port in outputs],
        "version_policy": {"latest": {"num_versions": 1}},
    }


def parameters_of(values: Mapping[str, object]) -> Message:
    return {"parameters": [{"key": key, "value": {"string_value": str(value)}} for key, value in values.items()]}


def format_message(message: Mapping[str, Any], indent: str = "") -> str:
    """A message in protobuf's text format, one field a line."""
    return "".join(_format_field(name, value, indent) for name, value in message.items())


def _format_field(name: str, value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        return f"{indent}{name} {{\n{format_message(value, indent + '  ')}{indent}}}\n"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "".join(_format_field(name, item, indent) for item in value)
    if isinstance(value, list):
        return f"{indent}{name}: [{', '.join(map(_format_scalar, value))}]\n"
    return f"{indent}{name}: {_format_scalar(value)}\n"


def _format_scalar(value: object) -> str:
    if isinstance(value, Word | bool):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
