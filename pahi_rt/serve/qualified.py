"""`pahi-rt serve --qualified`: nothing draws that a report of `pahi-rt qualify` does not let pass.

What can be known before the service listens is checked then: that every graph which clients may ask for has a report.
Which runtime draws, `auto` decides when a graph is loaded, in each process; there the rest is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pahi_rt.bundle import Bundle
from pahi_rt.choice import AUTO, Chosen
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.manifest import Graph
from pahi_rt.pipeline import Pipeline
from pahi_rt.qualification import Qualification, find_report, read_report, require_pass, suggest
from pahi_rt.serve.engine import Load
from pahi_rt.serve.models import Model, Models


def check_reports(models: Models, files: Sequence[Path]) -> None:
    """Raises RuntimeUnavailable for a model with a graph that no report is about, and ReportError."""
    for model in models:
        reports, precision = list_reports(model.bundle, files), model.bundle.choose_precision(model.settings.precision)
        known = {(row.graph, row.runtime) for report in reports for row in report.rows}
        for graph in offered(model.bundle, precision):
            _check_known(model, graph, known)


def _check_known(model: Model, graph: Graph, known: set[tuple[str, str]]) -> None:
    runtime = model.settings.runtime
    if not any(name == graph.file and runtime in (AUTO, drawn_with) for name, drawn_with in known):
        what = f"{graph.file} of bundle {model.name!r} has no report of `pahi-rt qualify` for the runtime {runtime}"
        asked = "all" if runtime == AUTO else runtime
        raise RuntimeUnavailable(what, fix=suggest(model.bundle, asked, graph.precision))


def load_qualified(files: Sequence[Path]) -> Load:
    """Loads what was chosen; raises RuntimeUnavailable unless all that is offered in its precision passes."""

    def load(chosen: Chosen) -> Pipeline:
        pipeline = Pipeline.open(chosen)
        reports = list_reports(chosen.bundle, files)
        # All at once: a service that can draw one step and not two would fail in the middle of its day.
        for graph in offered(chosen.bundle, chosen.graph.precision):
            require_pass(chosen.bundle, graph, pipeline.runtime.describe(), reports)
        return pipeline

    return load


def list_reports(bundle: Bundle, files: Sequence[Path]) -> list[Qualification]:
    """The report inside a bundle, if there is one, and those in `files` that are about a bundle of its name.

    Raises BundleError, ReportError.
    """
    inside, others = find_report(bundle), [read_report(path) for path in files]
    named = [report for report in others if report.bundle == bundle.manifest.name]
    return named if inside is None else [inside, *named]


def offered(bundle: Bundle, precision: str) -> list[Graph]:
    """The graphs of one precision."""
    return [graph for graph in bundle.manifest.graphs if graph.precision == precision]
