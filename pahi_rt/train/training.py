"""From a recipe to a trained prior: load, check, rehearse a step, start or resume, and run the loop.

    train("pahi", "runs/pahi", load_recipe("emoji"))

Settings, prompts, models and scorers that do not fit, or that give NaN, are errors before the first step. A run can be
killed at any point: with `resume` it continues from its last checkpoint, to the same result as without the kill.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from pahi_rt.errors import RecipeError, RunError
from pahi_rt.terminal import command
from pahi_rt.train.checkpoint import Checkpoint, State, corrupt, read_checkpoint, restore_checkpoint
from pahi_rt.train.frozen import compile_models, load_models, place, settle_precision
from pahi_rt.train.gradients import Running
from pahi_rt.train.initialisation import build_prior, fit_prior, pretrain_prior
from pahi_rt.train.loop import Loop, Outcome
from pahi_rt.train.memory import fitting
from pahi_rt.train.metrics_log import MetricsLog
from pahi_rt.train.preference import Preference
from pahi_rt.train.processes import join_processes
from pahi_rt.train.recipe import Optimisation, Recipe, differing
from pahi_rt.train.run import Run, check_new_run, create_run, describe_environment, open_run
from pahi_rt.train.trainer import AUTOCAST, Trainer, check_gradient
from pahi_rt.train.validation import Validation
from pahi_rt.train.watch import Silent, Watch, timed

SETTLED = ("micro_batch", "autocast")
"""Settings of the optimisation that may be "auto": a run settles them for its device when it begins."""
MAY_CHANGE_ON_RESUME = (*SETTLED, "gradient_checkpointing", "compile")
"""Settings of the optimisation that may change when a run is resumed, perhaps on another machine: they move the result
only by rounding."""
TOLERANCE = 0.01
"""How far the Gaussian's mean score may be from its value when the run began, in standard deviations of a score.
Another device rounds differently; another generator or scorer differs by more."""


def train(
    kind: str, path: str | Path, recipe: Recipe | None = None, *, resume: bool = False, watch: Watch | None = None
) -> Outcome:
    """Train a prior of `kind`, "hi" or "pahi", by `recipe`, in the run folder `path`.

    With `resume`, continue the run in `path`. `recipe` may then be left out, or differ from the run's in
    `MAY_CHANGE_ON_RESUME`, which the run keeps from then on. Raises PahiError before the first step for settings, files
    and models that do not work, and later for numbers that are not finite; the last checkpoint is then kept.
    """
    run, checkpoint = _find_run(Path(path), kind, recipe, resume)
    recipe, settings, processes = run.recipe, run.recipe.optimisation, join_processes()
    watch = watch if watch and processes.is_main else Silent()
    stage = partial(timed, watch)
    settings = replace(settings, autocast=settle_precision(settings.autocast, processes.device))
    with stage("load prompts"):
        split = recipe.prompts.load()
        if run.split and split.sha256 != run.split:
            what = f"the prompts of {recipe.prompts.source} are not those that {run.path} began with"
            raise RunError(what, fix="put them back as they were, or train in a new folder")
    loaded = load_models(
        recipe.generator,
        recipe.decoder,
        [*recipe.scorers.train, *recipe.scorers.evaluation],
        variant=recipe.variant,
        steps=recipe.steps,
        device=processes.device,
        checkpointing=settings.gradient_checkpointing,
        stage=stage,
    )
    models = place(loaded, AUTOCAST[settings.autocast], recipe.scorers.train)
    preference = Preference(recipe.scorers.train, settings.kl_weight, settings.noise, settings.scale)
    prior = build_prior(kind, recipe, models.generator).to(processes.device)
    trainer = Trainer(prior, models, split.train, preference, settings, processes)
    with stage("rehearse a step"):
        if settings.micro_batch == "auto":
            trainer.fit()
        gradient = trainer.rehearse()
    # The run records what was settled for this device, so that it keeps it when it is resumed.
    batch = trainer.micro_batch
    run = replace(run, recipe=replace(recipe, optimisation=replace(settings, micro_batch=batch)))
    if settings.compile:
        with stage("compile"):
            compile_models(models)
            check_gradient(trainer.rehearse(), gradient)
    with stage("score the Gaussian"), fitting(batch, processes.device):
        validation = Validation(models, split.validation, recipe.scorers.evaluation, settings.seed, batch, processes)
    state = State(gaussian_scores=validation.gaussian_scores)
    if checkpoint:
        state = _restore(checkpoint, trainer, validation)
    pooled = None if checkpoint else fit_prior(prior, recipe, models, split, stage)
    if processes.is_main and not resume:
        run = create_run(replace(run, split=split.sha256))
    reached = (state.step if checkpoint else -1, state.evaluated)
    with MetricsLog(run, *reached) if processes.is_main else nullcontext() as log:
        if log:
            run.save_recipe()  # Only now that the run is locked.
            changeable = {name: getattr(run.recipe.optimisation, name) for name in MAY_CHANGE_ON_RESUME}
            run.note_environment(describe_environment(processes.device, processes.world, state.step) | changeable)
        if not checkpoint:
            report = pretrain_prior(prior, recipe, pooled, stage)
            pooled = None  # gigabytes for a million prompts
            # Devices that round differently would give each process a prior of its own.
            processes.copy_main(prior)
            if log and report:
                log.write(0, "pretraining", report)
        return Loop(run, trainer, validation, watch, log, state).finish()


def _find_run(path: Path, kind: str, recipe: Recipe | None, resume: bool) -> tuple[Run, Checkpoint | None]:
    """A new run, or with `resume` the run in `path` and its last checkpoint, None if it has none yet."""
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
    may_change = {f"optimisation.{name}" for name in MAY_CHANGE_ON_RESUME}
    names = [name for name in differing(recipe, run.recipe) if name not in may_change]
    if names:
        what = f"the recipe is not the one that {path} began with: {', '.join(names)} differs"
        raise RunError(what, fix="leave out --recipe and --set to go on, or name another folder with -o to start anew")
    recipe = replace(recipe, optimisation=_keep_settled(recipe.optimisation, run.recipe.optimisation))
    checkpoints = run.checkpoints()
    return replace(run, recipe=recipe), read_checkpoint(checkpoints[-1]) if checkpoints else None


def _keep_settled(settings: Optimisation, settled: Optimisation) -> Optimisation:
    """`settings`, with what the run `settled` for its device in place of "auto"."""
    kept = {name: getattr(settled, name) for name in SETTLED if getattr(settings, name) == "auto"}
    return replace(settings, **kept)


def _restore(checkpoint: Checkpoint, trainer: Trainer, validation: Validation) -> State:
    """Restore the trainer; return the checkpoint's counters. Raises RunError if generator or scorers have changed."""
    restore_checkpoint(checkpoint, trainer.prior, trainer.optimizer, trainer.scaler)
    trainer.step = checkpoint.state.step
    try:
        trainer.running = Running(**checkpoint.state.running)
    except TypeError as error:
        raise corrupt(checkpoint.path, str(error)) from error
    known = checkpoint.state.gaussian_scores
    for (spec, mean), scores in zip(validation.gaussian_scores.items(), validation.gaussian, strict=True):
        if spec not in known:
            raise corrupt(checkpoint.path, f"it has no score of the Gaussian under {spec}")
        before = known[spec]
        if abs(mean - before) > TOLERANCE * float(scores.std()):
            what = f"{spec} gives the Gaussian's pictures {mean:.4g}, and gave them {before:.4g} when this run began"
            raise RunError(what, fix="put back the generator and the scorers as they were, or train in a new folder")
    return checkpoint.state
