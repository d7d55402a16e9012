"""Reports as Markdown: the tables that the README and docs/ show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pahi_rt.manifest import PRECISIONS

Report = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def hardware(report: Report) -> str:
    """The line under each table: where it was measured, and how to do it again."""
    machine = report["machine"]
    features = f" ({', '.join(machine['cpu_features'])})" if machine.get("cpu_features") else ""
    cpu = machine.get("gpu") or f"{machine['cpu']}{features}, {machine['cores']} cores"
    busy = "; the machine was busy" if report.get("busy") else ""
    return f"On {cpu}{busy}: `{report['command']}`."


def cold_start(report: Report) -> str:
    """Of pahi_rt.bench: pictures in a process that runs, and from start to exit of a new one."""
    rows = [
        (name, *(f"{report[key][place] * scale:{form}} {unit}" for place in ("median", "p10", "p90")))
        for name, key, scale, form, unit in (
            ("one picture, one step", "one_step_ms", 1, ".1f", "ms"),
            ("one picture, two steps", "two_steps_ms", 1, ".1f", "ms"),
            ("`pahi-rt generate`, start to exit", "cold_start_ms", 1e-3, ".2f", "s"),
        )
    ]
    return table(("", "median", "p10", "p90"), rows) + "\n\n" + hardware(report)


def table2(report: Report) -> str:
    """The paper's Table 2 in short: what each row costs next to one step, and what it scores."""
    scorers = scorers_of(report)
    head = (
        "runtime",
        "row",
        "prompt",
        "median ms",
        "p90",
        "p99",
        "n",
        "x one step (95 %)",
        "RSS MiB",
        "of limit",
        *scorers,
    )
    rows = [_cells(runtime["runtime"], row, scorers) for runtime in working(report) for row in runtime["rows"]]
    missing = [f"{runtime['runtime']}: {runtime['reason']}" for runtime in report["runtimes"] if "reason" in runtime]
    return "\n\n".join([table(head, rows), *missing, hardware(report)])


def working(report: Report) -> list[Report]:
    """The runtimes that could be measured."""
    return [runtime for runtime in report["runtimes"] if "rows" in runtime]


def scorers_of(report: Report) -> list[str]:
    return sorted({label for runtime in working(report) for row in runtime["rows"] for label in row["scores"] or {}})


def _cells(runtime: str, row: Report, scorers: Sequence[str]) -> tuple[object, ...]:
    ms, scores = row["ms"], row["scores"] or {}
    name = row["row"].removesuffix(" cached")
    memory = "" if row["peak_rss_mib"] is None else f"{row['peak_rss_mib']:.0f}"
    # Percentiles of fewer values would be the largest one.
    tails = [f"{ms[name]:.1f}" if ms["n"] >= least else "" for name, least in (("p90", 10), ("p99", 100))]
    cells = (f"{ms['median']:.1f}", *tails, ms["n"], _ratio(row["time_over_one_step"]), memory)
    share = f"{row['share_of_limit_percent']:.0f} %"
    return runtime, name, row["prompt"], *cells, share, *(f"{scores[x]:.3f}" if x in scores else "" for x in scorers)


def _ratio(times: Report) -> str:
    """With its 95 % interval, if it is not that of a thing to itself."""
    if times["low"] == times["high"] == 1:
        return "1"
    return f"{times['median']:.3f} ({times['low']:.3f}-{times['high']:.3f})"


def components(report: Report) -> str:
    """Where one picture's time goes, and the work that each component is."""
    runtimes = [runtime for runtime in working(report) if "components_ms" in runtime]
    head = ("component", "GFLOP", "weights MB", "limit ms", *(f"{runtime['runtime']} ms" for runtime in runtimes))
    rows = [
        (name, f"{work['gflop']:.2f}", f"{work['weights_mb']:.1f}", f"{work['limit_ms']:.2f}")
        + tuple(f"{runtime['components_ms'][name]['median']:.2f}" for runtime in runtimes)
        for name, work in report["work"].items()
    ]
    limits = report["limits"]
    note = (
        f"Limits: {limits['fp32_gflop_per_s']:.0f} GFLOP/s in 32 bits and {limits['int8_gop_per_s']:.0f} in 8 in"
        f" {limits['gemm']}, {limits['copy_gb_per_s']:.0f} GB/s in copies."
    )
    return table(head, rows) + "\n\n" + note


def batches(report: Report) -> str:
    """Pictures per second by how many are drawn at once."""
    runtimes = working(report)
    sizes = list(runtimes[0]["images_per_s"])
    rows = [(r["runtime"], *(f"{r['images_per_s'][size]:.3g}" for size in sizes)) for r in runtimes]
    return table(("pictures/s, batch of", *sizes), rows)


def peers(report: Report) -> str:
    """Contenders side by side, fastest first; then those that do not work, with the reason."""
    reference, measured = report["reference"], [row for row in report["rows"] if "ms" in row]
    rows = [(row["time_over_reference"]["median"], _contender(row)) for row in measured]
    if measured:
        base = measured[0]["reference_ms"]
        own = (reference["name"], reference["version"], reference["decoder"], f"{base['median']:.0f}", base["n"], "1")
        rows.append((1.0, own))
    head = ("", "version", "decoder", "median ms", "n", f"x {reference['name']} (95 %)")
    missing = [f"- {row['name']}: {row['reason']}" for row in report["rows"] if "reason" in row]
    reasons = ["Not measured:\n\n" + "\n".join(missing)] if missing else []
    return "\n\n".join([table(head, [cells for _, cells in sorted(rows)]), *reasons, hardware(report)])


