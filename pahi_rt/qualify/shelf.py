"""Where a report is kept: inside its bundle, or in a file. Rows are added one by one, and what is there is kept.

Listing the report changes pahi.json, and not the hash that pictures are recorded under (`Bundle.sha256`). A kill leaves
the old report or the new one, listed or not; the next run finds either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from pahi_rt import __version__
from pahi_rt.bundle import Bundle, changing, file_record, open_bundle, without_report, write_manifest
from pahi_rt.errors import BundleError, OutputError, ReportError
from pahi_rt.files import explain, write_whole
from pahi_rt.locations import is_managed
from pahi_rt.manifest import REPORT
from pahi_rt.qualification import FORMAT, Qualification, Row, format_report, objection, read_report
from pahi_rt.scratch import check_unclaimed, claim

_ELSEWHERE = "or write the report elsewhere: -o FILE.json"


@dataclass
class Shelf:
    """The report of a bundle, to which rows are added."""

    bundle: Bundle
    path: Path
    is_inside: bool
    """Whether the bundle lists it."""
    report: Qualification

    def add(self, row: Row) -> None:
        """Put a row in the place of an earlier one of the same graph, runtime and device, and write the report.

        Raises OutputError, and BundleError if the bundle is another one by now.
        """
        rows = (*(old for old in self.report.rows if old.key != row.key), row)
        report = replace(self.report, pahi_rt=__version__, rows=rows)
        path = self.bundle.path
        try:
            with changing(path, "qualify") if self.is_inside else nullcontext(open_bundle(path)) as bundle:
                if what := objection(row, bundle, None):
                    told = f"{row.graph} was exported again meanwhile: {what}"
                    raise BundleError(told, fix="qualify the bundle again")
                self.report = report
                self._write(bundle)
        except OSError as error:
            raise explain(error, self.path, _ELSEWHERE) from error

    def _write(self, bundle: Bundle) -> None:
        if not self.is_inside:
            write_whole(self.path, format_report(self.report))
            return
        bare = without_report(bundle.manifest)
        if bare != bundle.manifest:  # a listed file that is being replaced would be a damaged one
            write_manifest(bundle.path, bare)
        write_whole(self.path, format_report(self.report))
        write_manifest(bundle.path, replace(bare, files={**bare.files, REPORT: file_record(self.path)}))


@contextmanager
def open_shelf(bundle: Bundle, output: Path | None) -> Iterator[Shelf]:
    """Lock the report of a bundle, or the file `output`, and read what is there. Nothing is written yet.

    Raises BundleError for a bundle of the package or of a cache without an `output`, and OutputError if the place
    cannot be written, holds anything else, or is in use.
    """
    if output is None and is_managed(bundle.path):
        what = f"{bundle.path} is part of the package or of a cache, and stays as it is"
        raise BundleError(what, fix="write the report elsewhere: -o FILE.json")
    path = bundle.path / REPORT if output is None else output
    with ExitStack() as held:
        try:
            if output is None:
                check_unclaimed(bundle.path)
            held.enter_context(claim(path, "qualify"))
            shelf = Shelf(bundle, path, output is None, _read(path, bundle))
        except OSError as error:
            raise explain(error, path, _ELSEWHERE) from error
        yield shelf


def _read(path: Path, bundle: Bundle) -> Qualification:
    """The report at `path`, without rows about other graphs; an empty one if there is none."""
    if not os.path.lexists(path):
        return Qualification(FORMAT, bundle.manifest.name, __version__, ())
    try:
        found = read_report(path)
    except ReportError as error:
        what = f"{path} is there already, and it is not a report that can be added to: {error.what}"
        raise OutputError(what, fix="move it away, or write elsewhere: -o FILE.json") from error
    if found.bundle != bundle.manifest.name:
        what = f"{path} is the report of another bundle, {found.bundle!r}"
        raise OutputError(what, fix="write elsewhere: -o FILE.json")
    return replace(found, rows=tuple(row for row in found.rows if objection(row, bundle, None) is None))
