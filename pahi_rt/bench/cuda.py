"""pahi-rt bench cuda: latency of one-step generation on an NVIDIA GPU, one way to run it after the other.

Method. All ways ("contenders") run one model with random weights, at batch 1 and some at 4 and 16. Inside the timed
region: the copy of token ids and noise from (pinned) host memory, text encoder, UNet, decoder, rounding to bytes, the
copy of the picture into host memory, and waiting for it. Outside: tokenising, drawing noise, encoding a PNG. Every
picture has another prompt and noise than the one before, and nothing is kept from prompt to prompt. Each contender
takes turns with its reference, picture by picture, so that their ratios compare the same moments. Medians are given
with the 10th and 90th percentile. PSNR compares with eager fp32 without TF32, from the same inputs. FLOPs are counted
for convolutions and matrix products; shares compare with the rate of one large matrix product in the same run. Each
contender has a process of its own, which makes its reference too, and a time limit. One that fails, crashes or hangs is
listed with its reason, and the others go on; the report is rewritten after each. With --device cpu --model tiny it
shows that it works, and its times mean nothing.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pahi_rt import PahiError
from pahi_rt.bench import machine
from pahi_rt.bench.apart import run_apart
from pahi_rt.bench.cuda_contenders import EAGER, RANDOM, Built, Contender, Setup, contenders, run_eager
from pahi_rt.bench.limits import measure_device_limits
from pahi_rt.bench.reports.cuda import (
    Comparison,
    CudaFailure,
    CudaReport,
    CudaRow,
    DeviceLimits,
    Difference,
    Failure,
    Overhead,
    Share,
)
from pahi_rt.bench.reports.report import write
from pahi_rt.bench.timing import Race, race, spread
from pahi_rt.models.arithmetic import forgo_tf32
from pahi_rt.pictures import rounded_psnr
from pahi_rt.terminal import command

TIMED = "host to host: ids and noise in, text encoder, UNet, decoder, bytes out; a fresh prompt for every picture"

PRELOAD = "pahi_rt.bench.cuda"
Save = Callable[[CudaReport], None]
OnRow = Callable[[float, "CudaRow | CudaFailure"], None]
"""Called after each contender with the seconds since the start and its row."""


@dataclass(frozen=True)
class CudaSettings:
    device: str = "cuda"
    model: str = "sd-turbo"
    """A diffusers folder, or one of RANDOM: an architecture with random weights."""
    work: Path | None = None
    """Folder that random weights are kept in; a temporary one if None."""
    bundle: Path | None = None
    precision: str | None = None
    """Precision of the bundle's graph; the bundle's first if None."""
    pictures: int = 60
    """Pairs of pictures for each contender."""
    budget_s: float = math.inf
    """Time after which no contender is begun."""
    limit_s: float = 600.0
    """Time that one contender may take."""
    autotune: bool = False
    """Try torch.compile's max-autotune too."""
    output: Path | None = None
    """File that the report is written to after every contender."""


def run(settings: CudaSettings, on_row: OnRow = lambda seconds, row: None) -> CudaReport:
    """The whole report. Raises PahiError for what cannot work."""
    check(settings.device, settings.model, settings.output)
    with tempfile.TemporaryDirectory() as scratch:
        work = settings.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        setup = Setup(settings.device, settings.model, work, settings.bundle, settings.precision)
        rows = contenders(setup, autotune=settings.autotune)
        save = partial(write, path=settings.output)
        return measure(setup, rows, settings.pictures, settings.budget_s, save, on_row, settings.limit_s)


def check(device: str, model: str, output: Path | None) -> None:
    """Raise PahiError for what cannot work, before anything is measured."""
    if device == "cuda" and not torch.cuda.is_available():
        raise PahiError("PyTorch sees no NVIDIA GPU here", fix="run it where one is, or add --device cpu --model tiny")
    if model not in RANDOM and not Path(model).is_dir():
        raise PahiError(f"there is no folder {model}", fix=f"give a diffusers folder, or one of {', '.join(RANDOM)}")
    if output is not None and not output.parent.is_dir():
        raise PahiError(f"there is no folder {output.parent}", fix=command("mkdir", "-p", output.parent))


def measure(
    setup: Setup,
    rows: Sequence[Contender],
    pictures: int,
    budget_s: float,
    save: Save,
    on_row: OnRow = lambda seconds, row: None,
    limit_s: float = 600.0,
) -> CudaReport:
    """The whole report; `save` gets it after every contender. The budget starts with this call."""
    started = time.perf_counter()
    known = run_apart(machine.describe_gpu, (), limit_s, PRELOAD)
    report = CudaReport(
        command=machine.command(),
        machine=machine.describe_gpu() if isinstance(known, Failure) else known,
        timed=TIMED,
        device=setup.device.type,
        model=setup.model,
        batch=1,
        limits=run_apart(_measure_limits, (setup.device,), limit_s, PRELOAD),
        contenders=(),
    )
    save(report)
    trials = Trials(setup, rows, pictures, report.limits, limit_s)
    for row in rows:
        done = trials.run(row, budget_s, time.perf_counter() - started)
        total_s = round(time.perf_counter() - started, 1)
        report = replace(report, contenders=(*report.contenders, done), total_s=total_s)
        on_row(total_s, done)
        save(report)
    return report


