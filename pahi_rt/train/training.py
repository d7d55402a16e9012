"""From a recipe to a trained prior: load, check, rehearse, start or resume, and then the loop.

    train("pahi", "runs/pahi", load_recipe("emoji"))

What can be wrong is found before the first step: settings, prompts, models and scorers that do not fit or give NaN. A
run can be killed at any point: with `resume` it goes on from its last checkpoint to the result that it would have had.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from pahi_rt.errors import RecipeError, RunError
from pahi_rt.terminal import command
from pahi_rt.train.checkpoint import Checkpoint, State, corrupt, read_checkpoint, restore_checkpoint
from pahi_rt.train.frozen import Models, Timed, check_precision, compile_models, load_models, place
from pahi_rt.train.initialisation import Pooled, build_prior, fit_prior, pretrain_prior
from pahi_rt.train.loop import Loop, Outcome
from pahi_rt.train.memory import fitting
from pahi_rt.train.metrics_log import MetricsLog
from pahi_rt.train.preference import Preference
from pahi_rt.train.processes import Processes, join_processes
from pahi_rt.train.prompts import Split, load_split
from pahi_rt.train.recipe import Recipe, differing
from pahi_rt.train.run import Run, check_new_run, create_run, describe_environment, open_run
from pahi_rt.train.trainer import AUTOCAST, Trainer, check_gradient
from pahi_rt.train.validation import Validation
from pahi_rt.train.watch import Silent, Watch, timed

FREE = ("optimisation.micro_batch", "optimisation.gradient_checkpointing", "optimisation.compile")
"""Settings that may change when a run goes on, perhaps on another machine: they move the result by rounding only."""
TOLERANCE = 0.01
"""How far the Gaussian's mean score may be from what it was when the run began, in standard deviations of a score:
another device rounds differently, another generator differs by more."""


def train(
    kind: str, path: str | Path, recipe: Recipe | None = None, *, resume: bool = False, watch: Watch | None = None
) -> Outcome:
    """Train a prior of `kind`, "hi" or "pahi", by `recipe`, in the run folder `path`.

    With `resume`, go on with the run that is there; `recipe` may then be left out, or differ from the run's in `FREE`.
    Raises PahiError before any step is taken for settings, files and models that would not work; and later for
    numbers that stop being finite, where the last checkpoint is kept.
    """
    run, checkpoint = _find_run(Path(path), kind, recipe, resume)
    recipe, processes = run.recipe, join_processes()
    watch = watch if watch and processes.is_main else Silent()
    stage = partial(timed, watch)
    check_precision(recipe.optimisation.autocast, processes.device)
    with stage("load prompts"):
        split = _load_split(run)
    models = _load_models(recipe, processes, stage)
    trainer = _make_trainer(run, models, split, processes)
    with stage("rehearse a step"):
        if recipe.optimisation.micro_batch == "auto":
            trainer.fit()
        gradient = trainer.rehearse()
    run = _settle(run, trainer)
    if recipe.optimisation.compile:
        with stage("compile"):
            compile_models(models)
            check_gradient(trainer.rehearse(), gradient)
    with stage("score the Gaussian"):
        validation = _make_validation(run.recipe, trainer, split)
    state = State(gaussian_scores=validation.gaussian_scores)
    if checkpoint:
        state = _restore(checkpoint, trainer, validation)
    pooled = None if checkpoint else fit_prior(trainer.prior, recipe, models, split, stage)
    if processes.is_main and not resume:
        run = create_run(replace(run, split=split.sha256))
    reached = (state.step if checkpoint else -1, state.evaluated)
    with MetricsLog(run, *reached) if processes.is_main else nullcontext() as log:
        if log:
            run.note_environment(describe_environment(processes.device, processes.world, state.step))
        if not checkpoint:
            _pretrain(trainer, recipe, pooled, stage, log)
        return Loop(run, trainer, validation, watch, log, state).finish()


def _find_run(path: Path, kind: str, recipe: Recipe | None, resume: bool) -> tuple[Run, Checkpoint | None]:
    """The run that is to be made, or to be gone on with, and its last checkpoint."""
    if not resume:
        if recipe is None:
            raise RecipeError("a new run needs a recipe", fix="name one with --recipe, such as emoji")
        check_new_run(path)
        return Run(path, kind, recipe, {}), None
    run = open_run(path)
    if run.kind != kind:
        fix = command("pahi-rt", "train", run.kind, "--resume", "-o", path)
        raise RunError(f"the run in {path} trains {run.kind}, not {kind}", fix=fix)
    recipe = recipe or run.recipe
    names = [name for name in differing(recipe, run.recipe) if name not in FREE]
    if names:
        what = f"the recipe is not the one that {path} began with: {', '.join(names)} differs"
        raise RunError(what, fix="leave out --recipe and --set to go on, or name another folder with -o to start anew")
    if recipe.optimisation.micro_batch == "auto":
        settled = run.recipe.optimisation.micro_batch
        recipe = replace(recipe, optimisation=replace(recipe.optimisation, micro_batch=settled))
    checkpoints = run.checkpoints()
    return replace(run, recipe=recipe), read_checkpoint(checkpoints[-1]) if checkpoints else None


def _load_split(run: Run) -> Split:
    settings = run.recipe.prompts
    split = load_split(settings.source, settings.validation, settings.test, settings.seed)
    if run.split and split.sha256 != run.split:
        what = f"the prompts of {settings.source} are not those that {run.path} began with"
        raise RunError(what, fix="put them back as they were, or train in a new folder")
    return split


def _load_models(recipe: Recipe, processes: Processes, stage: Timed) -> Models:
    models = load_models(
        recipe.generator,
        recipe.decoder,
        [*recipe.scorers.train, *recipe.scorers.evaluation],
        variant=recipe.variant,
        steps=recipe.steps,
        device=processes.device,
        checkpointing=recipe.optimisation.gradient_checkpointing,
        stage=stage,
    )
    return place(models, AUTOCAST[recipe.optimisation.autocast], recipe.scorers.train)


def _make_trainer(run: Run, models: Models, split: Split, processes: Processes) -> Trainer:
    recipe, settings = run.recipe, run.recipe.optimisation
    preference = Preference(recipe.scorers.train, settings.kl_weight, settings.noise, settings.scale)
    prior = build_prior(run.kind, recipe, models.generator).to(processes.device)
    return Trainer(prior, models, split.train, preference, settings, processes)


def _settle(run: Run, trainer: Trainer) -> Run:
    """The run with the number of prompts at once that it has now, so that it keeps it when it is resumed."""
    settled = replace(run.recipe.optimisation, micro_batch=trainer.micro_batch)
    return replace(run, recipe=replace(run.recipe, optimisation=settled))


def _make_validation(recipe: Recipe, trainer: Trainer, split: Split) -> Validation:
    seed, specs, batch = recipe.optimisation.seed, recipe.scorers.evaluation, trainer.micro_batch
    with fitting(batch, trainer.models.device):
        return Validation(trainer.models, split.validation, specs, seed, batch, trainer.processes)


def _restore(checkpoint: Checkpoint, trainer: Trainer, validation: Validation) -> State:
    """Put the trainer where the checkpoint was. Raises PahiError if generator or scorers are not what they were."""
    restore_checkpoint(checkpoint, trainer.prior, trainer.optimizer, trainer.scaler)
    trainer.step = checkpoint.state.step
    known = checkpoint.state.gaussian_scores
    for (spec, mean), scores in zip(validation.gaussian_scores.items(), validation.gaussian, strict=True):
        if spec not in known:
            raise corrupt(checkpoint.path, f"it has no score of the Gaussian under {spec}")
        before = known[spec]
        if abs(mean - before) > TOLERANCE * float(scores.std()):
            what = f"{spec} gives the Gaussian's pictures {mean:.4g}, and gave them {before:.4g} when this run began"
            raise RunError(what, fix="put back the generator and the scorers as they were, or train in a new folder")
    return checkpoint.state


def _pretrain(trainer: Trainer, recipe: Recipe, pooled: Pooled | None, stage: Timed, log: MetricsLog | None) -> None:
    report = pretrain_prior(trainer.prior, recipe, pooled, stage)
    # Devices that round differently would give each process a prior of its own.
    trainer.processes.copy_main(trainer.prior)
    if log and report:
        log.write(0, "pretraining", report)
