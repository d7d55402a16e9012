"""The gate that every graph passes before it is shipped: does it draw what PyTorch draws, and that what diffusers does?

Four prompts, two fixed noises each, on the CPU, and with a prior its strengths in turns, so that a batch mixes them.
Errors are those of the picture in [0, 1] just before it is rounded to levels; rounding would hide half a level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from pahi_rt.errors import ParityError
from pahi_rt.export.faults import find_fault
from pahi_rt.manifest import STRENGTH, Parity
from pahi_rt.models.gaussians import kl_divergence, sample_noise
from pahi_rt.models.generators import Conditioning, Generator
from pahi_rt.models.priors import Prior
from pahi_rt.noise import draw_noise
from pahi_rt.runtimes.onnxruntime import require_onnxruntime, session_options
from pahi_rt.tokenizer import Tokenizer

PROMPTS = ("a grinning cat", "a red apple", "two birds on a snowy branch", "an old robot, smiling in the rain")
STRENGTHS = (1.0, 0.5, 0.0)
GATE_PROMPTS = (*PROMPTS, *PROMPTS)
TOGETHER = 3
"""Pictures that are also drawn in one batch: each strength once. At 512 x 512, one takes 0.7 GB more than the last."""
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    max_error: float = 1.0
    """Of any value of a picture in [0, 1]."""
    psnr_db: float = 0.0
    levels_within_one: float = 0.0
    """Share of all uint8 values that must be within one level."""

    def __str__(self) -> str:
        parts = (
            f"max error <= {self.max_error:g} of [0, 1]" if self.max_error < 1 else "",
            f"PSNR >= {self.psnr_db:g} dB" if self.psnr_db > 0 else "",
            f"{self.levels_within_one:.1%} within one level" if self.levels_within_one > 0 else "",
        )
        return ", ".join(part for part in parts if part)


SAME_ARITHMETIC = Tolerance(max_error=2e-3, levels_within_one=0.999)
SIXTEEN_BITS = Tolerance(psnr_db=40.0)
EIGHT_BITS = Tolerance(psnr_db=30.0)
ANY_BATCH = Tolerance(levels_within_one=1.0)

PERFECT_DB = 200.0
"""The PSNR of equal pictures: JSON has no infinity."""


@dataclass(frozen=True)
class Pictures:
    """What a graph draws, from the float values before rounding to the levels that it returns."""

    values: NDArray[np.floating]
    """[B, H, W, 3] in [0, 1]."""
    levels: NDArray[np.uint8]

    @property
    def are_numbers(self) -> bool:
        return bool(np.isfinite(self.values).all())


@dataclass(frozen=True)
class Reference:
    """What a graph's pictures are compared with."""

    against: str
    pictures: Pictures
    tolerance: Tolerance
    fix: str = "export with --precision fp32 or with another opset, and report the model if that fails too"
    """Of a graph that is too far from it; where a PSNR is asked for, another one."""


def fixed_inputs(
    tokenizer: Tokenizer,
    latent_shape: tuple[int, int, int],
    prompts: Sequence[str] = GATE_PROMPTS,
    first_seed: int = 0,
) -> Inputs:
    """The inputs of the gate for a graph without a prior, 8 rows; or those of other prompts and noises."""
    noise = draw_noise(range(first_seed, first_seed + len(prompts)), latent_shape)
    return {"input_ids": tokenizer.encode(list(prompts)).input_ids, "noise": noise}


def with_strengths(inputs: Inputs) -> Inputs:
    """The same for a graph with a prior: strengths 1, 0.5, 0, 1, ..."""
    return {**inputs, STRENGTH: np.resize(np.array(STRENGTHS, np.float32), len(inputs["noise"]))}


def split_rows(inputs: Inputs) -> list[Inputs]:
    """The same as batches of one."""
    return [_row(inputs, index) for index in range(len(inputs["noise"]))]


@torch.no_grad()
def draw_reference(generator: Generator, inputs: Inputs, steps: int, prior: Prior | None = None) -> Pictures:
    """What PyTorch draws from `inputs`, one picture at a time, in fp32. With a `prior` they hold strengths."""
    starts = (start_row(generator, row, prior) for row in split_rows(inputs))
    return to_pictures(torch.cat([generator.draw(*start, steps) for start in starts]))


@torch.no_grad()
def start_row(generator: Generator, row: Inputs, prior: Prior | None) -> tuple[Conditioning, Tensor]:
    """What one row of inputs is to the UNet, and its x_T."""
    tensors = {name: torch.from_numpy(array) for name, array in row.items()}
    conditioning, noise = generator.encode_prompt(tensors["input_ids"]), tensors["noise"]
    if prior is not None:
        noise = sample_noise(prior(conditioning.pooled), noise, tensors[STRENGTH])
    return conditioning, noise


def to_pictures(drawn: Tensor) -> Pictures:
    """Pictures [B, 3, H, W] in [0, 1] as a graph returns them."""
    pictures = drawn.permute(0, 2, 3, 1)
    return Pictures(pictures.numpy(), (pictures * 255).round().to(torch.uint8).numpy())


