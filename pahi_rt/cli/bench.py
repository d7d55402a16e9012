"""Verb `bench`: how fast a bundle is on this machine. How good it is, `pahi-rt evaluate` says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.options import BundleName, Debug, Json, PathOption
from pahi_rt.errors import PahiError
from pahi_rt.files import explain
from pahi_rt.terminal import table

app = typer.Typer(name="bench", help="Measure a bundle on this machine.")

_HEAD = ("row", "prompt", "median ms", "p90", "p99", "x one step (95 %)", "RSS MiB", "limit ms", "of limit", "scores")


@app.callback()
def _bench() -> None:
    """Measure a bundle on this machine."""


@app.command()
def table2(
    bundle: BundleName,
    runtimes: Annotated[str, typer.Option(metavar="NAME,NAME", help="Or all.")] = "onnxruntime,openvino",
    precision: Annotated[str | None, typer.Option(help="Of the graphs (the bundle's first).")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Timed for each row.")] = 100,
    batches: Annotated[str, typer.Option(metavar="N,N", help="Pictures at once, for pictures per second.")] = "1,2,4,8",
    scored: Annotated[int, typer.Option(min=0, help="Test prompts that each row is scored on.")] = 320,
    force: Annotated[bool, typer.Option("--force", help="Measure although the machine is busy.")] = False,
    output: Annotated[
        Path | None,
        PathOption("-o", "--output", metavar="FILE", help="Also write the JSON to this file."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time a bundle with and without its priors, in one and two steps, on every runtime; the last line is JSON."""
    with needs("train,export,bench"):
        from pahi_rt.bench.table2 import Settings, measure
    sizes = _read_numbers(batches)
    settings = Settings(_read_runtimes(runtimes), precision, pictures, sizes, scored, force)
    report = measure(bundle, settings, lambda name, ms: messages.note(f"{name}: {ms:.1f} ms"))
    _write(report, output)
    if as_json:
        messages.document(report)
    else:
        messages.result(*format_report(report), "", messages.to_json(report))


def _read_runtimes(text: str) -> tuple[str, ...]:
    """Of `all`, those that do not work here are listed with what they lack."""
    from pahi_rt.runtimes import TABLE

    return tuple(entry.name for entry in TABLE) if text == "all" else tuple(text.split(","))


def _read_numbers(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.isascii() and number.isdigit() and int(number) for number in numbers):
        raise PahiError(f"{text[:40]!r} are no sizes of a batch", fix="use --batches 1,2,4,8")
    return tuple(map(int, numbers))


def _write(report: dict[str, Any], path: Path | None) -> None:
    from pahi_rt.bench.report import write as write_report

    try:
        write_report(report, path)
    except OSError as error:
        raise explain(error, path or Path(), "or choose another --output") from error


def format_report(report: dict[str, Any]) -> list[str]:
    """The table as a person reads it."""
    limits, environment = report["limits"], report["machine"]
    busy = "; THE MACHINE WAS BUSY" if report["busy"] else ""
    return [
        f"{report['bundle']}, {report['precision']}, {' x '.join(map(str, report['picture']))} pixels, batch 1",
        f"on {environment['cpu'] or 'an unknown processor'}, {limits['threads']} cores{busy}",
        f"timed: {report['timed']}",
        f"limit: {limits['fp32_gflop_per_s']} GFLOP/s in 32 bits, {limits['int8_gop_per_s']} in 8,"
        f" {limits['copy_gb_per_s']} GB/s",
        *(line for runtime in report["runtimes"] for line in ("", *_format_runtime(runtime))),
    ]


def _format_runtime(runtime: dict[str, Any]) -> list[str]:
    if "reason" in runtime:
        return [f"{runtime['runtime']}: {runtime['reason']}", f"  to have it: {runtime['fix']}"]
    lines = [runtime["runtime"], *table([_HEAD, *map(_cells, runtime["rows"])], indent="  ")]
    rates = ", ".join(f"{rate} at {size}" for size, rate in runtime["images_per_s"].items())
    lines.append(f"  pictures/s by batch: {rates}")
    if parts := runtime.get("components_ms"):
        lines.append("  median ms of: " + ", ".join(f"{name} {ms['median']}" for name, ms in parts.items()))
    return lines


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    ms, times = row["ms"], row["time_over_one_step"]
    scores = " ".join(f"{label} {mean:.3f}" for label, mean in (row["scores"] or {}).items()) or "-"
    ratio = f"{times['median']:.3f} ({times['low']:.3f}-{times['high']:.3f})"
    memory = "-" if row["peak_rss_mib"] is None else f"{row['peak_rss_mib']:.0f}"
    share = f"{row['share_of_limit_percent']:.0f} %"
    return row["row"], row["prompt"], ms["median"], ms["p90"], ms["p99"], ratio, memory, row["limit_ms"], share, scores
