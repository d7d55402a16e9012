"""Verb `inspect`: show what a bundle holds, and check its files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.options import BundleName, Debug, Json
from pahi_rt.terminal import table

NOTE = "; "
"""Separates the notes on a comparison, within the field `against`."""

if TYPE_CHECKING:
    from pahi_rt.bundle import Bundle
    from pahi_rt.manifest import Manifest, Parity
    from pahi_rt.qualification import Qualification, Row


def inspect(
    bundle: BundleName,
    check: Annotated[bool, typer.Option("--verify", help="Check the size and sha256 of every file.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print what a bundle holds: parts and licences, graphs, plans, parity, qualification, files."""
    from pahi_rt.archive import origin
    from pahi_rt.bundle import open_bundle, verify

    opened = open_bundle(bundle)
    report = _read_report(opened)
    hub_id = origin(opened.path)
    if check:
        verify(opened)
    if as_json:
        source = None if hub_id is None else str(hub_id)
        kept = {} if report is None else {"qualification": report.to_dict()}
        document = {"path": str(opened.path), "hub": source, "verified": check, **opened.manifest.to_dict(), **kept}
        messages.document(document)
    else:
        verified = f": all {len(opened.manifest.files)} files are what the manifest says" if check else ""
        came = "" if hub_id is None else f", from {hub_id}"
        rows = [] if report is None else ["", "qualification", *table(qualification_rows(report, opened), indent="  ")]
        messages.result(*manifest_lines(opened.manifest), *rows, "", f"{opened.path}{came}{verified}")
    if check:
        messages.next_command("generate", "a red apple", "--bundle", bundle)
    else:
        messages.next_command("inspect", bundle, "--verify")


def manifest_lines(manifest: Manifest) -> list[str]:
    """The manifest as lines of text: its facts, then a table for each of its lists."""
    sections: dict[str, Sequence[Sequence[str]]] = {
        "parts": part_rows(manifest),
        "graphs": graph_rows(manifest),
        "scorers": [
            (name, scorer.file, scorer.unit, scorer.precision, scorer.component.licence)
            for name, scorer in (manifest.scorers or {}).items()
        ],
        "plans": [
            (
                plan.file,
                f"{plan.runtime} {plan.runtime_version}",
                f"compute capability {', '.join(plan.compute_capabilities)}",
                "batch " + "/".join(map(str, plan.batch)),
            )
            for plan in manifest.engines
        ],
        "parity": [parity_row(parity) for parity in manifest.parity],
        "where diffusers differs": [
            (parity.graph, note) for parity in manifest.parity for note in parity.against.split(NOTE)[1:]
        ],
        "files": [
            (name, messages.megabytes(record.size), record.sha256[:16]) for name, record in manifest.files.items()
        ],
        "made with": list(manifest.tools.items()),
    }
    tables = [["", title, *table(rows, indent="  ")] for title, rows in sections.items() if rows]
    return [*table(fact_rows(manifest)), *(line for table in tables for line in table)]


def parity_row(parity: Parity) -> tuple[str, str, str, str, str]:
    """The row of a comparison: what was compared, how close it came, and the tolerance."""
    distance = f"{parity.psnr_db:.1f} dB", f"{parity.max_error:.2g} of [0, 1] at most"
    return (parity.graph, f"against {parity.against.split(NOTE)[0]}", *distance, parity.tolerance)


def _read_report(bundle: Bundle) -> Qualification | None:
    """The report inside a bundle. One that this version cannot read is noted: the rest can still be shown."""
    from pahi_rt.errors import ReportError
    from pahi_rt.qualification import find_report

    try:
        return find_report(bundle)
    except ReportError as error:
        messages.note(error.what, error.fix)
        return None


def qualification_rows(report: Qualification, bundle: Bundle) -> list[tuple[str, str, str, str, str, str]]:
    """A row for each graph and runtime that was compared, with the reason if it does not count here."""
    from pahi_rt.qualification import objection_here

    rows = []
    for row in report.rows:
        stale = objection_here(row, bundle)
        verdict = row.verdict if stale is None else f"stale ({row.verdict})"
        told = stale or f"{row.pairs} pairs against {row.reference}"
        rows.append((verdict, row.graph, f"{row.runtime} {row.version}", row.device, _quality(row), told))
    return rows


def _quality(row: Row) -> str:
    measure = row.measures.get("psnr_db")
    return "" if measure is None else f"{measure.value:.1f} dB"


def fact_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """Rows of facts: name, sizes, formats."""
    image, latents = manifest.image, " x ".join(map(str, manifest.image.latent_shape))
    return [
        ("name", manifest.name),
        ("format", str(manifest.format_version)),
        ("picture", f"{image.width} x {image.height} pixels from {latents} noise"),
        ("noise recipe", manifest.noise_recipe),
        *((f"prior {kind}", _distance(prior.kl_nats)) for kind, prior in manifest.priors.items()),
        ("prompt", f"{manifest.tokenizer.max_length} tokens, padded with {manifest.tokenizer.pad_id}"),
    ]


def _distance(kl_nats: float | None) -> str:
    return (
        "KL to the standard Gaussian unknown" if kl_nats is None else f"{kl_nats:.1f} nats from the standard Gaussian"
    )


def part_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """A row for each part that the graphs were made from: role, id and revision, licence, sha256."""
    priors = {f"prior {kind}": prior.component for kind, prior in manifest.priors.items()}
    parts = {"generator": manifest.generator, "autoencoder": manifest.autoencoder, **priors}
    return [(role, f"{c.id} {c.revision}", c.licence, f"sha256 {c.sha256[:16]}") for role, c in parts.items()]


def graph_rows(manifest: Manifest) -> list[tuple[str, str, str, str, str]]:
    """A row for each graph: steps and prior, file, precision, opset, inputs and outputs."""
    from pahi_rt.manifest import GAUSSIAN

    return [
        (
            f"{graph.steps} step{'s' * (graph.steps > 1)}" + (f" with {graph.prior}" * (graph.prior != GAUSSIAN)),
            graph.file,
            graph.precision,
            f"opset {graph.opset}",
            ", ".join(spec.name for spec in graph.inputs) + " -> " + ", ".join(spec.name for spec in graph.outputs),
        )
        for graph in manifest.graphs
    ]
