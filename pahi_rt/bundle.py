"""A bundle: the folder that `pahi-rt export` writes and every runtime reads. They share nothing else.

    pahi.json        the manifest: what the bundle is, with the size and sha256 of every other file
    one-step.onnx    a graph for each number of steps, prior and precision; those of one precision share a weights file
    weights.bin      external data, memory mapped by the runtime; the weights of the priors are in pahi.bin and hi.bin
    tokenizer.json   Hugging Face tokenizers format

Each file is checked when it is about to be used: its place, its size, its sha256, and that it is not a pickle. A graph
is checked before a runtime reads it, and weights while the runtime loads them. After that, both must be unchanged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pahi_rt.errors import BundleError
from pahi_rt.files import sha256, write_whole
from pahi_rt.graphs import check_onnx
from pahi_rt.listed import ListedFile, ListedFolders, checking, open_listed, read_bounded
from pahi_rt.locations import find_folder, list_choices, suggest_repair
from pahi_rt.manifest import (
    GAUSSIAN,
    MANIFEST,
    PRIORS,
    REPORT,
    FileRecord,
    Graph,
    Manifest,
    OnnxFile,
    ScorerSpec,
    is_pickle_name,
)
from pahi_rt.manifest_file import MAX_MANIFEST, check_manifest, read_manifest, write_json
from pahi_rt.scratch import claim
from pahi_rt.terminal import command

_PATIENCE = 60.0
"""Seconds to wait while another run changes pahi.json. It takes milliseconds, and hours of work may wait for it."""
MOST_ENTRIES = 10_000
"""The most files and folders that a bundle's folder may hold, listed or not."""


@dataclass(frozen=True)
class OpenGraph:
    """A graph that has been checked, together with the files that hold its weights."""

    path: Path
    content: bytes
    """The bytes that were checked, for runtimes that need not open the file again."""


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest has been read. `open_bundle` makes it."""

    path: Path
    manifest: Manifest

    @property
    def sha256(self) -> str:
        """The sha256 of pahi.json, which holds the sha256 of every other file. Raises OSError.

        The report of `pahi-rt qualify` changes no picture, so with it this is what it was without it.
        """
        if REPORT not in self.manifest.files:
            return file_record(self.path / MANIFEST).sha256
        return hashlib.sha256(write_json(without_report(self.manifest))).hexdigest()

    def file(self, name: str) -> Path:
        """The path of a listed file. It was just checked against the manifest. Raises BundleError."""
        with self._hold(name) as file:
            file.check()
        return file.path

    def read(self, name: str) -> bytes:
        """Read a listed file, checked against the manifest. Raises BundleError."""
        with self._hold(name) as file:
            return file.read()

    def copy(self, name: str, target: Path) -> None:
        """Copy a listed file, checked against the manifest. Raises BundleError, and OSError for `target`."""
        with self._hold(name) as file:
            file.copy(target)

    @property
    def priors(self) -> list[str]:
        """The kinds of priors that the bundle has, the default first."""
        return [kind for kind in PRIORS if kind in self.manifest.priors]

    @property
    def precisions(self) -> list[str]:
        """The precisions of the bundle's graphs, the default first."""
        return list(dict.fromkeys(graph.precision for graph in self.manifest.graphs))

    def graphs(self, prior: str = GAUSSIAN, precision: str | None = None) -> dict[int, Graph]:
        """Denoising steps -> the graph that draws with `prior` in `precision`, by default the bundle's first one.

        `prior` is a kind of prior or "gaussian". For "gaussian", where there is no graph without a prior, a prior's
        graph stands in: it must be run at strength 0. Raises BundleError for a prior or a precision that it lacks.
        """
        self._check_choice("prior", prior, [*self.priors, GAUSSIAN])
        wanted = self.choose_precision(precision)
        # Later kinds replace earlier ones: a graph without a prior comes first, then the default prior's.
        order = [*reversed(self.priors), GAUSSIAN] if prior == GAUSSIAN else [prior]
        return {
            graph.steps: graph
            for kind in order
            for graph in self.manifest.graphs
            if (graph.prior, graph.precision) == (kind, wanted)
        }

    def graph_files(self, graph: Graph) -> dict[str, str]:
        """The files that a graph's pictures depend on, its own first -> sha256."""
        return {name: self.manifest.files[name].sha256 for name in (graph.file, *graph.weights)}

    def weights_size(self, graph: Graph) -> int:
        """Bytes of the files that hold a graph's weights."""
        return sum(self.manifest.files[name].size for name in graph.weights)

    @property
    def scorers(self) -> dict[str, ScorerSpec]:
        """Name -> the preference scorers that the bundle has, the default first."""
        return self.manifest.scorers or {}

    def choose_precision(self, wanted: str | None = None) -> str:
        """`wanted`, or the default for None. Raises BundleError for one that the bundle lacks."""
        if wanted is None:
            return self.manifest.graphs[0].precision
        self._check_choice("precision", wanted, self.precisions)
        return wanted

    def choose_scorer(self, wanted: str | None = None) -> str:
        """The name of a scorer: `wanted`, or the first one for None. Raises BundleError if there is none."""
        if not self.scorers:
            what = f"bundle {self.manifest.name!r} has no scorer to choose pictures with"
            raise BundleError(what, fix="export it with --scorer SCORER, or draw without --candidates")
        name = next(iter(self.scorers)) if wanted is None else wanted
        self._check_choice("scorer", name, list(self.scorers))
        return name

    def _check_choice(self, what: str, wanted: str, known: list[str]) -> None:
        if wanted not in known:
            fix = f"use --{what} {' or '.join(known)}"
            raise BundleError(f"bundle {self.manifest.name!r} has no {what} {wanted[:40]!r}", fix=fix)

    def graph(self, steps: int, prior: str = GAUSSIAN, precision: str | None = None) -> Graph:
        """The graph for `steps` denoising steps; other arguments as for `graphs`.

        Raises BundleError that lists the numbers of steps there are.
        """
        graphs = self.graphs(prior, precision)
        if steps not in graphs:
            known = sorted(graphs)
            listed = " or ".join(map(str, known)) or "none"
            fix = f"use --steps {listed}" if known else "leave --precision or --prior out"
            raise BundleError(f"bundle {self.manifest.name!r} has no graph of {steps} steps, only {listed}", fix=fix)
        return graphs[steps]

    @contextmanager
    def opened(self, graph: OnnxFile) -> Iterator[OpenGraph]:
        """Open a graph, for a runtime to load inside this context. This is the only way to load one.

        The graph is checked before, its weights until the end, and both must be unchanged then. Raises BundleError.
        """
        names = (graph.file, *graph.weights)
        with ExitStack() as stack:
            folders = ListedFolders(self.path, names)
            first, *weights = [stack.enter_context(self._hold(name)) for name in names]
            content = first.read()
            self._check(graph, content)
            try:
                with checking(weights):
                    yield OpenGraph(first.path, content)
            finally:
                # Also after a failed load: a file that was replaced may be the reason.
                for file in (first, *weights):
                    file.confirm()
                folders.confirm()

    def read_graph(self, graph: OnnxFile) -> bytes:
        """Read a graph's file, checked as a graph that our exports write. Reads no weights. Raises BundleError."""
        content = self.read(graph.file)
        self._check(graph, content)
        return content

    def check_graphs(self) -> None:
        """Check every graph as `read_graph` does. Raises BundleError."""
        for graph in self.manifest.onnx_files:
            self.read_graph(graph)

    def _check(self, graph: OnnxFile, content: bytes) -> None:
        sizes = {name: record.size for name, record in self.manifest.files.items()}
        check_onnx(content, graph, sizes, str(self.path / graph.file))

    @contextmanager
    def _hold(self, name: str) -> Iterator[ListedFile]:
        record, path = self.manifest.files.get(name), self.path / name
        if record is None:
            raise BundleError(f"{self.path} lists no file {name!r}", fix=suggest_repair(self.path))
        _check_inside(self.path, path)
        with open_listed(path, record, suggest_repair(self.path)) as file:
            # Hard links are allowed: everything that is read has the listed sha256.
            yield file


