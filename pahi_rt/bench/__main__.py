"""python -m pahi_rt.bench: latency of a bundle on this machine.

Method. In one process: a warm-up of 5 pictures, then `--pictures` pictures at batch 1, prompt and seed fresh for
each; a picture's time covers tokenising, noise, the whole graph and the conversion to an image, and ends before the
PNG is encoded. Steps one and two take turns, picture by picture, so that their ratio is that of one moment. Cold
start: `--starts` fresh processes of `pahi-rt generate`, from start to exit, the picture on disk. Medians are
given with the 10th and 90th percentile. The last line of stdout is the same data as one JSON document.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial

from pahi_rt import Pipeline
from pahi_rt.assets import DEFAULT
from pahi_rt.bench import machine
from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.bench.report import add_options, run
from pahi_rt.bench.timing import ratio, spread, take_turns

WARM_UP = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="pahi_rt.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", default=DEFAULT)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--starts", type=int, default=10)
    add_options(parser)
    args = parser.parse_args()
    return run(lambda: _measure_idle(args), print_table, args.output)


def _measure_idle(args: argparse.Namespace) -> dict[str, object]:
    busy = machine.check_idle(args.force)
    return measure(args.bundle, args.pictures, args.starts) | {"busy": busy}


def measure(bundle: str, pictures: int, starts: int) -> dict[str, object]:
    """The whole report; times in milliseconds."""
    environment = machine.describe()
    one, two = (Pipeline.load(bundle, steps=steps) for steps in (1, 2))
    draws = [partial(draw, one), partial(draw, two)]
    one_ms, two_ms = take_turns(draws, pictures, WARM_UP)
    samples = {
        "one_step_ms": one_ms,
        "two_steps_ms": two_ms,
        "cold_start_ms": [time_start(bundle, number) for number in range(starts)],
    }
    return {
        "command": machine.command("python", "-m", "pahi_rt.bench"),
        "bundle": bundle,
        "prior": one.prior,
        "runtime": one.runtime.describe(),
        **{name: spread(values) for name, values in samples.items()},
        "two_steps_over_one": ratio(two_ms, one_ms, 3)["median"],
        "machine": environment,
    }


def draw(pipeline: Pipeline, number: int) -> None:
    pipeline(PROMPTS[number % len(PROMPTS)], seed=max(number, 0))


def time_start(bundle: str, number: int) -> float:
    """One `pahi-rt generate` in a fresh process, its picture in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        words = [PROMPTS[number % len(PROMPTS)], "--seed", str(number), "--bundle", bundle, "-o", f"{folder}/cold.png"]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from pahi_rt.cli import main; main()", "generate", *words],
            check=True,
            capture_output=True,
        )
        return (time.perf_counter() - started) * 1000


def print_table(report: dict[str, object]) -> None:
    for name, value in report.items():
        if isinstance(value, dict) and "median" in value:
            print(f"{name:>14}  median {value['median']:8.2f}  p10 {value['p10']:8.2f}  p90 {value['p90']:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
