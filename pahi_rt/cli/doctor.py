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
from pahi_rt.errors import PahiError
from pahi_rt.terminal import table

if TYPE_CHECKING:
    from pahi_rt.pipeline import Pipeline
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
    """Draw with every runtime, and show which work here and how to install the others."""
    from pahi_rt.machine import cpu_name
    from pahi_rt.runtimes import TABLE

    with ends_at_once():
        findings = [examine(entry) for entry in TABLE]
    if as_json:
        messages.document({"processor": cpu_name(), "runtimes": [asdict(finding) for finding in findings]})
    else:
        messages.result(f"on {cpu_name() or 'an unknown processor'}")
        messages.result(*table([(f.runtime, "works" if f.works else "-", f.found) for f in findings]))
        for finding in findings:
            if finding.fix:
                messages.result(f"to have {finding.runtime}: {finding.fix}")
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


def _find_gpu(flavour: str) -> str:
    from pahi_rt.runtimes.cuda import Cuda
    from pahi_rt.runtimes.tensorrt import require_tensorrt

    version, gpu = require_tensorrt(flavour).__version__, Cuda().compute_capability
    return f"{version} on CUDA, compute capability {gpu}; runs what `pahi-rt build` has built"


def _draw(name: str) -> str:
    from pahi_rt.pipeline import Pipeline

    pipeline = Pipeline.load(DEFAULT, runtime=name)
    described = pipeline.runtime.describe()
    return f"{described['version']} on {described['device']}, {_milliseconds(pipeline):.0f} ms a picture"


def _milliseconds(pipeline: Pipeline) -> float:
    """The time of the fastest of a few pictures. The first one is slower, and does not count."""
    taken = []
    for _ in range(1 + _TIMES):
        started = time.perf_counter()
        pipeline(_PROMPT, seed=0)
        taken.append(1000 * (time.perf_counter() - started))
    return min(taken[1:])
