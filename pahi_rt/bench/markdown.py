"""Reports as Markdown, for the README and docs/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pahi_rt.bench import bulk_tables, layer_tables
from pahi_rt.bench.cells import hardware, table
from pahi_rt.bench.reports.best import BestReport, BestScore
from pahi_rt.bench.reports.bulk import BulkReport
from pahi_rt.bench.reports.cuda import CudaReport, CudaRow
from pahi_rt.bench.reports.generator import GeneratorReport
from pahi_rt.bench.reports.latency import LatencyReport
from pahi_rt.bench.reports.operators import OperatorsReport
from pahi_rt.bench.reports.peers import PeerDescription, PeersReport
from pahi_rt.bench.reports.playground import PlaygroundReport
from pahi_rt.bench.reports.precisions import Fidelity, PrecisionsReport
from pahi_rt.bench.reports.report import Ratio, Spread
from pahi_rt.bench.reports.scaling import ScalingReport
from pahi_rt.bench.reports.sensitivity import SensitivityReport
from pahi_rt.bench.reports.serve import ServeReport
from pahi_rt.bench.reports.shards import ShardsReport
from pahi_rt.bench.reports.stages import StagesReport
from pahi_rt.bench.reports.table2 import RuntimeRows, Table2Report, Table2Row
from pahi_rt.comparison import Comparison
from pahi_rt.evaluate.report import Report as Evaluation
from pahi_rt.evaluate.report import Row
from pahi_rt.manifest import PRECISIONS
from pahi_rt.record import Record

Json = dict[str, Any]
K = TypeVar("K", bound=Record)


def cold_start(report: LatencyReport) -> str:
    """Pictures in a running process, and from start to exit of a new one."""
    rows = [
        ("one picture, one step", *_times(report.one_step_ms, 1, ".1f", "ms")),
        ("one picture, two steps", *_times(report.two_steps_ms, 1, ".1f", "ms")),
        ("`pahi-rt generate`, start to exit", *_times(report.cold_start_ms, 1e-3, ".2f", "s")),
    ]
    return table(("", "median", "p10", "p90"), rows) + "\n\n" + hardware(report)


def _times(ms: Spread, scale: float, form: str, unit: str) -> list[str]:
    return [f"{value * scale:{form}} {unit}" for value in (ms.median, ms.p10, ms.p90)]


def table2(report: Table2Report) -> str:
    """The paper's Table 2: what each row costs beside one step, and what it scores. A table for each runtime."""
    scorers = report.scorers
    blocks = [block for runtime in report.working for block in _timed(runtime, scorers)]
    missing = [f"{runtime.runtime}: {runtime.reason}" for runtime in report.missing]
    return "\n\n".join([*blocks, *missing, hardware(report)])


def _timed(runtime: RuntimeRows, scorers: Sequence[str]) -> tuple[str, str]:
    tails = [name for name, least in _TAILS.items() if any(row.ms.n >= least for row in runtime.rows)]
    head = ("", "median ms", *tails, "x one step (95 %)", "RSS MiB", "of limit", *scorers)
    counts = sorted({row.ms.n for row in runtime.rows})
    title = f"**{runtime.runtime}**, each row timed on {' or '.join(map(str, counts))} pictures:"
    return title, table(head, [_cells(row, tails, scorers) for row in runtime.rows])


_TAILS = {"p90": 10, "p99": 100}
"""Percentile -> the least number of values that tell it: of fewer it would be the largest of them."""


def _cells(row: Table2Row, tails: Sequence[str], scorers: Sequence[str]) -> tuple[object, ...]:
    ms, scores = row.ms, row.scores or {}
    name = row.row.removesuffix(" cached") + (f", {row.prompt}" if row.prompt != "fresh" else "")
    memory = "" if row.peak_rss_mib is None else f"{row.peak_rss_mib:.0f}"
    times = [f"{getattr(ms, tail):.1f}" if ms.n >= _TAILS[tail] else "" for tail in tails]
    share = f"{row.share_of_limit_percent:.0f} %"
    scored = (f"{scores[x]:.3f}" if x in scores else "" for x in scorers)
    return name, f"{ms.median:.1f}", *times, _ratio(row.time_over_one_step), memory, share, *scored


