"""Verb `qualify`: whether runtimes and precisions of a bundle may stand in for the reference, on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.lists import ALL, names_or_all, numbers_or_all
from pahi_rt.cli.options import BundleName, Debug, Json, NameOption, PathOption, given_options
from pahi_rt.errors import OutputError
from pahi_rt.terminal import table

if TYPE_CHECKING:
    from pahi_rt.bundle import Bundle
    from pahi_rt.qualification import Layers, Measure, Row
    from pahi_rt.qualify.qualification import Examined

MOST_PAIRS = 10_000
_SUFFIX = ".html"
Given = Mapping[str, tuple[str, ...]]
"""Option -> the words that gave it."""


def qualify(
    context: typer.Context,
    bundle: BundleName,
    runtimes: Annotated[
        str, typer.Option(metavar="all|NAME,...", help="Runtimes to compare; all are those that draw here.")
    ] = ALL,
    precisions: Annotated[str, typer.Option(metavar="all|NAME,...", help="Precisions of the bundle to compare.")] = ALL,
    steps: Annotated[str, typer.Option(metavar="all|N,...", help="Numbers of steps to compare.")] = ALL,
    pairs: Annotated[
        int,
        typer.Option(min=2, max=MOST_PAIRS, help="Pictures of each graph, from the same noise on both sides."),
    ] = 100,
    recipe: Annotated[
        str | None,
        NameOption(metavar="RECIPE", help="For test prompts and scorers (default: the recipe named like the bundle)."),
    ] = None,
    prompts: Annotated[
        str | None, NameOption(metavar="SOURCE", help="File of prompts, in place of the recipe's test part.")
    ] = None,
    scorers: Annotated[
        list[str] | None,
        NameOption("--scorer", metavar="SPEC", help="A scorer besides the recipe's. May be repeated."),
    ] = None,
    model: Annotated[
        str | None,
        NameOption(metavar="MODEL", help="The model that the bundle was made of: PyTorch becomes the reference."),
    ] = None,
    priors: Annotated[
        list[str] | None, NameOption("--prior", metavar="PRIOR", help="With --model: the bundle's prior. Repeatable.")
    ] = None,
    decoder: Annotated[str | None, NameOption(metavar="MODEL", help="With --model: as for export.")] = None,
    variant: Annotated[str | None, typer.Option(help="With --model: as for export.")] = None,
    loras: Annotated[
        list[str] | None, NameOption("--lora", metavar="FILE[:SCALE]", help="With --model: as for export.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also name the layers at which precision is lost, with Polygraphy.")
    ] = False,
    output: Annotated[
        Path | None, PathOption("-o", "--output", metavar="FILE", help="Keep the report here, not in the bundle.")
    ] = None,
    page: Annotated[
        Path | None, PathOption(metavar="FILE.html", help="Also write a page with the worst pictures side by side.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare runtimes and precisions with the reference, and say which may replace it; exit 1 if one fails."""
    if model is None and (priors or decoder or variant or loras):
        raise typer.BadParameter("--prior, --decoder, --variant and --lora belong to --model: name it too")
    with needs("qualify"):
        import skimage  # noqa: F401  # used much later: now is the time to miss it

        from pahi_rt.bundle import open_bundle
        from pahi_rt.export.provenance import find_source
        from pahi_rt.qualify.page import write_page
        from pahi_rt.qualify.qualification import Refused, Request, examine
        from pahi_rt.qualify.shelf import open_shelf
    check_page(page)
    opened = open_bundle(bundle)
    image = opened.manifest.image
    size = (image.height, image.width)
    request = Request(
        runtimes=names_or_all(runtimes, "--runtimes"),
        precisions=names_or_all(precisions, "--precisions"),
        steps=numbers_or_all(steps, "--steps"),
        pairs=pairs,
        recipe=recipe,
        prompts=prompts,
        scorers=tuple(scorers or ()),
        source=None if model is None else find_source(model, decoder, variant, loras or (), priors or (), size),
        layers=layers,
    )
    examined: list[Examined] = []
    with open_shelf(opened, output) as shelf:
        for found in examine(opened, request, timed):
            if isinstance(found, Refused):
                messages.note(f"{found.runtime} does not draw {found.precision} here: {found.reason}")
                continue
            examined.append(found)
            shelf.add(found.row)
    if page is not None:
        write_page(page, opened.manifest.name, examined)
    rows = [one.row for one in examined]
    if as_json:
        messages.document({"path": str(shelf.path), "rows": [row.to_dict() for row in rows]})
    else:
        for row in rows:
            messages.result(*row_lines(row), "")
        messages.result(*table([(row.verdict, row.graph, row.runtime, row.version) for row in rows]))
    conclude(bundle, given_options(context), opened, rows, shelf.report.rows)


