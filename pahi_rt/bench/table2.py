"""pahi-rt bench table2: the paper's Table 2 of a bundle on this machine, with every runtime that works here.

Rows are one and two denoising steps, without a prior and with each prior of the bundle. The timed region is what a user
waits for: tokenising, noise, the whole graph, the picture as an image; not the PNG. Prompts are "fresh" for each
picture, as in the paper, or "cached": the text encoder has read them before, as StreamDiffusion times. Every row takes
turns with one step of the same runtime, picture by picture. Its ratio is the median of the ratios pair by pair, with a
95 % interval by bootstrap. Memory is the peak of a separate process that draws one picture. A row's limit is what its
convolutions and matrix products take at the rate of one large product, or its weights at the rate of copies in memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pahi_rt import Pipeline
from pahi_rt.bench import machine
from pahi_rt.bench.components import time_components
from pahi_rt.bench.derived import ON_A_CPU, copy_with_plain, open_cached
from pahi_rt.bench.limits import measure_limits
from pahi_rt.bench.memory import peak_memory
from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.bench.reports.report import Limits, Spread
from pahi_rt.bench.reports.table2 import (
    TEXT_ENCODER,
    ComponentWork,
    RuntimeRows,
    Table2Report,
    Table2Row,
    Unavailable,
)
from pahi_rt.bench.scores import Judges
from pahi_rt.bench.timing import UNTIMED, Draw, race, ratio, spread, take_turns
from pahi_rt.bench.work import Work, count_work
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.machine import usable_cores
from pahi_rt.manifest import GAUSSIAN

SLOW_S = 0.5
"""Seconds; a picture that takes longer finds nothing in the caches, even with an untimed one before it."""
TIMED = "tokenising, noise, graph, image; not the PNG"
OnRow = Callable[[str, float], None]
"""Called after each row with its name and its median in milliseconds."""


@dataclass(frozen=True)
class Settings:
    runtimes: tuple[str, ...] = ON_A_CPU
    precision: str | None = None
    """The bundle's first precision if None."""
    pictures: int = 100
    """Timed pictures per row; every tenth adds a round of warm-up."""
    batches: tuple[int, ...] = (1, 2, 4, 8)
    """Sizes of a batch for which pictures per second are measured."""
    scored: int = 320
    """Test prompts that each row is scored on, from the recipe named like the bundle, if there is one."""
    is_forced: bool = False
    """Measure even if the machine is busy."""


@dataclass(frozen=True)
class Row:
    """One way to draw."""

    prior: str
    steps: int
    is_cached: bool = False

    def __str__(self) -> str:
        prior = [] if self.prior == GAUSSIAN else [f"{self.prior.upper()},"]
        return " ".join([*prior, f"{self.steps} step{'s' * (self.steps > 1)}", *["cached"] * self.is_cached])


ONE_STEP = Row(GAUSSIAN, 1)


def measure(source: str | Path, settings: Settings, on_row: OnRow = lambda name, ms: None) -> Table2Report:
    """The whole report; a runtime that does not work here is listed with its reason.

    Raises PahiError for a busy machine, and BundleError for what the bundle lacks.
    """
    busy, environment = machine.check_idle(settings.is_forced), machine.describe()
    bundle = open_bundle(source)
    precision = bundle.choose_precision(settings.precision)
    limits = measure_limits(usable_cores())
    with tempfile.TemporaryDirectory() as scratch:
        judges = Judges(bundle.manifest.name, settings.scored)
        bench = Bench(copy_with_plain(bundle, Path(scratch), precision), settings, limits, judges)
        work, runtimes = bench.work, tuple(bench.run(name, on_row) for name in settings.runtimes)
    image = bundle.manifest.image
    return Table2Report(
        command=machine.command(),
        machine=environment,
        busy=busy,
        timed=TIMED,
        bundle=bundle.manifest.name,
        precision=precision,
        picture=(image.height, image.width),
        scored_prompts=len(judges.prompts),
        limits=limits,
        work=work,
        runtimes=runtimes,
    )