@torch.no_grad()
def mean_kl(generator: Generator, inputs: Inputs, prior: Prior) -> float:
    """KL divergence of `prior` from the standard Gaussian in nats, mean over the prompts of `inputs`."""
    pooled = generator.encode_prompt(torch.from_numpy(inputs["input_ids"])).pooled
    return float(kl_divergence(prior(pooled)).mean())


def draw_graph(path: Path, inputs: Inputs) -> Pictures:
    """What the graph draws from `inputs`, one picture at a time."""
    model = onnx.load(path, load_external_data=False)
    # The only Round of the graph turns values of 0..255 into levels.
    (rounded,) = (node.input[0] for node in model.graph.node if node.op_type == "Round")
    model.graph.output.append(onnx.helper.make_tensor_value_info(rounded, onnx.TensorProto.FLOAT, None))
    session = open_session(model, path.parent)
    rows = [session.run(None, row) for row in split_rows(inputs)]
    levels, values = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Pictures(values / 255, levels)


def draw_batch(path: Path, inputs: Inputs) -> NDArray[np.uint8]:
    """The levels that the graph draws from all `inputs` at once."""
    levels: NDArray[np.uint8] = _session(str(path), session_options()).run(None, inputs)[0]
    return levels


def check_graph(path: Path, inputs: Inputs, references: Sequence[Reference]) -> list[Parity]:
    """Compare a graph with PyTorch and with itself in a batch; one row for each comparison. Raises ParityError."""
    drawn = draw_graph(path, inputs)
    batch = draw_batch(path, {name: array[:TOGETHER] for name, array in inputs.items()})
    check_sane(path.name, drawn, partial(find_fault, path, _worst_row(inputs, drawn)))
    for reference in references:
        check_sane(reference.against, reference.pictures)
    rows = [compare(path.name, drawn, reference) for reference in references]
    together = Pictures(batch.astype(np.float32) / 255, batch)
    levels = drawn.levels[:TOGETHER]
    alone = Pictures(levels.astype(np.float32) / 255, levels)
    itself = Reference(f"itself, batch {len(batch)} and batch 1", alone, ANY_BATCH)
    return [*rows, compare(path.name, together, itself)]


def check_sane(name: str, pictures: Pictures, find: Callable[[], str | None] = lambda: None) -> None:
    """Raises ParityError for NaN, infinity, or a picture that is all black, with what `find` says of the cause."""
    bad = None
    if not pictures.are_numbers:
        bad = "NaN or infinity"
    elif not pictures.levels.any(axis=(1, 2, 3)).all():
        bad = "a black picture"
    if bad:
        cause = find()
        what = f"{name} draws {bad}" + (f": {cause}" if cause else "")
        raise ParityError(what, fix="check the model's weights: draw the same prompts with diffusers")


def compare(graph: str, drawn: Pictures, reference: Reference) -> Parity:
    """One row of the manifest. Raises ParityError if the difference is beyond the reference's tolerance."""
    expected, tolerance = reference.pictures, reference.tolerance
    error = np.abs(drawn.values.astype(np.float64) - expected.values)
    levels = np.abs(drawn.levels.astype(np.int16) - expected.levels)
    row = Parity(
        graph=graph,
        against=reference.against,
        max_error=float(error.max()),
        psnr_db=_psnr(error),
        levels_within_one=float((levels <= 1).mean()),
        tolerance=str(tolerance),
    )
    is_near = (
        row.max_error <= tolerance.max_error
        and row.psnr_db >= tolerance.psnr_db
        and row.levels_within_one >= tolerance.levels_within_one
    )
    if not is_near:  # nor is anything that is not a number
        fix = reference.fix
        if tolerance.psnr_db:
            fix = "export with --precision fp32, or with --min-psnr DB if less is good enough"
        raise ParityError(
            f"{graph} is not {reference.against}: max error {row.max_error:.2g}, PSNR {row.psnr_db:.1f} dB,"
            f" {row.levels_within_one:.2%} within one level; required: {tolerance}",
            fix=fix,
        )
    return row


def _psnr(error: NDArray[np.float64]) -> float:
    mean = float((error**2).mean())
    return min(PERFECT_DB, -10 * float(np.log10(mean))) if mean else PERFECT_DB


def open_session(model: onnx.ModelProto, folder: Path) -> Any:
    """A session of a model in memory, whose weights lie in `folder`."""
    options = session_options()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return _session(model.SerializeToString(), options)


def _session(model: str | bytes, options: Any) -> Any:
    return require_onnxruntime().InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _worst_row(inputs: Inputs, drawn: Pictures) -> Inputs:
    """The inputs of the first picture that is not all numbers, or of the first one."""
    return _row(inputs, int(np.argmin(np.isfinite(drawn.values).all(axis=(1, 2, 3)))))


def _row(inputs: Inputs, index: int) -> Inputs:
    return {name: array[index : index + 1] for name, array in inputs.items()}