def open_bundle(name_or_path: str | Path) -> Bundle:
    """Find a bundle and read its manifest.

    `name_or_path` is one of these, tried in this order: the name of a built-in bundle ("emoji"), a folder, a .zip of
    one, or the id of a Hugging Face repository ("owner/name" or "owner/name@revision"). With "hub:" before it, it is
    always an id. Zips and repositories are unpacked once into the user's cache. Raises BundleError.
    """
    folder = find_folder(name_or_path)
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise BundleError(f"{folder} is not a bundle: it has no readable {MANIFEST}", fix=list_choices())
    _check_inside(folder, path)
    content = read_bounded(path, MAX_MANIFEST, suggest_repair(folder))
    bundle = Bundle(folder, read_manifest(content, str(path)))
    _check_folder(folder)
    return bundle


def verify(bundle: Bundle) -> None:
    """Check every listed file and every graph. Raises BundleError at the first that is not what the manifest says."""
    bundle.check_graphs()
    read = {graph.file for graph in bundle.manifest.onnx_files}
    for name in (name for name in bundle.manifest.files if name not in read):
        bundle.file(name)


def without_report(manifest: Manifest) -> Manifest:
    """The manifest as it is before `pahi-rt qualify` lists its report."""
    return replace(manifest, files={name: record for name, record in manifest.files.items() if name != REPORT})


def file_record(path: Path) -> FileRecord:
    """Size and sha256 of a file, as a manifest lists them."""
    return FileRecord(sha256(path), path.stat().st_size)


@contextmanager
def changing(folder: Path, verb: str) -> Iterator[Bundle]:
    """The bundle in `folder` as it is now, for a change of its pahi.json; other runs wait with theirs until the end.

    Between reading and writing pahi.json, nobody else may write it: what they had listed would be lost. Raises
    BundleError, OutputError if another run does not end, and OSError.
    """
    with claim(folder / MANIFEST, verb, patience=_PATIENCE):
        yield open_bundle(folder)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder`/pahi.json, whole or not at all. Raises BundleError if it could not be read back."""
    check_manifest(manifest)
    content = write_json(manifest)
    read_manifest(content, MANIFEST)
    write_whole(folder / MANIFEST, content)


def _check_inside(folder: Path, path: Path) -> None:
    # Path.resolve raises RuntimeError for a loop of links before Python 3.13; realpath does not.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise BundleError(
            f"{path} is a link that leaves the bundle", fix=f"copy real files: {command('cp', '-rL', folder, 'NEW')}"
        )


def _check_folder(folder: Path) -> None:
    """Check that a bundle's folder holds no pickle, listed or not, and not too many entries. Raises BundleError."""
    for count, path in enumerate(_walk(folder)):
        if is_pickle_name(path.name):
            raise BundleError(f"{path} is a pickle; a bundle must hold none", fix=command("rm", path))
        if count == MOST_ENTRIES:
            what = f"{folder} holds more than {MOST_ENTRIES} files and folders"
            raise BundleError(what, fix="move files that do not belong to the bundle to another folder")


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder, one by one, without following links."""
    waiting = [folder]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
    except OSError as error:
        raise BundleError(f"{folder} cannot be searched: {error}", fix=suggest_repair(folder)) from error
