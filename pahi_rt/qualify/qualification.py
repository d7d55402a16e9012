"""The straight line of `pahi-rt qualify`: pairs -> reference -> each graph in each runtime -> measures -> row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pahi_rt.bundle import Bundle
from pahi_rt.choice import choose
from pahi_rt.errors import PahiError
from pahi_rt.export.layers import compare_layers, find_side
from pahi_rt.export.provenance import Source
from pahi_rt.manifest import Graph
from pahi_rt.qualification import Measure, Pair, Row, name_device
from pahi_rt.qualify.margins import Standard
from pahi_rt.qualify.measures import Expected, Jury, Pictures, measure, picture_psnr, score_name
from pahi_rt.qualify.pairs import Pairs, check_memory, draw, find_recipe, list_prompts, make_pairs
from pahi_rt.qualify.reference import ONNX_RUNTIME, Reference, nearest, open_reference
from pahi_rt.qualify.verdicts import overall
from pahi_rt.runtimes import TABLE, open_chosen
from pahi_rt.runtimes.table import Entry, find
from pahi_rt.train.recipe import load_recipe

WORST = 4
"""Pictures that a row names and a page shows."""

Timed = Callable[[str], AbstractContextManager[None]]
"""Times a stage of this name."""


@dataclass(frozen=True)
class Request:
    """What is to be qualified."""

    runtimes: tuple[str, ...] | None = None
    """None for all that work here."""
    precisions: tuple[str, ...] | None = None
    """None for all of the bundle."""
    steps: tuple[int, ...] | None = None
    """None for all of the bundle."""
    pairs: int = 100
    recipe: str | None = None
    prompts: str | Path | None = None
    scorers: tuple[str, ...] = ()
    """Scorers besides the recipe's."""
    source: Source | None = None
    """The model that the bundle was made of; None for ONNX Runtime as the reference."""
    layers: bool = False


@dataclass(frozen=True)
class Examined:
    """A row, with the pictures behind it: the worst first."""

    row: Row
    drawn: Pictures
    expected: Pictures


@dataclass(frozen=True)
class Refused:
    """A runtime that was not asked for by name and does not draw here."""

    runtime: str
    precision: str
    reason: str


def examine(bundle: Bundle, request: Request, stage: Timed) -> Iterator[Examined | Refused]:
    """Compare every graph in every runtime with the reference; each row comes as soon as it is measured.

    Raises PahiError for what the bundle lacks, for a runtime that was asked for by name and does not draw, and for more
    pictures than fit into memory.
    """
    graphs, entries = choose_graphs(bundle, request), choose_entries(request.runtimes)
    check_memory(bundle, request.pairs)
    recipe = find_recipe(bundle, request.recipe)
    with stage("load prompts and scorers"):
        pairs = make_pairs(bundle, list_prompts(recipe, request.prompts), request.pairs)
        jury = Jury(list_scorers(recipe, request.scorers), bundle)
        reference = open_reference(bundle, pairs, request.source)
    for role in dict.fromkeys((graph.steps, graph.prior) for graph in graphs):
        of_role = [graph for graph in graphs if (graph.steps, graph.prior) == role]
        with stage(f"draw {len(pairs)} pictures with {reference.name}, {describe_role(*role)}"):
            expected = Expected.of(reference.draw(of_role[0]), pairs, jury)
        for graph in of_role:
            for entry in entries:
                try:
                    with stage(f"{graph.file} in {entry.name}"):
                        found = _examine_one(bundle, graph, entry, reference, expected, pairs, jury)
                except PahiError as error:
                    if request.runtimes is not None:
                        raise
                    yield Refused(entry.name, graph.precision, error.what)
                    continue
                if request.layers:
                    with stage(f"{graph.file} in {entry.name}, layer by layer"):
                        found = _add_layers(bundle, graph, found, pairs)
                yield found


def choose_graphs(bundle: Bundle, request: Request) -> list[Graph]:
    """The graphs that are asked for. Raises BundleError for precisions and steps that the bundle lacks."""
    precisions = [bundle.choose_precision(name) for name in request.precisions or bundle.precisions]
    graphs = [graph for graph in bundle.manifest.graphs if graph.precision in precisions]
    for steps in request.steps or ():
        for precision in precisions:
            bundle.graph(steps, graphs[0].prior, precision)
    return [graph for graph in graphs if request.steps is None or graph.steps in request.steps]


def choose_entries(names: Sequence[str] | None) -> list[Entry]:
    """The runtimes that are asked for. Raises RuntimeUnavailable for a name that there is not."""
    return list(TABLE) if names is None else [find(name) for name in names]


def list_scorers(recipe: str | None, further: Sequence[str]) -> list[str]:
    """Specs of the recipe's scorers and of further ones, each once. Raises RecipeError."""
    own = () if recipe is None else load_recipe(recipe).scorers.evaluation
    return list(dict.fromkeys([*own, *further]))


def describe_role(steps: int, prior: str) -> str:
    """What a graph draws, in words."""
    return f"{steps} step{'s' * (steps > 1)}, prior {prior}"


def _examine_one(
    bundle: Bundle, graph: Graph, entry: Entry, reference: Reference, expected: Expected, pairs: Pairs, jury: Jury
) -> Examined:
    if entry.check is not None:
        entry.check(entry.name, bundle)
    chosen = choose(bundle, steps=graph.steps, prior=graph.prior, precision=graph.precision, runtime=entry.name)
    runtime = open_chosen(chosen)
    description, drawn = runtime.describe(), draw(runtime, pairs, graph.prior)
    standard = Standard.of(graph.precision, reference.precision, entry.is_exact)
    measures = measure(drawn, expected, pairs, jury, standard)
    decibels = picture_psnr(drawn, expected.pictures)
    worst = np.argsort(decibels, kind="stable")[:WORST]
    is_itself = not reference.is_pytorch and (entry.name, graph.precision) == (ONNX_RUNTIME, reference.precision)
    row = Row(
        graph=graph.file,
        files=bundle.graph_files(graph),
        precision=graph.precision,
        steps=graph.steps,
        prior=graph.prior,
        runtime=entry.name,
        version=str(description["version"]),
        device=name_device(description),
        reference=f"{reference.name}, itself" if is_itself else reference.name,
        pairs=len(pairs),
        prompts=len(set(pairs.prompts)),
        verdict=overall(measures.values()),
        measures=measures,
        missing={**_blind(expected, measures), **jury.missing},
        worst=tuple(Pair(pairs.prompts[index], int(index), round(decibels[index], 2)) for index in worst),
    )
    return Examined(row, drawn[worst], expected.pictures[worst])


def _blind(expected: Expected, measures: Mapping[str, Measure]) -> dict[str, str]:
    """Measures of scorers that tell none of the reference's pictures apart, and why they were not taken."""
    names = map(score_name, expected.scores)
    return {name: "it scores all pictures of the reference alike" for name in names if name not in measures}


def _add_layers(bundle: Bundle, graph: Graph, found: Examined, pairs: Pairs) -> Examined:
    """The row with what each layer has lost, for its worst pair, or with the reason why that is not known."""
    row, plain = found.row, bundle.graph(graph.steps, graph.prior, nearest(bundle))
    inputs = pairs.inputs_of(row.worst[0].seed, row.prior)
    try:
        row = replace(row, layers=compare_layers(bundle, plain, graph, find_side(row.runtime), inputs))
    except PahiError as error:  # what was measured is kept
        row = replace(row, missing={**row.missing, "layers": error.what})
    return replace(found, row=row)
