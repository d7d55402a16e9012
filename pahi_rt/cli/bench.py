"""Verb `bench`: measures how fast a bundle is on this machine. `pahi-rt evaluate` says how good it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.group import Group
from pahi_rt.cli.lists import names_or_all, split_names, split_numbers
from pahi_rt.cli.options import BundleName, Debug, Json, NameArgument, NameOption, PathOption, expand
from pahi_rt.files import explain

if TYPE_CHECKING:
    from pahi_rt.record import Record

app = typer.Typer(name="bench", cls=Group)

Force = Annotated[bool, typer.Option("--force", help="Measure even if the machine is busy, and mark the report.")]
Output = Annotated[Path | None, PathOption("-o", "--output", metavar="FILE", help="Also write the JSON to this file.")]


@app.callback()
def _bench() -> None:
    """Measure a bundle on this machine."""


@app.command()
def latency(
    bundle: Annotated[str, NameOption(metavar="BUNDLE", help="Bundle to time.")] = DEFAULT,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures timed in a running process.")] = 100,
    starts: Annotated[int, typer.Option(min=1, help="Cold starts timed.")] = 10,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time pictures in a running process, and `pahi-rt generate` from a cold start."""
    from pahi_rt.bench import text
    from pahi_rt.bench.latency import measure

    report = measure(bundle, pictures, starts, force)
    _finish(report, text.latency(report), output, as_json)