def _ratio(times: Ratio) -> str:
    """With its 95 % interval, unless it compares a thing with itself."""
    if times.low == times.high == 1:
        return "1"
    return f"{times.median:.3f} ({times.low:.3f}-{times.high:.3f})"


def components(report: Table2Report) -> str:
    """Where one picture's time goes, and the work of each component."""
    timed = {runtime.runtime: runtime.components_ms for runtime in report.working if runtime.components_ms is not None}
    head = ("component", "GFLOP", "weights MB", "limit ms", *(f"{runtime} ms" for runtime in timed))
    rows = [
        (name, f"{work.gflop:.2f}", f"{work.weights_mb:.1f}", f"{work.limit_ms:.2f}")
        + tuple(f"{parts[name].median:.2f}" for parts in timed.values())
        for name, work in report.work.items()
    ]
    limits = report.limits
    note = (
        f"Limits: {limits.fp32_gflop_per_s:.0f} GFLOP/s in 32 bits and {limits.int8_gop_per_s:.0f} in 8 in"
        f" {limits.gemm}, {limits.copy_gb_per_s:.0f} GB/s in copies."
    )
    return table(head, rows) + "\n\n" + note


def batches(report: Table2Report) -> str:
    """Pictures per second by the number that are drawn at once."""
    sizes = list(report.working[0].images_per_s)
    rows = [(r.runtime, *(f"{r.images_per_s[size]:.3g}" for size in sizes)) for r in report.working]
    return table(("pictures/s, batch of", *sizes), rows)


def peers(report: PeersReport) -> str:
    """Contenders side by side, fastest first; then those that do not work, with the reason."""
    reference = report.reference
    rows = [
        (row.time_over_reference.median, _contender(row, row.ms, _ratio(row.time_over_reference)))
        for row in report.measured
    ]
    if report.measured:
        rows.append((1.0, _contender(reference, report.measured[0].reference_ms, "1")))
    head = ("", "version", "decoder", "median ms", "n", f"x {reference.name} (95 %)")
    missing = [f"- {row.name}: {row.reason}" for row in report.failed]
    reasons = ["Not measured:\n\n" + "\n".join(missing)] if missing else []
    return "\n\n".join([table(head, [cells for _, cells in sorted(rows)]), *reasons, hardware(report)])


def _contender(peer: PeerDescription, ms: Spread, ratio: str) -> tuple[object, ...]:
    return peer.name, peer.version, peer.decoder, f"{ms.median:.0f}", ms.n, ratio


def precisions(report: PrecisionsReport) -> str:
    """What each precision costs in quality, and what it saves."""
    scorers = list(report.fp32_scores)
    head = ("precision", "runtime", "median ms", "time, of fp32", "PSNR dB, all / worst picture", "SSIM")
    rows = sorted(report.rows, key=lambda row: (PRECISIONS.index(row.precision), row.runtime))
    lines = [
        (row.precision, row.runtime, f"{row.ms:.1f}", f"{row.time_over_fp32:.2f}")
        + (_fidelity(row.fidelity), f"{row.fidelity.ssim:.3f}")
        + tuple(f"{row.changes[label]:+.1f} %" for label in scorers)
        for row in rows
    ]
    return table((*head, *(f"score, {label}" for label in scorers)), lines) + "\n\n" + hardware(report)


def _fidelity(fidelity: Fidelity) -> str:
    return "equal" if fidelity.psnr_db is None else f"{fidelity.psnr_db:.1f} / {fidelity.worst_psnr_db:.1f}"


def cuda(report: CudaReport) -> str:
    """How PyTorch runs the fused module, and the contenders that could not be measured."""
    rows = [
        _cuda_cells(row) if isinstance(row, CudaRow) else (row.name, "", "", row.failure.reason or row.failure.status)
        for row in report.contenders
    ]
    return table(("", "median ms", "of limit", ""), rows) + "\n\n" + hardware(report)


