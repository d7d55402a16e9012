"""A bundle: the folder that export writes and every runtime reads, and nothing else is shared.

    pahi.json        the manifest: what the bundle is, with size and sha256 of every other file
    one-step.onnx    a graph for each number of steps, prior and precision; all of one precision share a weights file
    weights.bin      external data, memory mapped by the runtime; the priors' own is in pahi.bin and hi.bin
    tokenizer.json   Hugging Face tokenizers format

A file is checked when it is about to be used: its place, its size, its sha256, and that it is no pickle. A graph is
read before a runtime reads it, and looked at again afterwards, with its weights.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pahi_rt.cache import cache_folder
from pahi_rt.errors import BundleError
from pahi_rt.files import write_whole
from pahi_rt.graphs import check_onnx
from pahi_rt.hub import PREFIX, parse
from pahi_rt.listed import ListedFile, ListedFolders, open_listed, read_bounded
from pahi_rt.manifest import (
    GAUSSIAN,
    MANIFEST,
    MAX_MANIFEST,
    PRIORS,
    FileRecord,
    Graph,
    Manifest,
    check_manifest,
    is_pickle_name,
    read_manifest,
    write_json,
)
from pahi_rt.terminal import command

MOST_ENTRIES = 10_000
"""Files and folders that a bundle's folder may hold, listed or not."""


@dataclass(frozen=True)
class OpenGraph:
    """A graph that has been checked, and so have the files that it reads its weights from."""

    path: Path
    content: bytes
    """What was checked, for runtimes that need not open the file again."""


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest has been read; `open_bundle` makes it."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of a listed file, which is what the manifest says at this moment. Raises BundleError."""
        with self._hold(name) as file:
            file.check()
        return file.path

    def read(self, name: str) -> bytes:
        """What a listed file holds, which is what the manifest says. Raises BundleError."""
        with self._hold(name) as file:
            return file.read()

    def copy(self, name: str, target: Path) -> None:
        """Copy a listed file, which is what the manifest says. Raises BundleError, and OSError for `target`."""
        with self._hold(name) as file:
            file.copy(target)

    @property
    def priors(self) -> list[str]:
        """The kinds of priors that it has, the default first."""
        return [kind for kind in PRIORS if kind in self.manifest.priors]

    @property
    def precisions(self) -> list[str]:
        """What its graphs compute in, the default first."""
        return list(dict.fromkeys(graph.precision for graph in self.manifest.graphs))

    def graphs(self, prior: str = GAUSSIAN, precision: str | None = None) -> dict[int, Graph]:
        """Denoising steps -> the graph that draws with `prior`, a kind or "gaussian", in `precision` or the default.

        For "gaussian" a prior's graph stands in where there is none without: it must be run at strength 0.
        Raises BundleError for a prior or a precision that it lacks.
        """
        self._check_choice("prior", prior, [*self.priors, GAUSSIAN])
        wanted = self.choose_precision(precision)
        # What comes last takes a number's place: those without a prior, then the default prior's.
        order = [*reversed(self.priors), GAUSSIAN] if prior == GAUSSIAN else [prior]
        return {
            graph.steps: graph
            for kind in order
            for graph in self.manifest.graphs
            if (graph.prior, graph.precision) == (kind, wanted)
        }

    def choose_precision(self, wanted: str | None = None) -> str:
        """`wanted`, or the default for None. Raises BundleError for one that it lacks."""
        if wanted is None:
            return self.manifest.graphs[0].precision
        self._check_choice("precision", wanted, self.precisions)
        return wanted

    def _check_choice(self, what: str, wanted: str, known: list[str]) -> None:
        if wanted not in known:
            fix = f"use --{what} {' or '.join(known)}"
            raise BundleError(f"bundle {self.manifest.name!r} has no {what} {wanted[:40]!r}", fix=fix)

    def graph(self, steps: int, prior: str = GAUSSIAN, precision: str | None = None) -> Graph:
        """That of `graphs` which takes `steps` denoising steps. Raises BundleError that names those there are."""
        graphs = self.graphs(prior, precision)
        if steps not in graphs:
            known = sorted(graphs)
            listed = " or ".join(map(str, known)) or "none"
            fix = f"use --steps {known[0]}" if known else "leave --precision or --prior out"
            raise BundleError(f"bundle {self.manifest.name!r} has no graph of {steps} steps, only {listed}", fix=fix)
        return graphs[steps]

    @contextmanager
    def opened(self, graph: Graph) -> Iterator[OpenGraph]:
        """A graph for a runtime to load inside this context; the only way to load one.

        Graph and weights are checked before, and again at the end: they may not have been changed meanwhile. Raises
        BundleError.
        """
        names = (graph.file, *graph.weights)
        with ExitStack() as stack:
            folders = ListedFolders(self.path, names)
            first, *weights = [stack.enter_context(self._hold(name)) for name in names]
            content = first.read()
            self._check(graph, content)
            for file in weights:
                file.check()
            try:
                yield OpenGraph(first.path, content)
            finally:
                # Also where loading has failed: the reason may be what has been put in a file's place.
                for file in (first, *weights):
                    file.confirm()
                folders.confirm()

    def read_graph(self, graph: Graph) -> bytes:
        """What a graph's file holds, which is what our exports write. Its weights are not read. Raises BundleError."""
        content = self.read(graph.file)
        self._check(graph, content)
        return content

    def check_graphs(self) -> None:
        """That runtimes may read the graphs. Raises BundleError."""
        for graph in self.manifest.graphs:
            self.read_graph(graph)

    def _check(self, graph: Graph, content: bytes) -> None:
        sizes = {name: record.size for name, record in self.manifest.files.items()}
        check_onnx(content, graph, sizes, str(self.path / graph.file))

    @contextmanager
    def _hold(self, name: str) -> Iterator[ListedFile]:
        record, path = self.manifest.files.get(name), self.path / name
        if record is None:
            raise BundleError(f"{self.path} lists no file {name!r}", fix=_mend(self.path))
        _check_inside(self.path, path)
        with open_listed(path, record, _mend(self.path)) as file:
            # A hard link is a file like others: all that is read from it has the sha256 that is listed.
            yield file


