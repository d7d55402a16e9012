"""pahi-rt bench scaling: what a million and a billion pictures take, reckoned from reports and published figures.

Nothing is measured here. A time is measured where a report has it, published where another program's README has it, and
derived for a card of which neither is known: from the nearest card that is known, by the ratio of the published peaks
of compute and of memory. Each kernel is held up by one or the other, so the time lies between the two.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pahi_rt.bench import devices, machine
from pahi_rt.bench.devices import CPU_DOLLARS_PER_H, H100, H200, L4, RTX_3090, RTX_4090, Card
from pahi_rt.bench.reports.bulk import BulkReport
from pahi_rt.bench.reports.cuda import CudaReport, CudaRow
from pahi_rt.bench.reports.report import Report
from pahi_rt.bench.reports.scaling import (
    ASSUMED,
    DERIVED,
    MEASURED,
    PUBLISHED,
    Assumption,
    Device,
    Limit,
    Range,
    ScalingReport,
    Shared,
    Stored,
    Work,
)
from pahi_rt.bench.reports.stages import DRIVER, HASHES, NOISE, TOKENS, WRITING, StagesReport
from pahi_rt.bench.reports.table2 import TEXT_ENCODER, ComponentWork, Table2Report
from pahi_rt.errors import ReportError

R = TypeVar("R", bound=Report)

SD_TURBO, EMBEDDED = "SD-Turbo, 512 x 512", "embedded model, 128 x 128"
DAYS = {10**6: 1, 10**9: 30}
"""Pictures -> days in which they should be done."""
_FORMATS = ("png", "webp, quality 90", "jpeg")
_PER_SHARD, _OBJECTS = 1000, 3
"""Pictures in a shard, and objects for a shard or for a single picture."""


@dataclass(frozen=True)
class Sources:
    """The reports that all of it comes from."""

    fp32: Table2Report
    """SD-Turbo's architecture on a CPU."""
    int8: Table2Report
    embedded: Table2Report
    gpu: CudaReport
    bulk: BulkReport
    stages: StagesReport


def read_sources(folder: Path) -> Sources:
    """Read the reports in bench/results/. Raises ReportError."""

    def read(kind: type[R], name: str) -> R:
        try:
            return kind.from_dict(json.loads((folder / name).read_bytes()), name)
        except (OSError, ValueError) as error:
            raise ReportError(f"{folder / name} cannot be read: {error}", fix="run this in the checkout") from error

    return Sources(
        fp32=read(Table2Report, "amd-epyc-2-cores/sd-turbo-table2-fp32.json"),
        int8=read(Table2Report, "amd-epyc-2-cores/sd-turbo-table2-int8.json"),
        embedded=read(Table2Report, "amd-epyc-avx2-2-cores/emoji-table2.json"),
        gpu=read(CudaReport, "nvidia-h200/sd-turbo-cuda.json"),
        bulk=read(BulkReport, "amd-epyc-avx2-2-cores/emoji-bulk.json"),
        stages=read(StagesReport, "amd-epyc-avx2-2-cores/bulk-stages.json"),
    )


def reckon(sources: Sources) -> ScalingReport:
    """The whole report."""
    found = (*_cpus(sources), *_cards(sources))
    return ScalingReport(
        command=machine.command(),
        devices=found,
        works=tuple(_work(device, pictures) for pictures in DAYS for device in found),
        stored=tuple(_stored(sources.stages, kind, pictures) for pictures in DAYS for kind in _FORMATS),
        shared=_shared(sources.stages, max(device.pictures_per_s.best for device in found)),
        assumptions=_assumptions(sources),
    )


def _cpus(sources: Sources) -> list[Device]:
    """Machines of two cores. Times of the graph are those of both cores, with tokens and noise in them."""
    bulk = sources.bulk.several_per_s
    whole = Device(
        name=f"{_two_cores(sources.bulk)}, {sources.bulk.processes} processes",
        model=EMBEDDED,
        draw_ms=_exactly(1000 / bulk.median),
        kind=MEASURED,
        how="`bench bulk`: the whole of it, two processes",
        cores=2,
        serial_per_s=_exactly(bulk.median),
        pictures_per_s=_exactly(bulk.median),
        dollars_per_h=CPU_DOLLARS_PER_H,
    )
    graphs = ((EMBEDDED, 128, sources.embedded), (SD_TURBO, 512, sources.fp32), (SD_TURBO, 512, sources.int8))
    return [whole, *(_cpu(model, pixels, report, sources.stages) for model, pixels, report in graphs)]


