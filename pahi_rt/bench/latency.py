"""pahi-rt bench latency: how long a bundle takes for a picture on this machine.

Method. In one process: a warm-up of 5 pictures, then the timed ones at batch 1, with a new prompt and seed for each. A
picture's time covers tokenising, noise, the whole graph and the conversion to an image, and ends before the PNG is
encoded. One step and two steps take turns, picture by picture, so that their ratio compares the same moment. Cold
start: fresh processes of `pahi-rt generate`, from start to exit, the picture on disk.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial

from pahi_rt import Pipeline
from pahi_rt.bench import machine
from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.bench.reports.latency import LatencyReport
from pahi_rt.bench.timing import race, ratio, spread


def measure(bundle: str, pictures: int, starts: int, force: bool = False) -> LatencyReport:
    """The whole report. Raises PahiError for a busy machine, unless `force` is set."""
    busy, environment = machine.check_idle(force), machine.describe()
    one, two = (Pipeline.load(bundle, steps=steps) for steps in (1, 2))
    steps = race(partial(draw, two), partial(draw, one), pictures)
    return LatencyReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        bundle=bundle,
        prior=one.prior,
        runtime=one.runtime.describe(),
        one_step_ms=spread(steps.reference),
        two_steps_ms=spread(steps.own),
        cold_start_ms=spread([time_start(bundle, number) for number in range(starts)]),
        two_steps_over_one=ratio(steps.own, steps.reference, 3).median,
    )


def draw(pipeline: Pipeline, number: int) -> None:
    """Draw the n-th picture."""
    pipeline(PROMPTS[number % len(PROMPTS)], seed=max(number, 0))


def time_start(bundle: str, number: int) -> float:
    """Milliseconds of one `pahi-rt generate` in a fresh process, its picture in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        words = [PROMPTS[number % len(PROMPTS)], "--seed", str(number), "--bundle", bundle, "-o", f"{folder}/cold.png"]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from pahi_rt.cli import main; main()", "generate", *words],
            check=True,
            capture_output=True,
        )
        return (time.perf_counter() - started) * 1000