def conclude(bundle: str, given: Given, opened: Bundle, rows: Sequence[Row], kept: Sequence[Row]) -> None:
    """Print the next command. Exits with 1 if a row fails, or if there is none.

    `rows` are those of this run, among those that the report has `kept`.
    """
    from pahi_rt.qualification import FAIL, INCONCLUSIVE, PASS

    verdicts = {row.verdict for row in rows}
    if FAIL in verdicts:
        passing = " and ".join(f"{row.precision} in {row.runtime}" for row in rows if row.verdict == PASS)
        messages.note(f"what passes is {passing or 'nothing'}")
    if not rows:
        messages.next_command("doctor")
    elif verdicts - {PASS} == {INCONCLUSIVE}:
        ask_for_more(bundle, given, rows)
    elif serving := serving_options(given, opened, rows, kept):
        messages.next_command("serve", bundle, *serving)
    elif FAIL not in verdicts:
        messages.note("for `serve --qualified`, the graphs of all numbers of steps need to pass")
        messages.next_command("qualify", bundle, *again(given, steps=()))
    elif "output" not in given:
        messages.next_command("inspect", bundle)
    if FAIL in verdicts or not rows:
        raise typer.Exit(1)


def serving_options(given: Given, bundle: Bundle, rows: Sequence[Row], kept: Sequence[Row]) -> list[str] | None:
    """The options of a service that starts with --qualified; None if none would: it offers all of a precision."""
    from pahi_rt.qualification import PASS, objection_here

    counting = [row for row in kept if row in rows or objection_here(row, bundle) is None]
    passing = {(row.graph, row.runtime) for row in counting if row.verdict == PASS}
    for precision in bundle.precisions:
        graphs = [graph.file for graph in bundle.manifest.graphs if graph.precision == precision]
        compared = list(dict.fromkeys(row.runtime for row in counting if row.precision == precision))
        fit = [runtime for runtime in compared if all((graph, runtime) in passing for graph in graphs)]
        if fit:
            is_any_fit = fit == compared and "runtimes" not in given  # whatever a service may choose here
            return [
                "--qualified",
                *(() if precision == bundle.choose_precision() else ("--precision", precision)),
                *(() if is_any_fit else ("--runtime", fit[0])),
                *(("--report", given["output"][-1]) if "output" in given else ()),
            ]
    return None


def ask_for_more(bundle: str, given: Given, rows: Sequence[Row]) -> None:
    """Say what would decide the rows that are inconclusive."""
    from pahi_rt.qualify.verdicts import pairs_needed

    needed = max(pairs_needed(row.measures.values(), row.pairs) or 0 for row in rows)
    if not needed:
        messages.note("more pairs alone may not decide what is inconclusive", fix="give more prompts: --prompts FILE")
        return
    messages.note(f"about {needed} pairs would decide what is inconclusive")
    if max(row.pairs for row in rows) < MOST_PAIRS:
        messages.next_command("qualify", bundle, *again(given, pairs=("--pairs", str(min(needed, MOST_PAIRS)))))
    else:
        messages.note(f"{MOST_PAIRS} are the most", fix="use a runtime and a precision that pass")


def again(given: Given, **changed: tuple[str, ...]) -> list[str]:
    """The options that were given, with some changed."""
    return [word for words in {**given, **changed}.values() for word in words]


def check_page(page: Path | None) -> None:
    """Raises OutputError for a page that could not be written after all the work."""
    if page is None:
        return
    if page.suffix != _SUFFIX:
        raise OutputError(f"{page} does not end in {_SUFFIX}", fix=f"name it so: --page {page.stem or 'page'}{_SUFFIX}")
    if page.is_dir() or not page.absolute().parent.is_dir():
        raise OutputError(f"{page} cannot be written: it is a folder, or is in none", fix="check the path")


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Report a stage when it is done."""
    started = time.perf_counter()
    yield
    messages.stage(name, time.perf_counter() - started)


def row_lines(row: Row) -> list[str]:
    """A row as lines: what was compared, each measure, the worst pictures, and what layers lose."""
    title = f"{row.verdict}: {row.graph} in {row.runtime} {row.version} on {row.device}"
    sample = f"against {row.reference}; {row.pairs} pairs of {row.prompts} prompts"
    cells = [
        (measure.verdict or "-", name, shown(measure.value), *_interval_and_margin(measure))
        for name, measure in row.measures.items()
    ]
    missing = [f"  not measured: {name}: {why}" for name, why in row.missing.items()]
    worst = ", ".join(f"{pair.prompt!r} seed {pair.seed} ({pair.distance})" for pair in row.worst[:2])
    return [title, f"  {sample}", *table(cells, indent="  "), *missing, f"  worst: {worst}", *layer_lines(row.layers)]


def shown(value: float) -> str:
    """A number with as many digits as it needs."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _interval_and_margin(measure: Measure) -> tuple[str, str]:
    interval = "" if measure.interval is None else f"{shown(measure.interval[0])} to {shown(measure.interval[1])}"
    limit = measure.reason if measure.margin is None else f"{measure.direction} {shown(measure.margin)}"
    return interval, limit


def layer_lines(layers: Layers | None) -> list[str]:
    """What layers lose, as lines."""
    if layers is None:
        return []
    limit = f"{layers.tolerance_db:g} dB"
    start = f"  layers: {layers.compared} tensors compared with {layers.against}"
    first = "none leaves" if layers.first is None else f"{layers.first.title} is the first to leave"
    rows = [(loss.title, f"{loss.snr_db:.1f} dB", f"adds {loss.added:.1e}") for loss in layers.worst]
    return [start, f"  {first} the tolerance of {limit}", *(table(rows, indent="    ") if rows else [])]