def _cpu(model: str, pixels: int, report: Table2Report, stages: StagesReport) -> Device:
    runtime = max(report.working, key=lambda one: one.images_per_s["1"])
    draw_ms, host_ms = 1000 / runtime.images_per_s["1"], _host_ms(stages, pixels) - _inputs_ms(stages, pixels)
    return Device(
        name=f"{_two_cores(report)}, {report.precision}",
        model=model,
        draw_ms=_exactly(draw_ms),
        kind=MEASURED,
        how=f"`bench table2`: {runtime.runtime}",
        cores=2,
        host_ms=round(host_ms, 2),
        serial_per_s=_exactly(1000 / (draw_ms + host_ms)),
        pictures_per_s=_exactly(1000 / (draw_ms + host_ms / 2)),
        dollars_per_h=CPU_DOLLARS_PER_H,
    )


def _two_cores(report: Report) -> str:
    return f"{report.machine.cores} cores, {(report.machine.cpu or '').replace('(R)', '').split(' Processor')[0]}"


def _cards(sources: Sources) -> list[Device]:
    h200 = _measured_ms(sources.gpu)
    rtx_4090 = _published_ms(sources.fp32.work)
    times = {
        L4: (_derive(rtx_4090, RTX_4090, L4), DERIVED, "from the RTX 4090"),
        RTX_3090: (_derive(rtx_4090, RTX_4090, RTX_3090), DERIVED, "from the RTX 4090"),
        RTX_4090: (_exactly(rtx_4090), PUBLISHED, "StreamDiffusion's README, and the text encoder at the same rate"),
        H100: (_derive(h200, H200, H100), DERIVED, "from the H200"),
        H200: (_exactly(h200), MEASURED, "`bench cuda`: its fastest way, batch 1"),
    }
    return [_card(card, *known, sources) for card, known in times.items()]


def _card(card: Card, draw_ms: Range, kind: str, how: str, sources: Sources) -> Device:
    host_ms, cores = _host_ms(sources.stages, 512), devices.CORES_BESIDE_A_GPU
    ends = (draw_ms.best, draw_ms.worst)
    return Device(
        name=card.name,
        model=SD_TURBO,
        draw_ms=draw_ms,
        kind=kind,
        how=how,
        limit=_limit(card, sources.fp32.work),
        cores=cores,
        host_ms=round(host_ms, 2),
        serial_per_s=_range(*(1000 / (ms + host_ms) for ms in ends)),
        pictures_per_s=_range(*(1000 / max(ms, host_ms / cores) for ms in ends)),
        jpeg_per_s=_range(*(1000 / max(ms, _host_ms(sources.stages, 512, "jpeg") / cores) for ms in ends)),
        dollars_per_h=round(card.dollars_per_h, 3),
    )


def _measured_ms(report: CudaReport) -> float:
    """The fastest way to draw one whole picture in one step without a prior, whose cost is below half a percent."""
    rows = [row for row in report.contenders if isinstance(row, CudaRow) and row.batch is None]
    others = ("two steps", "PAHI", " alone")
    return min(row.ms.median for row in rows if not any(name in row.name for name in others))


def _published_ms(work: Mapping[str, ComponentWork]) -> float:
    """StreamDiffusion's time, and the text encoder at the same rate: there, the prompt was encoded before."""
    total = sum(part.gflop for part in work.values())
    return 1000 / devices.RTX_4090_PER_S * total / (total - work[TEXT_ENCODER].gflop)


def _derive(ms: float, known: Card, card: Card) -> Range:
    ratios = (known.fp16_tflops / card.fp16_tflops, known.gb_per_s / card.gb_per_s)
    return _range(ms * min(ratios), ms * max(ratios))


def _limit(card: Card, work: Mapping[str, ComponentWork]) -> Limit:
    gflop, megabytes = (sum(getattr(part, name) for part in work.values()) for name in ("gflop", "weights_mb"))
    # The report counts weights of 32 bits, and GPUs read 16.
    return Limit(
        compute_ms=round(gflop / card.fp16_tflops, 2),
        weights_ms=round(megabytes / 2 / card.gb_per_s, 2),
    )


