"""Pictures of the same inputs, drawn by PyTorch and drawn by an exported graph in ONNX Runtime, on the CPU.

They are kept as they are just before they are rounded to levels, too: rounding would hide an error of half a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from pahi_rt.bundle import OpenGraph
from pahi_rt.export.inputs import Inputs, split_rows
from pahi_rt.manifest import STRENGTH
from pahi_rt.models.conditioning import Conditioning
from pahi_rt.models.gaussians import kl_divergence, sample_noise
from pahi_rt.models.generators import Generator
from pahi_rt.models.priors import Prior
from pahi_rt.pictures import to_bytes
from pahi_rt.runtimes import onnxruntime
from pahi_rt.runtimes.providers import CPU, Provider


@dataclass(frozen=True)
class Pictures:
    """A batch of pictures, before and after rounding."""

    values: NDArray[np.floating]
    """[B, H, W, 3] in [0, 1]."""
    levels: NDArray[np.uint8]
    """What the graph returns."""

    @property
    def are_numbers(self) -> bool:
        return bool(np.isfinite(self.values).all())


Drawn = dict[tuple[int, str], Pictures]
"""Number of steps and kind of prior -> pictures."""


@torch.no_grad()
def draw_reference(generator: Generator, inputs: Inputs, steps: int, prior: Prior | None = None) -> Pictures:
    """What PyTorch draws from `inputs`, one picture at a time, in fp32. With a `prior`, `inputs` hold strengths."""
    starts = (start_row(generator, row, prior) for row in split_rows(inputs))
    return to_pictures(torch.cat([generator.draw(*start, steps) for start in starts]))


@torch.no_grad()
def start_row(generator: Generator, row: Inputs, prior: Prior | None) -> tuple[Conditioning, Tensor]:
    """What the UNet reads of one row: the conditioning and x_T."""
    tensors = {name: torch.from_numpy(array) for name, array in row.items()}
    conditioning, noise = generator.encode_prompt(tensors["input_ids"]), tensors["noise"]
    if prior is not None:
        noise = sample_noise(prior(conditioning.pooled), noise, tensors[STRENGTH])
    return conditioning, noise


def to_pictures(drawn: Tensor) -> Pictures:
    """PyTorch's pictures [B, 3, H, W] in [0, 1], in the layout of a graph's."""
    values = drawn.permute(0, 2, 3, 1).numpy()
    return Pictures(values, to_bytes(values))


@torch.no_grad()
def mean_kl(generator: Generator, inputs: Inputs, prior: Prior) -> float:
    """KL divergence of `prior` from the standard Gaussian in nats, mean over the prompts of `inputs`."""
    pooled = generator.encode_prompt(torch.from_numpy(inputs["input_ids"])).pooled
    return float(kl_divergence(prior(pooled)).mean())


def draw_graph(path: Path, inputs: Inputs) -> Pictures:
    """What the graph draws from `inputs`, one picture at a time."""
    model = onnx.load(path, load_external_data=False)
    # The graph's only Round turns values of 0..255 into levels.
    (rounded,) = (node.input[0] for node in model.graph.node if node.op_type == "Round")
    model.graph.output.append(onnx.helper.make_tensor_value_info(rounded, onnx.TensorProto.FLOAT, None))
    session = open_session(model, path.parent)
    rows = [session.run(None, row) for row in split_rows(inputs)]
    levels, values = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Pictures(values / 255, levels)


def draw_batch(path: Path, inputs: Inputs) -> NDArray[np.uint8]:
    """The levels that the graph draws from all `inputs` at once."""
    levels: NDArray[np.uint8] = open_file_session(path).run(None, inputs)[0]
    return levels


def open_file_session(path: Path) -> Any:
    """A session of a graph in a file, with its weights beside it. Raises BundleError."""
    return onnxruntime.open_session(OpenGraph(path, path.read_bytes()), onnxruntime.session_options(), CPU)


def open_session(model: onnx.ModelProto, folder: Path, *, provider: Provider = CPU, optimised: bool = True) -> Any:
    """A session of a model in memory, whose weights lie in `folder`, as the runtime of this provider opens its own.

    Raises RuntimeUnavailable or BundleError. TensorRT's providers take files only.
    """
    options = onnxruntime.session_options(provider=provider)
    if not optimised:
        options.graph_optimization_level = onnxruntime.require_onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = OpenGraph(folder / "(graph in memory)", model.SerializeToString())
    return onnxruntime.open_session(graph, options, provider)