def open_bundle(name_or_path: str | Path) -> Bundle:
    """Find a bundle and read its manifest.

    `name_or_path` is the name of a built-in bundle ("emoji"), a folder, a .zip of one, or the id of a
    Hugging Face repository ("owner/name" or "owner/name@revision"), tried in this order; with "hub:" before
    it, it is an id in any case. Zips and repositories are unpacked once into the user's cache. Raises BundleError.
    """
    folder = _locate(name_or_path)
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise BundleError(f"{folder} is not a bundle: it has no readable {MANIFEST}", fix=_choices())
    _check_inside(folder, path)
    bundle = Bundle(folder, read_manifest(read_bounded(path, MAX_MANIFEST, _mend(folder)), str(path)))
    _check_folder(folder)
    return bundle


def built_in() -> list[str]:
    """The names of the bundles that travel inside the package, sorted."""
    return sorted(folder.name for folder in _assets().iterdir() if (folder / MANIFEST).is_file())


def is_managed(folder: Path) -> bool:
    """A bundle's folder is the package's or the user's cache's: what is changed there breaks, or is lost."""
    return any(_real(folder).is_relative_to(_real(place)) for place in (_assets(), cache_folder("bundles")))


def verify(bundle: Bundle) -> None:
    """Check every listed file, and read every graph. Raises BundleError at the first that is not what it should be."""
    bundle.check_graphs()
    read = {graph.file for graph in bundle.manifest.graphs}
    for name in (name for name in bundle.manifest.files if name not in read):
        bundle.file(name)


def file_record(path: Path) -> FileRecord:
    """Size and sha256 of a file, as a manifest lists them."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return FileRecord(digest.hexdigest(), path.stat().st_size)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder`/pahi.json, whole or not at all. Raises BundleError for what could not be read back."""
    check_manifest(manifest)
    content = write_json(manifest)
    read_manifest(content, MANIFEST)
    write_whole(folder / MANIFEST, content)


def _locate(name_or_path: str | Path) -> Path:
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in built_in():
        return _assets() / name
    hub_id = parse(name) if isinstance(name_or_path, str) else None
    path = None if hub_id and name.startswith(PREFIX) else _existing(name)
    if path is not None and path.is_dir():
        return path
    if path is not None:
        from pahi_rt.archive import unpack

        return unpack(path)
    if hub_id is not None:
        from pahi_rt.archive import download

        return download(hub_id)
    raise BundleError(f"there is no bundle {name[:200]!r}", fix=_choices())


def _existing(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and (path.is_dir() or path.is_file()) else None
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL byte
        return None


def _assets() -> Path:
    return Path(str(resources.files("pahi_rt.assets")))


def _choices() -> str:
    names = ", ".join(built_in()) or "none here"
    return f"name a built-in bundle ({names}), a folder or .zip that holds {MANIFEST}, or a hub id owner/name"


def _mend(folder: Path) -> str:
    if folder.parent == _assets():
        return "pip install --force-reinstall --no-deps pahi-rt"
    return f"remove {folder} and export, unpack or download the bundle again"


def _check_inside(folder: Path, path: Path) -> None:
    if not _real(path).is_relative_to(_real(folder)):
        raise BundleError(
            f"{path} is a link that leaves the bundle", fix=f"copy real files: {command('cp', '-rL', folder, 'NEW')}"
        )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a loop of links before Python 3.13


def _check_folder(folder: Path) -> None:
    """That there is no pickle in a bundle's folder, listed or not."""
    for count, path in enumerate(_walk(folder)):
        if is_pickle_name(path.name):
            raise BundleError(f"{path} is a pickle; a bundle must hold none", fix=command("rm", path))
        if count == MOST_ENTRIES:
            what = f"{folder} holds more than {MOST_ENTRIES} files and folders"
            raise BundleError(what, fix="move what is not the bundle's to another folder")


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder, one by one; links are not followed."""
    waiting = [folder]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
    except OSError as error:
        raise BundleError(f"{folder} cannot be searched: {error}", fix=_mend(folder)) from error
