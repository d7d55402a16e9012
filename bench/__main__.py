"""python -m pahi_rt.bench: latency of a bundle on this machine.

Method. In one process: a warm-up of 5 pictures, then `--pictures` pictures at batch 1, prompt and seed fresh for
each; a picture's time covers tokenising, noise, the whole graph and the conversion to an image, and ends before the
PNG is encoded. Steps one and two take turns, picture by picture, so that their ratio is that of one moment. Cold
start: `--starts` fresh processes of `pahi-rt generate`, from start to exit, the picture on disk. Medians are
given with the 10th and 90th percentile. The last line of stdout is the same data as one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pahi_rt import PahiError, Pipeline
from pahi_rt.bench import machine

PROMPTS = ("a grinning cat", "panda", "red heart", "hamburger", "rocket", "octopus", "guitar", "skull")
WARM_UP = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="pahi_rt.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", default="emoji")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--force", action="store_true", help="measure although the machine is busy, and say so")
    parser.add_argument("--output", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    busy = machine.is_busy()
    if busy and not args.force:
        print("error: the machine is busy, timings would mean little\nfix: wait, or add --force", file=sys.stderr)
        return 1
    try:
        report = measure(args.bundle, args.pictures, args.starts) | {"busy": busy}
    except PahiError as error:
        print(f"error: {error.what}\nfix: {error.fix}", file=sys.stderr)
        return 1
    print_table(report)
    if args.output:
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, separators=(",", ":")))
    return 0


def measure(bundle: str, pictures: int, starts: int) -> dict[str, object]:
    """The whole report; times in milliseconds."""
    environment = machine.describe()
    one, two = (Pipeline.load(bundle, steps=steps) for steps in (1, 2))
    samples: dict[str, list[float]] = {"one_step_ms": [], "two_steps_ms": []}
    for number in range(WARM_UP + pictures):
        for name, pipeline in zip(samples, (one, two), strict=True):
            took = time_picture(pipeline, number)
            if number >= WARM_UP:
                samples[name].append(took)
    samples["cold_start_ms"] = [time_start(bundle, number) for number in range(starts)]
    ratio = statistics.median(b / a for a, b in zip(samples["one_step_ms"], samples["two_steps_ms"], strict=True))
    return {
        "command": machine.command(),
        "bundle": bundle,
        "prior": one.prior,
        "runtime": one.runtime.describe(),
        **{name: spread(values) for name, values in samples.items()},
        "two_steps_over_one": round(ratio, 3),
        "machine": environment,
    }


def time_picture(pipeline: Pipeline, number: int) -> float:
    started = time.perf_counter()
    pipeline(PROMPTS[number % len(PROMPTS)], seed=number)
    return (time.perf_counter() - started) * 1000


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


def spread(values: Sequence[float]) -> dict[str, float | int]:
    ordered = sorted(values)
    tenth = len(ordered) // 10
    return {
        "median": round(statistics.median(ordered), 2),
        "p10": round(ordered[tenth], 2),
        "p90": round(ordered[-1 - tenth], 2),
        "n": len(ordered),
    }


def print_table(report: dict[str, object]) -> None:
    for name, value in report.items():
        if isinstance(value, dict) and "median" in value:
            print(f"{name:>14}  median {value['median']:8.2f}  p10 {value['p10']:8.2f}  p90 {value['p90']:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
