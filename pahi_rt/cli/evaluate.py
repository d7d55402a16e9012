"""Verb `evaluate`: measure how much a prior improves pictures, as in the paper's Table 1 and beyond."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, TypeVar

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.options import Debug, Json, NameArgument, NameOption

T = TypeVar("T")
SEEDS = 5
"""Pictures of each prompt in Table 1."""


def evaluate(
    targets: Annotated[
        list[str],
        NameArgument(
            metavar="RUN...|BUNDLE|RECIPE",
            help="Runs of `pahi-rt train`, or one bundle; with --ceiling a recipe, or one run.",
        ),
    ],
    ceiling: Annotated[
        bool,
        typer.Option("--ceiling", help="Measure what a prior could gain with a recipe's generator and scorers."),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(min=2, help="Pictures to score for each prompt (default: 5, with --ceiling 192)."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The most prompts of each group (default: all, with --ceiling 16).")
    ] = None,
    recipe: Annotated[
        str | None,
        NameOption(metavar="RECIPE", help="Recipe of the bundle's prior (default: the recipe named like the bundle)."),
    ] = None,
    encoder: Annotated[
        str | None,
        NameOption(metavar="MODEL", help="CLIP for diversity, a folder or hub id (default: random features)."),
    ] = None,
    scorers: Annotated[
        list[str] | None,
        NameOption("--scorer", metavar="SPEC", help="A scorer to report besides the recipe's. May be repeated."),
    ] = None,
    judge: Annotated[
        str | None,
        NameOption(metavar="SPEC", help="Scorer that chooses the best of 4 (default: the recipe's first)."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare learned priors with the standard Gaussian, and with untrained baselines, on held-out prompts."""
    if ceiling:
        refused = {"--recipe": recipe, "--encoder": encoder, "--judge": judge}
        for option in (option for option, value in refused.items() if value is not None):
            raise typer.BadParameter(f"{option} has no effect with --ceiling: leave it out")
        if len(targets) > 1:
            raise typer.BadParameter("--ceiling takes one recipe or run")
        show_ceiling(targets[0], seeds, limit, scorers or (), as_json)
        return
    compare(targets, seeds, limit, recipe, encoder, scorers or (), judge, as_json)


def show_ceiling(target: str, pictures: int | None, limit: int | None, scorers: Sequence[str], as_json: bool) -> None:
    """Print what a prior could gain, before one is trained."""
    from pahi_rt.cli.progress import TrainingProgress

    with needs("train"):
        from pahi_rt.evaluate.ceiling import measure_ceiling
        from pahi_rt.evaluate.ceiling_text import format_ceiling
    with TrainingProgress() as watch:
        report = measure_ceiling(target, pictures=pictures, limit=limit, scorers=scorers, watch=watch, track=track)
    if as_json:
        messages.document(report.to_dict())
    else:
        messages.result(*format_ceiling(report).split("\n"))


def compare(
    targets: Sequence[str],
    seeds: int | None,
    limit: int | None,
    recipe: str | None,
    encoder: str | None,
    scorers: Sequence[str],
    judge: str | None,
    as_json: bool,
) -> None:
    """Print Table 1."""
    from pahi_rt.cli.progress import TrainingProgress

    with needs("train"):
        from pahi_rt.evaluate.table1 import evaluate_targets
        from pahi_rt.evaluate.text import format_report
    with TrainingProgress() as watch:
        report = evaluate_targets(
            targets,
            seeds=SEEDS if seeds is None else seeds,
            limit=limit,
            recipe=recipe,
            encoder=encoder,
            scorers=scorers,
            judge=judge,
            watch=watch,
            track=track,
        )
    if as_json:
        messages.document(report.to_dict())
    else:
        messages.result(*format_report(report).split("\n"))
    if len(report.priors) == 1:
        (prior,) = report.priors.values()
        steps = None if report.steps in (1, 2) else str(report.steps)  # those have graphs by default
        chosen = [("--variant", report.variant), ("--decoder", report.decoder), ("--steps", steps)]
        options = [word for option, value in chosen if value for word in (option, value)]
        messages.next_command("export", str(report.generator), *options, "--prior", prior, "-o", "my-bundle")


def track(batches: Sequence[T], stage: str) -> Iterator[T]:
    """Yield the batches with a progress bar on a terminal. At the end, report how long the stage took."""
    from rich.console import Console
    from rich.progress import track as draw_bar

    started = time.perf_counter()
    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    yield from draw_bar(batches, stage, console=console, transient=True, disable=hidden)
    messages.stage(stage, time.perf_counter() - started)
