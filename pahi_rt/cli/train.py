"""Verb `train`: learn a noise prior from a model of human preference."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.options import Debug, Json, NameOption, PathOption

if TYPE_CHECKING:
    from pahi_rt.train.loop import Outcome

INTERRUPTED = 130
"""The exit code that shells use for a program that Ctrl-C ended."""


class Kind(str, Enum):
    """The two kinds of priors."""

    hi = "hi"
    pahi = "pahi"


def train(
    kind: Annotated[
        Kind, typer.Argument(metavar="hi|pahi", help="hi: one Gaussian for all prompts. pahi: one for each prompt.")
    ],
    output: Annotated[Path, PathOption("-o", "--output", metavar="RUN", help="The folder to write the run to.")],
    recipe: Annotated[
        str | None,
        NameOption(
            metavar="RECIPE", help="A recipe's name, such as emoji or sd-turbo, or a file. Needed without --resume."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        NameOption(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting of the recipe, or of the run. May be repeated.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a noise prior for a frozen one-step model, so that a model of human preference likes its pictures better.

    After Ctrl-C, or a kill at any time, --resume continues the run. With several GPUs: accelerate launch
    $(which pahi-rt) train ...
    """
    if recipe is None and not resume:
        raise typer.BadParameter("--recipe is missing: name one, such as emoji, or a file")
    outcome = run_training(kind.value, output, recipe, settings or [], resume)
    if outcome.is_main:
        present(outcome, as_json)
    if outcome.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)


def run_training(kind: str, output: Path, recipe: str | None, settings: list[str], resume: bool) -> Outcome:
    """Train, with progress on standard error. Raises PahiError."""
    from pahi_rt.cli.progress import TrainingProgress

    with needs("train"):
        from pahi_rt.train.processes import leave_processes
        from pahi_rt.train.recipe import load_recipe
        from pahi_rt.train.run import open_run
        from pahi_rt.train.training import train
    resolved = open_run(output, settings).recipe if recipe is None else load_recipe(recipe, settings)
    try:
        with TrainingProgress() as watch:
            return train(kind, output, resolved, resume=resume, watch=watch)
    finally:
        leave_processes()


def present(outcome: Outcome, as_json: bool) -> None:
    """Print the best prior, notes on the run, and the next command."""
    run, state = outcome.run, outcome.state
    if as_json:
        messages.document(describe(outcome))
    elif run.prior.exists():
        messages.result(str(run.prior))
    if run.pictures is not None:
        messages.note(f"{run.pictures} shows the prior beside the Gaussian")
    if outcome.reason == "interrupted":
        messages.note(f"stopped after {state.step} steps")
        messages.next_command("train", run.kind, "--resume", "-o", str(run.path))
    else:
        messages.note(
            f"ended after {state.step} steps ({outcome.reason}); the best prior is that of step {state.best_step}"
        )
        for doubt in outcome.doubts:
            messages.note(doubt.what, doubt.fix)
        messages.next_command("evaluate", str(run.path))


def describe(outcome: Outcome) -> dict[str, Any]:
    """The outcome as data for one JSON document."""
    run, state = outcome.run, outcome.state
    return {
        "run": str(run.path),
        "kind": run.kind,
        "prior": str(run.prior) if run.prior.exists() else None,
        "pictures": None if run.pictures is None else str(run.pictures),
        "reason": outcome.reason,
        "steps": state.step,
        "best_step": state.best_step,
        "best_validation_loss": state.best_loss,
        "doubts": [asdict(doubt) for doubt in outcome.doubts],
    }
