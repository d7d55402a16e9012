"""`pahi-rt serve --qualified`: nothing draws that a report of `pahi-rt qualify` does not let pass.

What can be known before the service listens is checked then: that every graph which clients may ask for has passed.
Which runtime draws, `auto` decides when a graph is loaded, in each process; there the rest is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pahi_rt.bundle import Bundle
from pahi_rt.choice import AUTO, Chosen
from pahi_rt.manifest import Graph
from pahi_rt.pipeline import Pipeline
from pahi_rt.qualification import Qualification, find_report, read_report, require_chance, require_pass
from pahi_rt.serve.engine import Load
from pahi_rt.serve.models import Models


def check_reports(models: Models, files: Sequence[Path]) -> None:
    """Raises RuntimeUnavailable for a model with a graph that no report lets pass, and ReportError."""
    for model in models:
        reports, wanted = list_reports(model.bundle, files), model.settings.runtime
        for graph in offered(model.bundle, model.bundle.choose_precision(model.settings.precision)):
            require_chance(model.bundle, graph, None if wanted == AUTO else wanted, reports)


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
