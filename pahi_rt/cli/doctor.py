"""Verb `doctor`: try every runtime on this machine, by drawing with it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.cli.interrupts import ends_at_once
from pahi_rt.cli.options import Debug, Json
from pahi_rt.cli.quiet import quiet_libraries
from pahi_rt.errors import PahiError
from pahi_rt.terminal import table

if TYPE_CHECKING:
    from pahi_rt.pipeline import Pipeline
    from pahi_rt.runtimes.automatic import Ranking
    from pahi_rt.runtimes.costs import Cost
    from pahi_rt.runtimes.table import Entry

_PROMPT, _TIMES = "a grinning cat", 5


@dataclass(frozen=True)
class Finding:
    """The result for one runtime."""

    runtime: str
    works: bool
    found: str
    """Its version, its device and how fast it draws, or what is missing."""
    fix: str | None
    """The command or setting that mends it."""


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Draw with every runtime, and show which work here and how to install the others.

    The times are remembered for the choice of a runtime where none is asked for.
    """
    from pahi_rt.choice import MANY
    from pahi_rt.machine import cpu_name
    from pahi_rt.runtimes import TABLE

    with ends_at_once(), quiet_libraries():
        findings = [examine(entry) for entry in TABLE]
    auto = {count: rank_for(count) for count in (1, MANY)}
    if as_json:
        found = [asdict(finding) for finding in findings]
        choices = [{"pictures": n, "runtime": ranking.first, "why": ranking.why} for n, ranking in auto.items()]
        messages.document({"processor": cpu_name(), "runtimes": found, "auto": choices})
    else:
        messages.result(f"on {cpu_name() or 'an unknown processor'}")
        messages.result(*table([(f.runtime, "works" if f.works else "-", f.found) for f in findings]))
        for finding in findings:
            if finding.fix:
                messages.result(f"to have {finding.runtime}: {finding.fix}")
        # Once, where the number of pictures does not matter.
        messages.result(*dict.fromkeys(f"auto draws with {ranking.first}: {ranking.why}" for ranking in auto.values()))
    working = [finding.runtime for finding in findings if finding.works]
    if not working:
        raise typer.Exit(1)
    messages.next_command("generate", _PROMPT, "--runtime", working[0])


def examine(entry: Entry) -> Finding:
    """Draw with a runtime. One that needs a plan, which the built-in bundle lacks, only looks for a GPU."""
    try:
        found = _find_gpu(entry.name) if entry.needs_plan else _draw(entry.name)
        return Finding(entry.name, True, found, None)
    except PahiError as error:
        return Finding(entry.name, False, error.what, error.fix)


def rank_for(pictures: int) -> Ranking:
    """What "auto" would draw so many pictures of the built-in bundle with."""
    from pahi_rt.bundle import open_bundle
    from pahi_rt.choice import choose
    from pahi_rt.runtimes.automatic import rank
    from pahi_rt.runtimes.table import by_rank

    return rank(choose(open_bundle(DEFAULT), pictures=pictures), by_rank())


def _find_gpu(flavour: str) -> str:
    from pahi_rt.runtimes.cuda import Cuda
    from pahi_rt.runtimes.tensorrt import require_tensorrt

    version, gpu = require_tensorrt(flavour).__version__, Cuda().compute_capability
    return f"{version} on CUDA, compute capability {gpu}; runs what `pahi-rt build` has built"


def _draw(name: str) -> str:
    from pahi_rt.bundle import open_bundle
    from pahi_rt.choice import choose
    from pahi_rt.pipeline import Pipeline
    from pahi_rt.runtimes.costs import remember

    chosen = choose(open_bundle(DEFAULT), runtime=name)
    started = time.perf_counter()
    pipeline = Pipeline.open(chosen)
    cost = measure(pipeline, time.perf_counter() - started)
    remember(chosen, name, cost, renew=True)
    described = pipeline.runtime.describe()
    return f"{described['version']} on {described['device']}, {1000 * cost.picture_s:.0f} ms a picture"


def measure(pipeline: Pipeline, load_s: float) -> Cost:
    """The time of the first picture, and of the fastest of a few more."""
    from pahi_rt.runtimes.costs import Cost

    taken = []
    for _ in range(1 + _TIMES):
        started = time.perf_counter()
        pipeline(_PROMPT, seed=0)
        taken.append(time.perf_counter() - started)
    return Cost(load_s, taken[0], min(taken[1:]))