def settle() -> None:
    """Tune convolutions, and switch TF32 off: fp32 is the reference. One contender switches it on for itself."""
    forgo_tf32()
    torch.backends.cudnn.benchmark = True


def _measure_limits(device: torch.device) -> DeviceLimits:
    settle()
    return measure_device_limits(device)


class Trials:
    """Runs contenders, each in a process of its own, and knows which ones later ones can be timed against."""

    def __init__(
        self,
        setup: Setup,
        rows: Sequence[Contender],
        pictures: int,
        limits: DeviceLimits | Failure,
        limit_s: float,
    ) -> None:
        self.setup, self.pictures, self.limits, self.limit_s = setup, pictures, limits, limit_s
        self._rows = {row.name: row for row in rows}
        self._measured: set[str] = set()

    def run(self, row: Contender, budget_s: float, spent_s: float) -> CudaRow | CudaFailure:
        """Measure a contender, or tell why it was not measured."""
        if row.why_not is not None:
            return CudaFailure(row.name, Failure("skipped", row.why_not))
        if spent_s >= budget_s:
            reason = f"the budget of {budget_s:g} s was used up after {spent_s:.1f} s"
            return CudaFailure(row.name, Failure("skipped", reason))
        reference = next((self._rows[name] for name in (row.against, EAGER) if name in self._measured), None)
        trial = Trial(self.setup.for_batch(row.batch), row, reference, self.pictures, self.limits)
        done = run_apart(measure_row, (trial,), self.limit_s, PRELOAD)
        if isinstance(done, Failure):
            return CudaFailure(row.name, done)
        self._measured.add(row.name)
        measured: CudaRow = done
        return measured


@dataclass(frozen=True)
class Trial:
    """One contender, and what it takes turns with."""

    setup: Setup
    row: Contender
    reference: Contender | None
    """None for the first that could be measured: it is timed alone."""
    pictures: int
    limits: DeviceLimits | Failure


def measure_row(trial: Trial) -> CudaRow:
    """Time a contender and compare its pictures with eager fp32's. Raises whatever it raises."""
    settle()
    setup, row, inputs = trial.setup, trial.row, trial.setup.inputs  # loads the model: not part of the time to build
    begun = time.perf_counter()
    built = row.build(setup)
    build_s = time.perf_counter() - begun
    differs = check_pictures(setup, row, built)
    other = trial.reference.build(setup) if trial.reference else built
    own = partial(draw, built, inputs)
    taken = race(own, own if other is built else partial(draw, other, inputs), trial.pictures)
    ms, gflop, reference = spread(taken.own, 3), round(built.gflop(), 3), trial.reference
    return CudaRow(
        name=row.name,
        build_s=round(build_s, 1),
        ms=ms,
        comparison=compare(taken, reference.name) if reference else None,
        # Compared with another contender than the same without a prior, the ratio would not be its overhead.
        overhead=measure_overhead(taken) if row.is_prior and reference and reference.name == row.against else None,
        difference=differs,
        batch=row.batch if row.batch > 1 else None,
        gflop=gflop,
        precision=built.precision,
        share=share_of(trial.limits, gflop, ms.median) if isinstance(trial.limits, DeviceLimits) else None,
    )


def check_pictures(setup: Setup, row: Contender, built: Built) -> Difference:
    """How a contender's pictures differ from eager fp32's, where they should be the same."""
    if not built.is_same_picture:
        return Difference(None, None)
    eager = built if row.name == EAGER else run_eager(setup)
    expected, drawn = ([way.draw(*pair).clone() for pair in setup.inputs] for way in (eager, built))
    return difference(expected, drawn)


def draw(built: Built, inputs: Sequence[tuple[Tensor, Tensor]], number: int) -> None:
    """Draw from inputs on the host to a picture on the host; each call has other inputs than the one before."""
    built.draw(*inputs[number % len(inputs)])


def compare(taken: Race, reference: str) -> Comparison:
    """The contender's time over its reference's, pair by pair."""
    return Comparison(reference, spread(taken.reference, 3), spread(taken.ratios, 4))


def measure_overhead(taken: Race) -> Overhead:
    """The time that a prior adds, pair by pair."""
    added = [own - other for own, other in zip(taken.own, taken.reference, strict=True)]
    return Overhead(spread([100 * (value - 1) for value in taken.ratios], 3), spread(added, 4))


def difference(expected: Sequence[Tensor], drawn: Sequence[Tensor]) -> Difference:
    """How two lists of pictures differ."""
    errors = torch.stack([a.double() - b.double() for a, b in zip(expected, drawn, strict=True)])
    mean = errors.square().mean().item()
    return Difference(rounded_psnr(mean / 255**2), int(errors.abs().max()))


def share_of(limits: DeviceLimits, gflop: float, ms: float) -> Share:
    """The rate that a time amounts to, beside the device's."""
    rate, best = gflop / ms, limits.gemm_tflops_per_s
    return Share(round(rate, 4), round(100 * rate / best, 2), round(gflop / best, 4))
