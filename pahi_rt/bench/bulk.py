"""pahi-rt bench bulk: pictures a second of `pahi-rt bulk` with one process and with several.

Method. Runs with one process and with several take turns, each a fresh command over the same prompts into a folder that
is removed. A run's clock begins when each of its processes has finished a shard, so that starting up does not count,
and ends with the last shard: encoding, writing and the wait for the slowest process count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pahi_rt.bench import machine
from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.bench.reports.bulk import BulkReport
from pahi_rt.bench.timing import spread
from pahi_rt.errors import PahiError
from pahi_rt.machine import usable_cores

_SHARDS = 12
"""Shards that one process draws in a run."""


def measure(bundle: str, pictures: int, processes: int | None, rounds: int, force: bool = False) -> BulkReport:
    """The whole report; `pictures` for each process in a run. Raises PahiError for a busy machine, unless `force`."""
    busy, environment = machine.check_idle(force), machine.describe()
    several = processes or usable_cores()
    if pictures < _SHARDS:
        raise PahiError(f"{pictures} pictures are too few to time", fix=f"use --pictures {_SHARDS} or more")
    turns = [(time_run(bundle, 1, pictures), time_run(bundle, several, pictures)) for _ in range(rounds)]
    alone, together = zip(*turns, strict=True)
    return BulkReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        bundle=bundle,
        processes=several,
        pictures_per_process=pictures,
        one_process_per_s=spread(alone),
        several_per_s=spread(together),
        several_over_one=spread([b / a for a, b in turns]).median,
    )


def time_run(bundle: str, processes: int, pictures: int) -> float:
    """Pictures a second of one run."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.txt"
        rows = [PROMPTS[number % len(PROMPTS)] for number in range(pictures * processes)]
        prompts.write_text("\n".join(rows) + "\n", encoding="utf-8")
        words = ["bulk", prompts, f"{folder}/out", "--bundle", bundle, "--processes-count", processes, "--json"]
        words += ["--number-sample-per-shard", pictures // _SHARDS, "--output-format", "webdataset"]
        return _rate(list(map(str, words)), processes)


def _rate(words: list[str], processes: int) -> float:
    run = [sys.executable, "-c", "from pahi_rt.cli import main; main()", *words]
    ends: list[tuple[float, int]] = []
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout or ():
            event = json.loads(line)
            if event["event"] == "shard":
                ends.append((time.monotonic(), event["successes"]))
    if process.returncode or len(ends) <= processes:
        raise PahiError("the run to time has failed", fix=f"see why: pahi-rt {' '.join(words)}")
    began, ended = ends[processes - 1][0], ends[-1][0]
    return sum(count for _, count in ends[processes:]) / (ended - began)
