"""python -m pahi_rt.bench.cuda: latency of one-step generation on an NVIDIA GPU, one way to run it after the other.

Method. All ways ("contenders") run one model with random weights at batch 1. Inside the timed region: the copy of
token ids and noise from (pinned) host memory, text encoder, UNet, decoder, rounding to bytes, the copy of the picture
into host memory, and waiting for it. Outside: tokenising, drawing noise, encoding a PNG. Every picture has another
prompt and noise than the one before, and nothing is kept from prompt to prompt. Each contender takes turns with its
reference, picture by picture, so that their ratio, taken pair by pair, is that of one moment. Medians are given with
the 10th and 90th percentile. PSNR is against eager fp32 without TF32, from the same inputs. FLOPs are those of
convolutions and matrix products; shares are of the rate that one large matrix product attains in this run. A contender
that fails is listed with its reason, and the others go on; the report is rewritten after each. The last line of
stdout is the same data as one JSON document. With --device cpu --model tiny it shows that it works, and times nothing
that matters.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pahi_rt import PahiError
from pahi_rt.bench import machine
from pahi_rt.bench.cuda_contenders import EAGER, RANDOM, Built, Contender, Setup, contenders
from pahi_rt.bench.cuda_limits import measure_limits
from pahi_rt.bench.report import run, write
from pahi_rt.bench.timing import spread, take_turns
from pahi_rt.terminal import command

LONGEST_REASON = 2000
"""Characters."""
TIMED = "host to host: ids and noise in, text encoder, UNet, decoder, bytes out; a fresh prompt for every picture"

Row = dict[str, Any]


def main() -> int:
    args = _parse()
    return run(lambda: _measure(args), print_table, None)  # the file is written after every contender


def _measure(args: argparse.Namespace) -> Row:
    check(args.device, args.model, args.output)
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        setup = Setup(args.device, args.model, work, args.bundle, args.precision)
        rows = contenders(setup, autotune=args.autotune)
        return measure(setup, rows, args.pictures, args.budget, lambda report: write(report, args.output))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pahi_rt.bench.cuda", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", default="sd-turbo", help=f"a diffusers folder, or random weights: {RANDOM}")
    parser.add_argument("--work", type=Path, help="keep random weights in this folder, and use those that are there")
    parser.add_argument("--bundle", type=Path, help="an export of the same architecture, for ONNX Runtime and TensorRT")
    parser.add_argument("--precision", help="of the bundle's graph: its first one unless given")
    parser.add_argument("--pictures", type=int, default=60, help="pairs of pictures for each contender")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which no contender is begun")
    parser.add_argument("--autotune", action="store_true", help="torch.compile's max-autotune too: minutes more")
    parser.add_argument("--output", type=Path, help="also write the JSON to this file, after every contender")
    args = parser.parse_args()
    if args.pictures < 1:
        parser.error("--pictures must be at least 1")
    return args


def check(device: str, model: str, output: Path | None) -> None:
    """PahiError for what cannot work, before anything is measured."""
    if device == "cuda" and not torch.cuda.is_available():
        raise PahiError("PyTorch sees no NVIDIA GPU here", fix="run it where one is, or add --device cpu --model tiny")
    if model not in RANDOM and not Path(model).is_dir():
        raise PahiError(f"there is no folder {model}", fix=f"give a diffusers folder, or one of {', '.join(RANDOM)}")
    if output is not None and not output.parent.is_dir():
        raise PahiError(f"there is no folder {output.parent}", fix=command("mkdir", "-p", output.parent))


def measure(setup: Setup, rows: Sequence[Contender], pictures: int, budget: float, save: Callable[[Row], None]) -> Row:
    """The whole report; `save` gets it after every contender. `budget` counts seconds from this call."""
    started = time.perf_counter()
    settle()
    report: Row = {
        "command": machine.command("python", "-m", "pahi_rt.bench.cuda"),
        "timed": TIMED,
        "device": setup.device.type,
        "model": setup.model,
        "batch": 1,
        "machine": machine.describe() | machine.describe_gpu(),
        "limits": attempt(lambda: measure_limits(setup.device)),
        "contenders": [],
    }
    save(report)
    race = Race(setup, rows, pictures)
    for row in rows:
        spent = time.perf_counter() - started
        if row.why_not is None and spent >= budget:
            done: Row = {"status": "skipped", "reason": f"the budget of {budget:g} s was used up after {spent:.1f} s"}
        else:
            done = race.run(row)
        report["contenders"].append({"name": row.name} | with_limits(done, report["limits"]))
        report["total_s"] = round(time.perf_counter() - started, 1)
        print(f"{report['total_s']:7.1f} s  {row.name}: {summary(done)}", file=sys.stderr, flush=True)
        save(report)
    return report


def attempt(work: Callable[[], Row]) -> Row:
    """What `work` returns, or why it failed: the one place where failures become part of the report."""
    try:
        return {"status": "measured"} | work()
    except Exception as error:  # of compilers, drivers and runtimes: there is no narrower class
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:LONGEST_REASON]}


def settle() -> None:
    """fp32 without TF32, for it is the reference (one contender switches TF32 on for itself); tuned convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