@app.command()
def bulk(
    bundle: Annotated[str, NameOption(metavar="BUNDLE", help="Bundle to time.")] = DEFAULT,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of each process in a run.")] = 600,
    processes: Annotated[
        int | None, typer.Option(min=2, help="Processes to compare with one (default: cores).")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each kind.")] = 3,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time `pahi-rt bulk` with one process and with several."""
    from pahi_rt.bench import text
    from pahi_rt.bench.bulk import measure

    report = measure(bundle, pictures, processes, rounds, force)
    _finish(report, text.bulk(report), output, as_json)


@app.command()
def stages(
    pictures: Annotated[int, typer.Option(min=1, help="Pictures timed.")] = 200,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time everything that `pahi-rt bulk` does for a picture except the graph, on one core."""
    with needs("bulk,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.stages import measure
    report = measure(pictures, force)
    _finish(report, text.stages(report), output, as_json)


@app.command()
def scaling(
    root: Annotated[Path, PathOption(metavar="FOLDER", help="The checkout, for its reports.")] = Path(),
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compute what a million and a billion pictures take, from reports and published figures."""
    from pahi_rt.bench import text
    from pahi_rt.bench.scaling import read_sources, reckon

    report = reckon(read_sources(root / "bench" / "results"))
    _finish(report, text.scaling(report), output, as_json)


@app.command()
def shards(
    workers: Annotated[int, typer.Option(min=1, help="Workers of the simulated cluster.")] = 1000,
    hours: Annotated[float, typer.Option(min=0.001, help="Work for all of them.")] = 6.0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each size.")] = 3,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Simulate what the size of a shard costs on many workers that are slow, or lost."""
    with needs("bulk"):
        from pahi_rt.bench import text
        from pahi_rt.bench.reports.shards import Cluster
        from pahi_rt.bench.shards import simulate
    show = messages.say if as_json else messages.result
    report = simulate(Cluster(workers=workers, hours=hours), seeds, show=lambda row: show(text.shards(row)))
    _finish(report, [], output, as_json)


@app.command()
def serve(
    bundle: Annotated[str, NameOption(metavar="BUNDLE", help="Bundle to serve.")] = DEFAULT,
    seconds: Annotated[int, typer.Option(min=1, help="How long to ask for.")] = 180,
    overload: Annotated[float, typer.Option(min=0.01, help="How much to ask for, of what can be drawn.")] = 2.0,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that draw.")] = 1,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Request more pictures from `pahi-rt serve` than it can draw, with AIPerf, and count what is lost."""
    with needs("serve"):
        from pahi_rt.bench import text
        from pahi_rt.bench.serve import LoadSettings, measure
    report = measure(bundle, LoadSettings(seconds, overload, workers, force))
    _finish(report, text.serve(report), output, as_json)


@app.command()
def playground(
    bundle: Annotated[str, NameOption(metavar="BUNDLE", help="Bundle that draws.")] = DEFAULT,
    rounds: Annotated[int, typer.Option(min=1, help="How often the prompts are typed.")] = 3,
    packages: Annotated[
        Path | None, PathOption(metavar="FOLDER", help="Take npm's packages from here, not from the network.")
    ] = None,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Type on the playground in Chromium, and time from a key to its picture."""
    with needs("serve"):
        from pahi_rt.bench import text
        from pahi_rt.bench.playground import PlaygroundSettings, measure
    report = measure(bundle, PlaygroundSettings(rounds, packages, force))
    _finish(report, text.playground(report), output, as_json)


@app.command()
def best(
    bundle: Annotated[str, NameOption(metavar="BUNDLE", help="Bundle with scorers.")] = DEFAULT,
    recipe: Annotated[str, NameOption(metavar="RECIPE", help="Recipe whose test prompts are drawn.")] = "emoji",
    prompts: Annotated[int, typer.Option(min=2, help="Test prompts, at most.")] = 160,
    rounds: Annotated[int, typer.Option(min=2, help="Pictures timed per row.")] = 30,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure what the best of several candidates gains, by each scorer, and what it costs."""
    with needs("train,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.best import measure
    report = measure(bundle, recipe, prompts, rounds, force, messages.note)
    _finish(report, text.best(report), output, as_json)


@app.command()
def table2(
    bundle: BundleName,
    runtimes: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="Runtimes to time, or `all`.")
    ] = "onnxruntime,openvino",
    precision: Annotated[str | None, typer.Option(help="Precision to time (default: the bundle's first).")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures timed per row.")] = 100,
    batches: Annotated[
        str, typer.Option(metavar="N,N", help="Sizes of a batch to measure pictures per second for.")
    ] = "1,2,4,8",
    scored: Annotated[int, typer.Option(min=0, help="Test prompts that each row is scored on.")] = 320,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time a bundle with and without its priors, in one and two steps, on every runtime."""
    with needs("train,export,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.table2 import Settings, measure
    sizes = split_numbers(batches, "--batches")
    settings = Settings(_list_runtimes(runtimes), precision, pictures, sizes, scored, force)
    report = measure(bundle, settings, lambda name, ms: messages.note(f"{name}: {ms:.1f} ms"))
    _finish(report, text.table2(report), output, as_json)


@app.command()
def peers(
    model: Annotated[Path, typer.Argument(metavar="MODEL", parser=expand, help="A diffusers folder.")],
    bundle: BundleName,
    only: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Only contenders whose name contains this.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures timed per contender.")] = 10,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time other programs and the model's bundle side by side."""
    with needs("export,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.peers.comparison import measure
    report = measure(model, bundle, only, pictures, force)
    _finish(report, text.peers(report), output, as_json)


@app.command()
def precisions(
    bundle: BundleName,
    recipe: Annotated[
        str, NameOption(metavar="RECIPE", help="Recipe whose test prompts and scorers are used.")
    ] = "emoji",
    runtimes: Annotated[str, typer.Option(metavar="NAME,NAME", help="Runtimes to time.")] = "onnxruntime,openvino",
    prompts: Annotated[int, typer.Option(min=1, help="Test prompts to draw, at most.")] = 320,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure what each precision of a bundle costs in quality, and what it saves."""
    with needs("train,export,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.precisions import measure
    report = measure(bundle, recipe, split_names(runtimes, "--runtimes"), prompts, force)
    _finish(report, text.precisions(report), output, as_json)


@app.command()
def operators(
    bundle: BundleName,
    precision: Annotated[str | None, typer.Option(help="Precision to count (default: the bundle's first).")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of the graph.")] = 1,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures that are profiled.")] = 20,
    force: Force = False,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count a graph's nodes by kind, and time ONNX Runtime's kernels for them on the CPU."""
    with needs("export,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.operators import measure
    report = measure(bundle, precision, steps, pictures, force)
    _finish(report, text.operators(report), output, as_json)


@app.command()
def sensitivity(
    bundle: BundleName,
    prompts: Annotated[
        str | None,
        NameOption(metavar="PROMPTS", help="As for `export --calibration`: half calibrate, half are drawn."),
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures drawn with each layer, at most.")] = 16,
    target: Annotated[float, typer.Option(metavar="DB", help="PSNR that the rule aims at.")] = 30.0,
    output: Output = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure what each layer costs in quality when it alone computes in 8 bits."""
    with needs("train,export,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.sensitivity import Settings, measure
    settings = Settings(prompts, pictures, target)
    report = measure(bundle, settings, lambda name, error: messages.note(f"{name}: {error:.3g}"))
    _finish(report, text.sensitivity(report), output, as_json)


@app.command()
def cuda(
    device: Annotated[Literal["cuda", "cpu"], typer.Option(help="cpu only shows that it works.")] = "cuda",
    model: Annotated[
        str,
        NameOption(metavar="MODEL", help="A diffusers folder, or sd-turbo or tiny: architectures with random weights."),
    ] = "sd-turbo",
    work: Annotated[
        Path | None, PathOption(metavar="FOLDER", help="Keep random weights in this folder, or use those in it.")
    ] = None,
    bundle: Annotated[
        Path | None,
        PathOption(metavar="BUNDLE", help="An export of the same architecture, for ONNX Runtime and TensorRT."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision of the bundle to time (default: the bundle's first).")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pairs of pictures timed per contender.")] = 60,
    budget: Annotated[float, typer.Option(help="Seconds after which no contender is started.")] = math.inf,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that one contender may take.")] = 600.0,
    autotune: Annotated[
        bool, typer.Option("--autotune", help="Also time torch.compile's max-autotune, which takes minutes.")
    ] = False,
    output: Annotated[
        Path | None,
        PathOption("-o", "--output", metavar="FILE", help="Also write the JSON to this file, after every contender."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time the ways to run one step on an NVIDIA GPU with PyTorch, and a bundle's."""
    with needs("train,export,bench"):
        from pahi_rt.bench import text
        from pahi_rt.bench.cuda import CudaSettings, run
    settings = CudaSettings(device, model, work, bundle, precision, pictures, budget, limit, autotune, output)
    report = run(settings, lambda seconds, row: messages.say(f"{seconds:7.1f} s  {row.name}: {text.summary(row)}"))
    _finish(report, text.cuda(report), None, as_json)  # the file was written after every contender


@app.command()
def pairs(
    output: Annotated[Path, PathOption("-o", "--output", metavar="FILE", help="The picture: a .png, or a folder.")],
    bundle: Annotated[
        str, NameArgument(metavar="BUNDLE", help="A built-in name, a folder, a .zip, or hub:owner/name@rev.")
    ] = DEFAULT,
    recipe: Annotated[
        str | None,
        NameOption(metavar="RECIPE", help="Recipe of the bundle's prior (default: the recipe named like the bundle)."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw the paper's Figure 1 for a bundle: pictures without and with its prior, from the same noise."""
    with needs("train,bench"):
        from pahi_rt.bench.pairs import write_sheet
    messages.result(str(write_sheet(bundle, recipe or bundle, output)))


@app.command()
def frontier(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", parser=expand, help="JSON of `pahi-rt evaluate RUN... --json`.")
    ],
    output: Annotated[Path, PathOption("-o", "--output", metavar="FILE", help="The plot: .png, .svg or .pdf.")],
    debug: Debug = False,
) -> None:
    """Plot what the effect of priors costs in diversity, by KL weight."""
    with needs("bench"):
        from pahi_rt.bench.frontier import draw, read_report
    draw(read_report(report), output)
    messages.result(str(output))


@app.command()
def documents(
    check: Annotated[bool, typer.Option("--check", help="Write nothing, list what is stale, and exit with 1.")] = False,
    root: Annotated[Path, PathOption(metavar="FOLDER", help="The checkout.")] = Path(),
    debug: Debug = False,
) -> None:
    """Write the tables and plots of the README and docs/ from the reports under bench/results/."""
    with needs("bench"):
        from pahi_rt.bench.documents import find_stale, refresh
    stale = dict.fromkeys(find_stale(root) if check else refresh(root))
    messages.result(*(f"{'stale: ' if check else ''}{path.relative_to(root)}" for path in stale))
    if check and stale:
        raise typer.Exit(1)


def _list_runtimes(text: str) -> tuple[str, ...]:
    """The runtimes that are named, or all of them."""
    from pahi_rt.runtimes import TABLE

    return names_or_all(text, "--runtimes") or tuple(entry.name for entry in TABLE)


def _finish(report: Record, lines: Sequence[str], output: Path | None, as_json: bool) -> None:
    """Print the report, as text or as JSON, and write it to its file. JSON is printed if it cannot be written."""
    from pahi_rt.bench.reports.report import write

    try:
        write(report, output)
    except OSError as error:
        messages.document(report.to_dict())  # it took long to measure
        raise explain(error, output or Path(), "or choose another --output") from error
    if as_json:
        messages.document(report.to_dict())
    else:
        messages.result(*lines)