def _cuda_cells(row: CudaRow) -> tuple[object, ...]:
    against, share = row.comparison, row.share
    ratio = f"{against.time_over_reference.median:.3f} x {against.reference}" if against else ""
    return row.title, f"{row.ms.median:.1f}", f"{share.share_of_compute_limit_percent:.0f} %" if share else "", ratio


def load(report: ServeReport) -> str:
    """What the service does when more is asked than it can draw."""
    ms, last = report.drawn_ms, report.moments[-1].rss_mib
    rows = [
        ("can draw, measured before", f"{report.capacity_per_s:g} requests/s"),
        ("asked", f"{report.offered_per_s:g} requests/s; {report.requests:,} in {len(report.moments)} s"),
        ("drawn", f"{report.drawn:,}; {report.drawn_per_s:.2f} requests/s"),
        ("refused with 429", f"{report.refused:,}"),
        ("accepted, and lost", f"{report.lost:,}"),
        ("time to a picture, median / p99", f"{ms.median / 1000:.2f} s / {(ms.p99 or 0) / 1000:.2f} s"),
        (
            "memory before / at most / at the end",
            f"{report.started_rss_mib:.0f} / {report.peak_rss_mib:.0f} / {last:.0f} MiB",
        ),
    ]
    return table(("", f"{report.workers} worker{'s' * (report.workers > 1)}"), rows) + "\n\n" + hardware(report)


def playground(report: PlaygroundReport) -> str:
    """What somebody who types waits for a picture."""
    rows = [(page.engine, *_times(page.shown_ms, 1, ".0f", "ms"), page.shown_ms.n) for page in report.pages]
    head = ("drawn by", "key to picture, median", "p10", "p90", f"of {report.keys} keys")
    note = f"In {report.browser}, which shares the machine. {hardware(report)}"
    return table(head, rows) + "\n\n" + note


def best(report: BestReport) -> str:
    """What choosing gains by each judge, and what it costs."""
    head = ("", "median ms", "x one step (95 %)", *(f"{judge} ({unit})" for judge, unit in report.judges.items()))
    rows = [
        (
            row.row,
            f"{row.ms.median:.1f}",
            _ratio(row.time_over_one_step),
            *(_best(row.scores[j]) for j in report.judges),
        )
        for row in report.rows
    ]
    note = f"Mean score, and its effect with the 95 % interval, over {report.prompts} held-out prompts."
    return "\n\n".join([table(head, rows), note, hardware(report)])


def _best(score: BestScore) -> str:
    if score.effect_size is None:
        return f"{score.mean:.3f}"
    ends = score.effect_size_interval
    return f"{score.mean:.3f}; {score.effect_size:+.2f}" + (f" ({ends[0]:+.2f} to {ends[1]:+.2f})" if ends else "")


PAPER = {"PAHI": (94.0, 75.5), "HI": (64.7, 64.1)}
"""Win rates of the paper's Table 1, in percent: SD-Turbo under PickScore, which trained the priors, and ImageReward."""


def table1(report: Evaluation) -> str:
    """The paper's Table 1 over all groups of prompts together: wins and the paper's, then what the paper leaves out."""
    scorers = list(report.scorers)
    rows = [row for row in report.groups[-1].rows if row.name != "Gaussian"]
    theirs = [
        (f"paper's {kind}, SD-Turbo: PickScore, ImageReward", *(f"{rate} %" for rate in rates), *[""] * len(rates))
        for kind, rates in PAPER.items()
        if len(scorers) == len(rates)
    ]
    wins = [f"{what}, {x}" for what in ("wins", "wins, same noise") for x in scorers]
    rest = (*(f"effect, {x}" for x in scorers), "diversity", "sharpness", "KL")
    return "\n\n".join(
        [
            table(("", *wins), [*(_rates(row, scorers) for row in rows), *theirs]),
            table(("", *rest), [_evaluation(row, scorers) for row in rows]),
        ]
    )


def _rates(row: Row, scorers: Sequence[str]) -> tuple[object, ...]:
    scores = [row.scores[label] for label in scorers]
    return row.name, *map(_wins, scores), *(f"{score.same_noise_win_rate_percent:.1f} %" for score in scores)