class Race:
    """Runs contenders, and keeps those that later ones are timed against."""

    def __init__(self, setup: Setup, rows: Sequence[Contender], pictures: int) -> None:
        self.setup, self.pictures = setup, pictures
        self._wanted = {row.against for row in rows}
        self._kept: dict[str, Built] = {}
        self._pictures: list[Tensor] = []
        """What eager fp32 draws."""

    def run(self, row: Contender) -> Row:
        """A row of the report: status, and either what was measured or the reason why not."""
        if row.why_not is not None:
            return {"status": "skipped", "reason": row.why_not}
        done = attempt(lambda: self._measure(row))
        # What is left of a failed contender would hold its memory.
        gc.collect()
        if self.setup.device.type == "cuda":
            attempt(_free)
        return done

    def _measure(self, row: Contender) -> Row:
        # The model is loaded by whoever comes first, and is no part of its time to build.
        inputs = self.setup.inputs
        begun = time.perf_counter()
        built = row.build(self.setup)
        build_s = time.perf_counter() - begun
        reference = next((name for name in (row.against, EAGER) if name in self._kept), None)
        # Without the row that it is the same as, a prior's ratio would be no overhead.
        is_overhead = row.is_prior and reference == row.against
        entrants = [built, *([self._kept[reference]] if reference else [])]
        own_ms, *other_ms = take_turns([partial(draw, entrant, inputs) for entrant in entrants], self.pictures)
        done: Row = {"build_s": round(build_s, 1), "ms": spread(own_ms, 3)}
        if reference:
            done |= compare(own_ms, other_ms[0], reference, is_overhead)
        done |= self._check_pictures(row, built)
        done["gflop"] = round(built.gflop(), 3)
        if built.precision is not None:
            done["precision"] = built.precision
        if row.name in self._wanted:
            self._kept[row.name] = built
        return done

    def _check_pictures(self, row: Contender, built: Built) -> Row:
        drawn = [built.draw(*pair).clone() for pair in self.setup.inputs]
        if row.name == EAGER:
            self._pictures = drawn
        if not self._pictures or not built.is_same_picture:
            return {"psnr_db": None, "largest_difference_levels": None}
        return difference(self._pictures, drawn)


def _free() -> Row:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return {}


def draw(built: Built, inputs: Sequence[tuple[Tensor, Tensor]], number: int) -> None:
    """From inputs on the host to the picture on the host; each call has other inputs than the one before."""
    built.draw(*inputs[number % len(inputs)])


def compare(own_ms: Sequence[float], other_ms: Sequence[float], reference: str, is_overhead: bool) -> Row:
    """What the pairs say of the contender's time over its reference's."""
    pairs = list(zip(own_ms, other_ms, strict=True))
    done: Row = {
        "reference": reference,
        "reference_ms": spread(other_ms, 3),
        "time_over_reference": spread([own / other for own, other in pairs], 4),
    }
    if is_overhead:
        done["prior_overhead_percent"] = spread([100 * (own / other - 1) for own, other in pairs], 3)
        done["prior_overhead_ms"] = spread([own - other for own, other in pairs], 4)
    return done


def difference(expected: Sequence[Tensor], drawn: Sequence[Tensor]) -> Row:
    """PSNR over all pictures in dB, null if they are equal; and the largest difference of a value of 0..255."""
    errors = torch.stack([a.double() - b.double() for a, b in zip(expected, drawn, strict=True)])
    mean = errors.square().mean().item()
    psnr = round(10 * math.log10(255**2 / mean), 2) if mean else None
    return {"psnr_db": psnr, "largest_difference_levels": int(errors.abs().max())}


def with_limits(done: Row, limits: Row) -> Row:
    """A row with the rate that its median time amounts to, and the share of the attainable one."""
    if "gflop" not in done or "gemm_tflops_per_s" not in limits:
        return done
    rate = done["gflop"] / done["ms"]["median"]
    share = 100 * rate / limits["gemm_tflops_per_s"]
    bound = done["gflop"] / limits["gemm_tflops_per_s"]
    return done | {
        "tflops_per_s": round(rate, 4),
        "share_of_compute_limit_percent": round(share, 2),
        "compute_limit_ms": round(bound, 4),
    }


def summary(done: Row) -> str:
    """A row in a few words."""
    if done["status"] != "measured":
        return f"{done['status']}: {str(done['reason']).splitlines()[0]}"
    return f"{done['ms']['median']:.2f} ms, built in {done['build_s']} s"


def print_table(report: Row) -> None:
    limits, environment = report["limits"], report["machine"]
    print(f"{environment['gpu'] or environment['cpu']}, PyTorch {environment['torch']}, model {report['model']}")
    print(f"timed: {report['timed']}")
    if limits["status"] == "measured":
        rates = f"{limits['gemm_tflops_per_s']} TFLOP/s ({limits['gemm']}), {limits['copy_gb_per_s']} GB/s copied"
        print(f"attainable: {rates}")
    print(f"{'':36}{'ms':>9}{'p10':>9}{'p90':>9}{'n':>5}{'x ref.':>8}{'PSNR dB':>9}{'limit %':>9}  reference")
    for row in report["contenders"]:
        print(f"{row['name']:36}" + (_cells(row) if row["status"] == "measured" else f"  {summary(row)}"))


def _cells(row: Row) -> str:
    ms = row["ms"]
    ratio = f"{row['time_over_reference']['median']:.3f}" if "reference" in row else "-"
    equal = "equal" if row["largest_difference_levels"] == 0 else "-"
    psnr = f"{row['psnr_db']:.1f}" if row["psnr_db"] is not None else equal
    share = f"{row['share_of_compute_limit_percent']:.1f}" if "share_of_compute_limit_percent" in row else "-"
    overhead = row.get("prior_overhead_percent")
    more = f", prior +{overhead['median']} % ({overhead['p10']} to {overhead['p90']})" if overhead else ""
    times = f"{ms['median']:9.2f}{ms['p10']:9.2f}{ms['p90']:9.2f}{ms['n']:5}"
    return f"{times}{ratio:>8}{psnr:>9}{share:>9}  {row.get('reference', '')}{more}"


if __name__ == "__main__":
    sys.exit(main())