def _contender(row: Report) -> tuple[object, ...]:
    ms = row["ms"]
    return (
        row["name"],
        row["version"],
        row["decoder"],
        f"{ms['median']:.0f}",
        ms["n"],
        _ratio(row["time_over_reference"]),
    )


def precisions(report: Report) -> str:
    """What each precision costs in quality, and what it saves."""
    scorers = list(report["fp32_scores"])
    head = ("precision", "runtime", "median ms", "time, of fp32", "PSNR dB, all / worst picture", "SSIM")
    rows = sorted(report["rows"], key=lambda row: (PRECISIONS.index(row["precision"]), row["runtime"]))
    lines = [
        (row["precision"], row["runtime"], f"{row['ms']:.1f}", f"{row['time_over_fp32']:.2f}")
        + (_fidelity(row), f"{row['ssim']:.3f}")
        + tuple(f"{row[f'{label}_change_percent_of_sd']:+.1f} %" for label in scorers)
        for row in rows
    ]
    return table((*head, *(f"score, {label}" for label in scorers)), lines) + "\n\n" + hardware(report)


def _fidelity(row: Report) -> str:
    return "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.1f} / {row['worst_psnr_db']:.1f}"


def cuda(report: Report) -> str:
    """Of pahi_rt.bench.cuda: how PyTorch runs the fused module, and those that could not be measured."""
    head = ("", "median ms", "of limit", "")
    return table(head, list(_cuda_rows(report))) + "\n\n" + hardware(report)


def _cuda_rows(report: Report) -> Iterator[tuple[object, ...]]:
    for row in report["contenders"]:
        if "ms" not in row:
            yield row["name"], "", "", row.get("reason") or row["status"]
            continue
        times = row.get("time_over_reference")
        ratio = f"{times['median']:.3f} x {row['reference']}" if times else ""
        name = " ".join([row["name"], *filter(None, [row.get("precision")])])
        share = row.get("share_of_compute_limit_percent")
        yield name, f"{row['ms']['median']:.1f}", "" if share is None else f"{share:.0f} %", ratio


PAPER = {"PAHI": (94.0, 75.5), "HI": (64.7, 64.1)}
"""Its Table 1, in percent: on SD-Turbo under PickScore, which trained the priors, and under ImageReward."""


def table1(report: Report) -> str:
    """The paper's Table 1 over all groups of prompts together, what the paper leaves out, and the paper's own."""
    scorers = list(report["scorers"])
    columns = [f"{what}, {x}" for what in ("wins", "wins, same noise", "effect") for x in scorers]
    head = ("", *columns, "diversity", "sharpness", "KL")
    rows = [_evaluation(row, scorers) for row in report["groups"][-1]["rows"] if row["name"] != "Gaussian"]
    theirs = [
        (f"paper's {kind}, SD-Turbo: PickScore, ImageReward", *(f"{rate} %" for rate in rates))
        + ("",) * (len(head) - 3)
        for kind, rates in PAPER.items()
        if len(scorers) == len(rates)
    ]
    return table(head, [*rows, *theirs])


def _evaluation(row: Report, scorers: Sequence[str]) -> tuple[object, ...]:
    scores = [row["scores"][label] for label in scorers]
    rate = "independent_win_rate"
    wins = ["{:.1f} % ({:.1f}-{:.1f})".format(s[f"{rate}_percent"], *s[f"{rate}_interval_percent"]) for s in scores]
    same = [f"{score['same_noise_win_rate_percent']:.1f} %" for score in scores]
    effects = [f"{score['effect_size']:.2f}" for score in scores]
    ratios = [f"{row[key]['value']:.2f}" for key in ("diversity_ratio", "sharpness_ratio")]
    kl = "" if row["pictures_drawn"] > 1 else f"{row['kl_nats']:.1f} nats"
    return row["name"], *wins, *same, *effects, *ratios, kl


def generator(report: Report) -> str:
    """How well a generator of our own draws what it was trained on, before any prior."""
    columns = [report["one_step"], report["two_steps"]]
    rows = [
        (text, *(f"{100 * column[key]:.1f} %" for column in columns))
        for text, key in (
            ("nearest training picture is the right concept, by latents", "concept_latent"),
            ("the same by pixels", "concept_pixel"),
            (f"it has the style that the noise asks for, by latents, of {len(report['styles'])}", "style_latent"),
            ("the same by pixels", "style_pixel"),
        )
    ]
    # Between pictures on one tint: the measure of Table 1, which a tint leaves alone, is not needed here.
    name = "strength of edges (variance of the Laplacian), of the drawings' on the same tint"
    sharpness = (name, *(f"{c['sharpness']:.2f}" for c in columns))
    return table(("", "one step", "two steps"), [*rows, sharpness])


TABLES: dict[str, Callable[[Report], str]] = {
    "batches": batches,
    "cold-start": cold_start,
    "components": components,
    "cuda": cuda,
    "generator": generator,
    "peers": peers,
    "precisions": precisions,
    "table1": table1,
    "table2": table2,
}
"""Kind of a table, as documents ask for it -> what writes it."""
