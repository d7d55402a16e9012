"""The training loop: steps, evaluations and checkpoints, until the validation loss no longer drops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from pahi_rt.models.priors import save_prior
from pahi_rt.train.checkpoint import State, save_checkpoint
from pahi_rt.train.interruption import Interruption
from pahi_rt.train.metrics_log import MetricsLog
from pahi_rt.train.recipe import Optimisation
from pahi_rt.train.run import Run, save_pictures
from pahi_rt.train.trainer import Trainer, learning_rate
from pahi_rt.train.validation import Validation
from pahi_rt.train.watch import Watch

SAVE_EVERY = 100
"""Steps between checkpoints: the most that a kill can cost."""


@dataclass(frozen=True)
class Doubt:
    """A reason to distrust the result of a training."""

    what: str
    fix: str


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    run: Run
    reason: str
    """"early stopping", "last step" or "interrupted"."""
    state: State
    is_main: bool
    """Whether this is the process that talks to the user."""

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Reasons to distrust the result; none if the training was interrupted."""
        return tuple(find_doubts(self.state, self.run.recipe.optimisation, self.reason))


class Loop:
    """Continues a training from `state`. `log` is None except in the main process, the only one that writes."""

    def __init__(
        self, run: Run, trainer: Trainer, validation: Validation, watch: Watch, log: MetricsLog | None, state: State
    ) -> None:
        self.run, self.trainer, self.validation = run, trainer, validation
        self.watch, self.log, self.state = watch, log, state
        self.settings = run.recipe.optimisation

    def finish(self) -> Outcome:
        """Run until the training ends or is interrupted. Raises PahiError for numbers that are not finite."""
        stopped = False
        with Interruption(self.watch.interrupted) as interruption:
            while not stopped and self.reason() is None:
                if self._is_evaluation_due():
                    self._evaluate()
                    self._save()
                else:
                    stopped = self._take_step(interruption.asked)
                    # If an evaluation is due, its result is saved together with the step.
                    if self.state.step % SAVE_EVERY == 0 and not self._is_evaluation_due():
                        self._save()
            self._save()
        return Outcome(self.run, self.reason() or "interrupted", self.state, self.log is not None)

    def reason(self) -> str | None:
        """Why the training has ended, as in `Outcome.reason`; None if it has not."""
        if self._is_evaluation_due():
            return None
        if self.state.stale >= self.settings.patience:
            return "early stopping"
        return "last step" if self.state.step >= self.settings.max_steps else None

    def _is_evaluation_due(self) -> bool:
        step = self.state.step
        on_time = step % self.settings.evaluate_every == 0 or step == self.settings.max_steps
        return on_time and self.state.evaluated != step

    def _take_step(self, stop: bool) -> bool:
        """Take a step; return whether any process was asked to stop."""
        step, stopped = self.trainer.take_step(stop)
        self.state = replace(self.state, step=self.trainer.step, running=asdict(self.trainer.running))
        if self.log:
            self.log.write(self.state.step, "training", asdict(step))
        self.watch.step(self.state.step, self.settings, step)
        return stopped

    def _evaluate(self) -> None:
        prior = self.trainer.prior
        evaluation = self.validation.evaluate(prior)
        self.state, best = note_evaluation(self.state, evaluation.loss)
        if self.log:
            pictures = self.run.samples(self.state.step)
            drawn = self.validation.draw_pictures(prior)
            save_pictures(pictures, drawn, self.validation.prompts[: len(drawn)])
            self.log.write(self.state.step, "validation", asdict(evaluation))
            if best:
                save_prior(prior, self.run.prior)
            self.watch.evaluation(self.state.step, evaluation, best, pictures)

    def _save(self) -> None:
        if self.log:
            trainer, path = self.trainer, self.run.checkpoint(self.state.step)
            save_checkpoint(path, self.state, trainer.prior, trainer.optimizer, trainer.scaler)
            self.run.drop_old_checkpoints()


def find_doubts(state: State, settings: Optimisation, reason: str) -> Iterator[Doubt]:
    """Doubts that follow from the final counters of a training that ended for `reason`."""
    if reason == "early stopping" and state.step < settings.warmup_steps:
        reached = learning_rate(settings, state.step)
        patience = -(-settings.warmup_steps // settings.evaluate_every) + settings.patience
        yield Doubt(
            f"early stopping ended the training within its warm-up, after {state.step} of {settings.warmup_steps}"
            f" steps, when the learning rate had risen to {reached:.2g} of {settings.learning_rate:.2g}",
            fix=f"train a new run with --set optimisation.patience={patience}, or with fewer optimisation.warmup_steps",
        )
    if reason != "interrupted" and state.best_step == 0:
        yield Doubt(
            "no step was better than step 0: the best prior is the untrained one, and nothing was gained",
            fix="train a new run with another optimisation.learning_rate, or with more optimisation.patience",
        )


def note_evaluation(state: State, loss: float) -> tuple[State, bool]:
    """The state after an evaluation, and whether its loss is the smallest so far."""
    if state.best_loss is None or loss < state.best_loss:
        return replace(state, evaluated=state.step, best_step=state.step, best_loss=loss, stale=0), True
    return replace(state, evaluated=state.step, stale=state.stale + 1), False
