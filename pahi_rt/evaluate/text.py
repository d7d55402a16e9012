"""Formats a report as text: Table 1 for each group of prompts and each scorer, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from pahi_rt.comparison import MARGIN, Comparison
from pahi_rt.evaluate.report import Group, Ratio, Report, Row

WIDTH = 100
FEW = 30
"""Number of meanings below which a bootstrap interval is too narrow."""
_NAME = 24
_NONE = "-"
_HEAD = (
    ("", "win %", "95 %", "same", "same, by", "effect", "mean", "diver-", "sharp-", "KL"),
    ("", "(std)", "interval", "noise %", "margin %", "(sd)", "score", "sity", "ness", "nats"),
)

Cells = Sequence[str]


def format_report(report: Report) -> str:
    """The tables, followed by the meaning of their columns."""
    blocks = [block for group in report.groups for block in _format_group(report, group)]
    return "\n\n".join([*blocks, wrap(_explain(report))])


def _format_group(report: Report, group: Group) -> Iterator[str]:
    steps = f"{report.steps} step{'s' * (report.steps > 1)}"
    meanings = f" (of {group.meanings} meanings)" if group.meanings < group.prompts else ""
    yield f"{report.target}: {group.name}, {group.prompts}{meanings} x {report.seeds} seeds, {steps}"
    for label, note in report.scorers.items():
        spread = group.rows[0].scores[label].seed_std
        trained = "trained the prior" if note.trained else "trained no prior here"
        title = f"{label}: {trained}; unit: {note.unit}; sd between seeds of one prompt: {_score(spread)}"
        # The Gaussian has no comparisons: against itself everything is a tie.
        plain = group.rows[0]
        plain_cells = (plain.name, *[_NONE] * 5, *_cells_of_pictures(plain, plain.scores[label]))
        rows = [plain_cells, *(_cells(row, label) for row in group.rows[1:])]
        yield "\n".join([wrap(title), *align([*_HEAD, *rows])])


def _cells(row: Row, label: str) -> Cells:
    score = row.scores[label]
    ends = score.independent_win_rate_interval_percent
    return (
        row.name[:_NAME],
        f"{_percent(score.independent_win_rate_percent)} ({score.independent_win_rate_std_percent:.1f})",
        _NONE if ends is None else "-".join(map(_percent, ends)),
        _percent(score.same_noise_win_rate_percent),
        _percent(score.margin_win_rate_percent),
        _NONE if score.effect_size is None else f"{score.effect_size:.2f}",
        *_cells_of_pictures(row, score),
    )


def _cells_of_pictures(row: Row, score: Comparison) -> Cells:
    kl = _NONE if row.kl_nats is None else f"{row.kl_nats:.3g}" if row.kl_nats < 1000 else f"{row.kl_nats:.0f}"
    return _score(score.mean_score), _ratio(row.diversity_ratio), _ratio(row.sharpness_ratio), kl


def _percent(value: float) -> str:
    """One decimal. Only exactly 100 is printed as 100: 99.97 becomes 99.9."""
    return "100" if value == 100 else f"{min(value, 99.9):.1f}"


def _score(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _ratio(value: Ratio | None) -> str:
    return _NONE if value is None else f"{value.value:.2f}"


def align(rows: Sequence[Cells]) -> list[str]:
    """Align names to the left and numbers to the right, two blanks apart if the width allows, else one."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "
    padded = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return [gap.join(cells).rstrip() for cells in padded]


def _explain(report: Report) -> Iterator[str]:
    yield (
        "win: how often a picture scores higher than one that the Gaussian drew for the same prompt from other noise; a"
        " tie counts half; mean (std) over seeds of one training. 95 % interval: by bootstrap over the meanings of"
        " prompts (concepts), not over prompts. same noise: against the Gaussian's picture of the same noise, where"
        " even a tiny gain that is the same everywhere always wins; by margin: the same, with a difference up to"
        f" {MARGIN:g} sd as a tie. effect: mean gain in sd of the Gaussian's score between seeds of one prompt. Compare"
        " it only between rows of one table: other generators, scorers or groups of prompts have another sd."
    )
    most = max(group.diversity_prompts for group in report.groups)
    yield (
        "diversity, sharpness: relative to the Gaussian's. diversity: mean distance of"
        f" {report.diversity_seeds} pictures of one prompt, for at most {most} prompts, in"
        f" {report.diversity_encoder}; over several groups, each weighs by its number of prompts. sharpness: steepness"
        " of edges relative to their contrast (total Laplacian divided by total difference of neighbouring pixels). KL:"
        " to the standard Gaussian."
    )
    for count in sorted({row.pictures_drawn for row in report.groups[0].rows} - {1}):
        yield (
            f"best of {count}: the one of {count} pictures, from noise that no other row has, that {report.judge}"
            f" scores best. It is a reference: it costs {count} times as much, and by construction wins"
            f" {100 * count / (count + 1):.0f} % under {report.judge}."
        )
    if report.pictures == "uint8":
        yield "Pictures were rounded to bytes before scoring, in all rows."
    if all(note.trained for note in report.scorers.values()):
        yield "Caution: a prior was trained against every scorer here, so none is independent."
    if min(group.meanings for group in report.groups) < FEW:
        yield f"Caution: with fewer than {FEW} prompts of different meaning the intervals are too narrow."


def wrap(paragraphs: str | Iterator[str]) -> str:
    given = [paragraphs] if isinstance(paragraphs, str) else paragraphs
    return "\n".join(textwrap.fill(text, WIDTH, break_long_words=False) for text in given)
