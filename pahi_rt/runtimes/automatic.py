"""What draws if no runtime is asked for: what should be done first, of all that are ready for this bundle.

A GPU takes a second or two to start, so a small model draws a few pictures on the CPU before it would have loaded. On
CPUs this is ONNX Runtime: OpenVINO is about as fast (docs/runtimes.md), but takes longer to open a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pahi_rt.choice import Chosen
from pahi_rt.errors import PahiError
from pahi_rt.runtimes.base import Runtime
from pahi_rt.runtimes.costs import estimate, recall
from pahi_rt.runtimes.table import Entry


@dataclass(frozen=True)
class Option:
    """A runtime that is ready, and what it should take."""

    entry: Entry
    seconds: float
    """For all pictures that are asked for."""
    is_measured: bool

    @property
    def words(self) -> str:
        """As in "1.9 s with onnxruntime-cuda (estimated)"."""
        return f"{self.seconds:.2g} s with {self.entry.name} ({'measured here' if self.is_measured else 'estimated'})"


@dataclass(frozen=True)
class Ranking:
    """The order in which runtimes are tried."""

    pictures: int
    options: tuple[Option, ...]
    """The fastest first."""
    passed_over: tuple[str, ...]
    """What keeps others from drawing."""

    @property
    def first(self) -> str:
        """The name of the runtime that is tried first."""
        return self.options[0].entry.name

    @property
    def why(self) -> str:
        """The reason for the first one, in a sentence."""
        times = " and ".join(option.words for option in self.options)
        count = "1 picture takes" if self.pictures == 1 else f"{self.pictures} pictures take"
        compared = [f"{count} about {times}"] if len(self.options) > 1 else []
        return "; ".join([*compared, *self.passed_over]) or "the only one there is"


def open_fastest(chosen: Chosen, candidates: Sequence[Entry]) -> Runtime:
    """Open the one of `candidates` that should draw `chosen.pictures` first; "why" in its description says the reason.

    One that cannot be opened makes room for the next. Raises what the last one raises.
    """
    ranking = rank(chosen, candidates)
    *others, last = ranking.options
    passed_over = list(ranking.passed_over)
    for option in others:
        try:
            return option.entry.open(chosen, Ranking(chosen.pictures, ranking.options, tuple(passed_over)).why)
        except PahiError as error:
            passed_over.append(f"{option.entry.name}: {error.what}")
    return last.entry.open(chosen, Ranking(chosen.pictures, ranking.options, tuple(passed_over)).why)


def rank(chosen: Chosen, candidates: Sequence[Entry]) -> Ranking:
    """Order `candidates` by the time that they should take for `chosen.pictures`. Loads none of them.

    Those that are as fast keep their order. The last candidate is always in, for its error if for nothing else.
    """
    options, passed_over = [], []
    for entry in candidates:
        try:
            if entry.check is not None and entry is not candidates[-1]:
                entry.check(entry.name, chosen.bundle)
            options.append(_judge(chosen, entry))
        except PahiError as error:
            passed_over.append(f"{entry.name}: {error.what}")
    return Ranking(chosen.pictures, tuple(sorted(options, key=lambda option: option.seconds)), tuple(passed_over))


def _judge(chosen: Chosen, entry: Entry) -> Option:
    estimated = estimate(chosen, "plan" if entry.needs_plan else entry.device)
    known = recall(chosen, entry.name)
    if known is None:
        return Option(entry, estimated.total(chosen.pictures), is_measured=False)
    is_measured = known.picture_s is not None or chosen.pictures == 1
    return Option(entry, known.filled(estimated).total(chosen.pictures), is_measured)