def _host_ms(stages: StagesReport, pixels: int, kind: str = "png") -> float:
    """Milliseconds of one core for a picture of this format in a shard of webdataset."""
    files = sum(stages.find(name, pixels).ms.median for name in (kind, HASHES, WRITING))
    return _inputs_ms(stages, pixels) + files


def _inputs_ms(stages: StagesReport, pixels: int) -> float:
    return stages.find(TOKENS).ms.median + stages.find(NOISE, pixels).ms.median


def _work(device: Device, pictures: int) -> Work:
    rates = (device.pictures_per_s.best, device.pictures_per_s.worst)
    hours = [pictures / rate / 3600 for rate in rates]
    return Work(
        device=device.name,
        model=device.model,
        pictures=pictures,
        hours=_range(*hours),
        days=DAYS[pictures],
        machines=_range(*(math.ceil(one / 24 / DAYS[pictures]) for one in hours)),
        dollars=_range(*(one * device.dollars_per_h for one in hours)),
    )


def _stored(stages: StagesReport, kind: str, pictures: int) -> Stored:
    size = stages.find(kind, 512).bytes or 0.0
    puts = _OBJECTS * pictures / 1000 * devices.S3_DOLLARS_PER_1000_PUTS
    return Stored(
        pixels=512,
        pictures=pictures,
        format=kind,
        terabytes=round(size * pictures / 1e12, 3),
        dollars_per_month=round(size * pictures / 1e9 * devices.S3_DOLLARS_PER_GB_MONTH, 2),
        shard_dollars=round(puts / _PER_SHARD, 3),
        files_dollars=round(puts, 2),
    )


def _shared(stages: StagesReport, fastest: float) -> tuple[Shared, ...]:
    """What all workers share, and how many of the fastest kind it is enough for."""
    puts = devices.S3_PUTS_PER_S / _OBJECTS
    rates = {
        "the driver, which reads and hands out rows": (1000 / stages.find(DRIVER).ms.median, MEASURED),
        f"a prefix of S3, shards of {_PER_SHARD} pictures": (puts * _PER_SHARD, PUBLISHED),
        "a prefix of S3, single files": (puts, PUBLISHED),
    }
    return tuple(
        Shared(name=name, pictures_per_s=round(rate), workers=int(rate / fastest), kind=kind)
        for name, (rate, kind) in rates.items()
    )


def _assumptions(sources: Sources) -> tuple[Assumption, ...]:
    cards = (L4, RTX_3090, RTX_4090, H100, H200)
    peaks = "; ".join(f"{card.name} {card.fp16_tflops:g} TFLOP/s and {card.gb_per_s:g} GB/s" for card in cards)
    total = sum(part.gflop for part in sources.fp32.work.values())
    listed = {
        MEASURED: [
            f"one picture of SD-Turbo's architecture takes {total:.0f} GFLOP, counted in its graph",
            f"the time of all but the graph, on {sources.stages.machine.title}; a GPU's machine may have faster cores",
        ],
        PUBLISHED: [f"peaks of 16-bit products and of memory: {peaks}", *devices.PRICES],
        DERIVED: [
            "a card that nobody has measured: from the nearest known one, by the ratio of the peaks of compute (one end"
            " of the range) and of memory (the other)"
        ],
        ASSUMED: [
            "batch 1; on large GPUs, batches should be faster, which has not been measured",
            f"a GPU's machine has {devices.CORES_BESIDE_A_GPU} cores, and as many processes share the GPU, so that some"
            f" encode while others draw (`--processes-count {devices.CORES_BESIDE_A_GPU}`; untried on a GPU)",
            "pictures are PNG files in webdataset's shards",
            "a photograph takes as long to encode as a picture of SD-Turbo",
            "another program's rate is pahi-rt's too: of pahi-rt's runtimes, none has been timed on these GPUs yet",
            "machines never wait and are never lost: `bench shards` says what that costs",
        ],
    }
    return tuple(Assumption(kind, text) for kind, texts in listed.items() for text in texts)


def _exactly(value: float) -> Range:
    return _range(value, value)


def _range(best: float, worst: float) -> Range:
    return Range(_round(best), _round(worst))


def _round(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
