"""The gate that every graph passes before it is shipped: does it draw what PyTorch draws?

Four prompts, two fixed noises each; with a prior its strengths in turns, so that a batch mixes them. Whether PyTorch
draws what diffusers draws is asked in `reference`, by the same comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pahi_rt.errors import ParityError
from pahi_rt.export.drawing import Pictures, draw_batch, draw_graph
from pahi_rt.export.faults import find_fault
from pahi_rt.export.inputs import Inputs, pick_row
from pahi_rt.export.journal import Journal
from pahi_rt.export.stages import Stages
from pahi_rt.manifest import Parity
from pahi_rt.pictures import psnr, within_one_level

TOGETHER = 3
"""Pictures that are also drawn in one batch: each strength once. At 512 x 512, one takes 0.7 GB more than the last."""


@dataclass(frozen=True)
class Tolerance:
    """How far pictures may be from those that they are compared with."""

    max_error: float = 1.0
    """Largest error of any value of a picture in [0, 1]."""
    psnr_db: float = 0.0
    """Least PSNR."""
    levels_within_one: float = 0.0
    """Least share of all uint8 values that are within one level."""

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
class Reference:
    """What a graph's pictures are compared with."""

    against: str
    """Its name in the manifest."""
    pictures: Pictures
    tolerance: Tolerance
    fix: str = "export with --precision fp32 or with another opset, and report the model if that fails too"
    """Remedy for a graph that is too far away. Where a PSNR is required, `compare` names another one."""


def list_references(
    drawn: Pictures,
    rounded: Pictures | None,
    tolerance: Tolerance,
    obstacle: str | None = None,
    *,
    is_halved: bool = False,
) -> list[Reference]:
    """What a graph has to draw: what PyTorch has `drawn` and, if its matrices are `rounded`, what it draws with those.

    Of a graph that `is_halved`, values are rounded instead, and both references are equally far. `obstacle` is why what
    PyTorch has drawn was not compared with diffusers.
    """
    note = f"; diffusers cannot draw it: {obstacle}" if obstacle else ""
    if rounded is None:
        return [Reference(f"PyTorch fp32{note}", drawn, tolerance)]
    if is_halved:
        return [
            Reference("PyTorch, values rounded to float16", rounded, tolerance),
            Reference(f"PyTorch fp32{note}", drawn, tolerance),
        ]
    return [
        Reference("PyTorch fp32, matrices rounded", rounded, SAME_ARITHMETIC),
        Reference(f"PyTorch fp32, weights as trained{note}", drawn, tolerance),
    ]


def check_graphs(
    folder: Path, inputs: Inputs, references: Mapping[str, Sequence[Reference]], stages: Stages, journal: Journal
) -> tuple[Parity, ...]:
    """Compare each graph in `folder` with its references, unless the journal has it done. Raises ParityError."""
    rows: list[Parity] = []
    for file, expected in references.items():
        if file not in journal.compared:
            with stages.run(f"compare {file} with PyTorch"):
                journal.add_comparison(file, check_graph(folder / file, inputs, expected))
        rows += journal.compared[file]
    return tuple(rows)


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


def check_sane(name: str, pictures: Pictures, find_cause: Callable[[], str | None] = lambda: None) -> None:
    """Raises ParityError for NaN, infinity, or a picture that is all black, with the cause that `find_cause` names."""
    bad = None
    if not pictures.are_numbers:
        bad = "NaN or infinity"
    elif not pictures.levels.any(axis=(1, 2, 3)).all():
        bad = "a black picture"
    if bad:
        cause = find_cause()
        what = f"{name} draws {bad}" + (f": {cause}" if cause else "")
        raise ParityError(what, fix="check the model's weights: draw the same prompts with diffusers")


def compare(graph: str, drawn: Pictures, reference: Reference) -> Parity:
    """One row of the manifest. Raises ParityError if the difference is beyond the reference's tolerance."""
    expected, tolerance = reference.pictures, reference.tolerance
    error = np.abs(drawn.values.astype(np.float64) - expected.values)
    row = Parity(
        graph=graph,
        against=reference.against,
        max_error=float(error.max()),
        psnr_db=min(PERFECT_DB, psnr(float((error**2).mean()))),
        levels_within_one=float(within_one_level(drawn.levels, expected.levels).mean()),
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


def _worst_row(inputs: Inputs, drawn: Pictures) -> Inputs:
    """The inputs of the first picture that is not all numbers, or of the first one."""
    return pick_row(inputs, int(np.argmin(np.isfinite(drawn.values).all(axis=(1, 2, 3)))))