class Bench:
    """Times the rows of one bundle, runtime by runtime, against one step without a prior."""

    def __init__(self, bundle: Bundle, settings: Settings, limits: Limits, judges: Judges) -> None:
        """`bundle` is a copy with graphs that have no prior, in a folder where files may be written."""
        self.bundle, self.settings, self.limits, self.judges = bundle, settings, limits, judges
        self.precision = bundle.precisions[0]

    def run(self, runtime: str, on_row: OnRow) -> RuntimeRows | Unavailable:
        """All measurements of one runtime, or why it does not work here."""
        try:
            untimed = _choose_untimed(self._open(ONE_STEP, runtime))
            # First, because this process will hold two graphs of gigabytes, and the other one a third.
            peaks = {
                row: None if row.is_cached else peak_memory(self.bundle, row.steps, row.prior, runtime)
                for row in self._rows(runtime)
            }
            return RuntimeRows(
                runtime=runtime,
                rows=tuple(self._time_all(runtime, untimed, peaks, on_row)),
                images_per_s={str(size): self._rate(runtime, size) for size in self.settings.batches},
                components_ms=self._time_components(runtime, untimed),
            )
        except PahiError as error:
            return Unavailable(runtime, error.what, error.fix)

    @property
    def work(self) -> dict[str, ComponentWork]:
        """Component -> its work for one picture of the default prior in one step."""
        return {
            name: ComponentWork(
                round(part.gflop, 3),
                round(part.weights_mb, 3),
                round(part.activations_mb, 3),
                round(self._limit_of(part), 3),
            )
            for name, part in self._count(self._default).items()
        }

    @property
    def _default(self) -> Row:
        return Row(self.bundle.priors[0] if self.bundle.priors else GAUSSIAN, 1)

    def _rows(self, runtime: str) -> Iterator[Row]:
        steps, priors = sorted(self.bundle.graphs(GAUSSIAN)), [GAUSSIAN, *reversed(self.bundle.priors)]
        yield from (Row(prior, count) for count in steps for prior in priors)
        if runtime in ON_A_CPU:
            yield from (Row(prior, 1, is_cached=True) for prior in priors)

    def _open(self, row: Row, runtime: str) -> Draw:
        if row.is_cached:
            return open_cached(self.bundle, self.bundle.graph(row.steps, row.prior), runtime)
        pipeline = self._load(row, runtime)
        return lambda number: pipeline(PROMPTS[number % len(PROMPTS)], seed=abs(number))

    def _load(self, row: Row, runtime: str, batch: int = 1) -> Pipeline:
        return Pipeline.load(self.bundle, steps=row.steps, runtime=runtime, prior=row.prior, batch_size=batch)

    def _time_all(
        self, runtime: str, untimed: int, peaks: Mapping[Row, float | None], on_row: OnRow
    ) -> Iterator[Table2Row]:
        """The row of each key of `peaks`; its value is that row's peak memory."""
        one_step = self._open(ONE_STEP, runtime)
        for row, peak in peaks.items():
            timed = self._time(row, runtime, one_step, untimed, peak)
            on_row(f"{runtime}: {row}", timed.ms.median)
            yield timed

    def _time(self, row: Row, runtime: str, one_step: Draw, untimed: int, peak: float | None) -> Table2Row:
        pictures = self.settings.pictures
        draw = one_step if row == ONE_STEP else self._open(row, runtime)
        taken = race(draw, one_step, pictures, warm_up=1 + pictures // 10, untimed=untimed)
        limit, times = self._limit(row), spread(taken.own)
        return Table2Row(
            row=str(row),
            prior=row.prior,
            steps=row.steps,
            prompt="cached" if row.is_cached else "fresh",
            ms=times,
            time_over_one_step=ratio(taken.own, taken.reference),
            scores=None if row.is_cached else self.judges.score(self._load(row, runtime)),
            limit_ms=round(limit, 2),
            share_of_limit_percent=round(100 * limit / times.median, 1),
            peak_rss_mib=peak,
        )

    def _rate(self, runtime: str, size: int) -> float:
        """Pictures per second of the default row, drawn `size` at once."""
        pipeline = self._load(self._default, runtime, size)
        (taken,) = take_turns([lambda number: pipeline([PROMPTS[0]] * size, seed=abs(number))], 5, 1)
        return round(1000 * size / spread(taken).median, 3)

    def _time_components(self, runtime: str, untimed: int) -> dict[str, Spread] | None:
        """Milliseconds of each component; None where a runtime cannot run parts of a graph."""
        if runtime not in ON_A_CPU:
            return None
        graph = self.bundle.graph(1, self._default.prior)
        return time_components(self.bundle, graph, runtime, max(3, self.settings.pictures // 4), untimed=untimed)

    def _count(self, row: Row) -> dict[str, Work]:
        # The file was written here; opening it through the bundle would hash gigabytes of weights.
        return count_work(self.bundle.path / self.bundle.graph(row.steps, row.prior).file)

    def _limit(self, row: Row) -> float:
        """The least milliseconds that this machine needs for a picture."""
        parts = self._count(row)
        return sum(self._limit_of(part) for name, part in parts.items() if not (row.is_cached and name == TEXT_ENCODER))

    def _limit_of(self, part: Work) -> float:
        rate = self.limits.int8_gop_per_s if self.precision == "int8" else self.limits.fp32_gflop_per_s
        return part.limit_ms(rate, self.limits.copy_gb_per_s)


def _choose_untimed(draw: Draw) -> int:
    started = time.perf_counter()
    draw(0)
    return UNTIMED if time.perf_counter() - started < SLOW_S else 0