def _evaluation(row: Row, scorers: Sequence[str]) -> tuple[object, ...]:
    scores = [row.scores[label] for label in scorers]
    effects = ["" if score.effect_size is None else f"{score.effect_size:.2f}" for score in scores]
    ratios = [f"{ratio.value:.2f}" if ratio else "" for ratio in (row.diversity_ratio, row.sharpness_ratio)]
    kl = "" if row.pictures_drawn > 1 or row.kl_nats is None else f"{row.kl_nats:.1f} nats"
    return row.name, *effects, *ratios, kl


def _wins(score: Comparison) -> str:
    ends = score.independent_win_rate_interval_percent
    interval = f" ({ends[0]:.1f}-{ends[1]:.1f})" if ends else ""
    return f"{score.independent_win_rate_percent:.1f} %{interval}"


def generator(report: GeneratorReport) -> str:
    """How well a generator of our own draws what it was trained on, without a prior."""
    columns = (report.one_step, report.two_steps)
    style = f"it has the style that the noise asks for, by latents, of {len(report.styles)}"
    # Pictures here have the same tint, so Table 1's measure, which a tint does not change, is not needed.
    sharpness = "strength of edges (variance of the Laplacian), of the drawings' on the same tint"
    rows = [
        ("nearest training picture is the right concept, by latents", *(_share(c.concept_latent) for c in columns)),
        ("the same by pixels", *(_share(c.concept_pixel) for c in columns)),
        (style, *(_share(c.style_latent) for c in columns)),
        ("the same by pixels", *(_share(c.style_pixel) for c in columns)),
        (sharpness, *(f"{c.sharpness:.2f}" for c in columns)),
    ]
    return table(("", "one step", "two steps"), rows)


_IDEAS = {
    "thing": "each thing",
    "colour": "its colour",
    "background": "the background",
    "number": "how many",
    "worn": "hat or sunglasses",
    "all": "all of these",
}
_KINDS = {
    "colour": "a colour",
    "background": "a background",
    "number": "two or three of a kind",
    "pair": "two things",
    "worn": "a hat or sunglasses",
}


def composition(report: GeneratorReport) -> str:
    """How often each idea of a composed prompt is right, without a prior."""
    found = report.composition
    kinds = {f"all {kind}": f"all, prompts with {words}" for kind, words in _KINDS.items()}
    columns = (found.one_step, found.two_steps, found.drawings)
    rows = [(words, *(_share(column[name]) for column in columns)) for name, words in (_IDEAS | kinds).items()]
    return table(("right", "one step", "two steps", "drawings, through the autoencoder"), rows)


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"


def _of(kind: type[K], render: Callable[[K], str]) -> Callable[[Json], str]:
    return lambda data: render(kind.from_dict(data))


TABLES: dict[str, Callable[[Json], str]] = {
    "batches": _of(Table2Report, batches),
    "best": _of(BestReport, best),
    "bulk": _of(BulkReport, bulk_tables.bulk),
    "cold-start": _of(LatencyReport, cold_start),
    "components": _of(Table2Report, components),
    "cuda": _of(CudaReport, cuda),
    "composition": _of(GeneratorReport, composition),
    "generator": _of(GeneratorReport, generator),
    "load": _of(ServeReport, load),
    "operators": _of(OperatorsReport, layer_tables.operators),
    "peers": _of(PeersReport, peers),
    "playground": _of(PlaygroundReport, playground),
    "precisions": _of(PrecisionsReport, precisions),
    "scaling": _of(ScalingReport, bulk_tables.works),
    "scaling-assumptions": _of(ScalingReport, bulk_tables.assumptions),
    "scaling-limits": _of(ScalingReport, bulk_tables.limits),
    "scaling-shared": _of(ScalingReport, bulk_tables.shared),
    "scaling-storage": _of(ScalingReport, bulk_tables.storage),
    "shards": _of(ShardsReport, bulk_tables.shards),
    "stages": _of(StagesReport, bulk_tables.stages),
    "sensitivity": _of(SensitivityReport, layer_tables.sensitivity),
    "table1": _of(Evaluation, table1),
    "table2": _of(Table2Report, table2),
}
"""Kind of a table, as documents ask for it -> what writes it from a report's JSON. Raises ReportError."""
