"""pahi-rt bench documents: write the tables and plots of the README and docs/ from the reports.

A document asks for a table with the lines

    <!-- bench: KIND REPORT -->
    <!-- end -->

between which it is written. KIND is one of pahi_rt.bench.markdown's TABLES, or `plot`, which draws a PNG beside the
report and shows it. REPORT is a file under bench/results/. With --check nothing is written: stale documents and plots
are listed, with exit status 1.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from pahi_rt.bench.markdown import TABLES
from pahi_rt.bench.plots import REPORT, draw
from pahi_rt.errors import PahiError, ReportError
from pahi_rt.files import sha256

BLOCK = re.compile(
    r"(?P<head><!-- bench: (?P<kind>\S+) (?P<report>\S+) -->\n)(?:(?!<!-- bench: ).)*?(?P<tail><!-- end -->)", re.DOTALL
)
PLOT = "plot"


def find_stale(root: Path) -> Iterator[Path]:
    """Documents and plots that differ from their reports."""
    for document in find_documents(root):
        text = document.read_text(encoding="utf-8")
        if fill(text, document, root) != text:
            yield document
        yield from (plot for plot, report in find_plots(text, root) if _drawn_from(plot) != _digest(report))


def refresh(root: Path) -> Iterator[Path]:
    """Rewrite every stale document and plot; yields the paths written."""
    for path in dict.fromkeys(find_stale(root)):
        if path.suffix == ".png":
            report = path.with_suffix(".json")
            with _reading(f"{path.name} is a plot", report):
                draw(json.loads(report.read_bytes()), path, _digest(report))
        else:
            path.write_text(fill(path.read_text(encoding="utf-8"), path, root), encoding="utf-8")
        yield path


def find_documents(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def find_plots(text: str, root: Path) -> Iterator[tuple[Path, Path]]:
    """Each plot that a document shows, and its report."""
    for block in BLOCK.finditer(text):
        if block["kind"] == PLOT:
            report = root / block["report"]
            yield report.with_suffix(".png"), report


def fill(text: str, document: Path, root: Path) -> str:
    """Fill every block of a document from its report. Raises PahiError for an unknown kind or a missing report."""

    def write(block: re.Match[str]) -> str:
        return f"{block['head']}{_render(block['kind'], root / block['report'], document)}\n{block['tail']}"

    return BLOCK.sub(write, text)


def _render(kind: str, report: Path, document: Path) -> str:
    where = f"{document.name} asks for {kind}"
    if kind == PLOT:
        # bench/ is a link, which web pages do not follow.
        picture = os.path.relpath(report.with_suffix(".png").resolve(), document.parent.resolve())
        return f"![{report.stem.replace('-', ' ')}]({picture})"
    if kind not in TABLES:
        raise PahiError(f"{where}, which there is not", fix=f"ask for one of {', '.join([*TABLES, PLOT])}")
    with _reading(where, report):
        return TABLES[kind](json.loads(report.read_bytes()))


@contextmanager
def _reading(where: str, report: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, LookupError, ReportError) as error:
        raise PahiError(f"{where} of {report}, which does not hold it: {error!r}", fix="name another report") from error


def _digest(report: Path) -> str:
    """The sha256 of a report; empty without one, which drawing its plot then reports."""
    if not report.exists():
        return ""
    return sha256(report)


def _drawn_from(plot: Path) -> str | None:
    """The digest of the report that a plot was drawn from; None without a plot."""
    if not plot.exists():
        return None
    with Image.open(plot) as image:
        return str(image.info.get(REPORT))
