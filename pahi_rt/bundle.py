"""A bundle: the folder that export writes and every runtime reads, and nothing else is shared.

    pahi.json        the manifest: what the bundle is, with size and sha256 of every other file
    one-step.onnx    a graph for each number of steps, prior and precision; all of one precision share a weights file
    weights.bin      external data, memory mapped by the runtime; the priors' own is in pahi.bin and hi.bin
    tokenizer.json   Hugging Face tokenizers format

A file is checked when it is about to be used: its place, its size, its sha256, and that it is no pickle.
"""

from __future__ import annotations

import hashlib
import os
import pickletools
import stat
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path

from pahi_rt.cache import cache_folder
from pahi_rt.errors import BundleError
from pahi_rt.files import write_whole
from pahi_rt.hub import PREFIX, parse
from pahi_rt.manifest import (
    FORMAT_VERSION,
    GAUSSIAN,
    MANIFEST,
    PRIORS,
    Card,
    Component,
    Engine,
    FileRecord,
    Graph,
    ImageSpec,
    Manifest,
    Parity,
    PriorSpec,
    TensorSpec,
    TokenizerSpec,
    check_manifest,
    is_pickle_name,
    read_manifest,
    write_json,
)

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Bundle",
    "Card",
    "Component",
    "Engine",
    "FileRecord",
    "Graph",
    "ImageSpec",
    "Manifest",
    "Parity",
    "PriorSpec",
    "TensorSpec",
    "TokenizerSpec",
    "built_in",
    "file_record",
    "open_bundle",
    "verify",
    "write_manifest",
]


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest has been read; `open_bundle` makes it."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of a listed file, which is what the manifest says at this moment. Raises BundleError."""
        record = self.manifest.files.get(name)
        if record is None:
            raise BundleError(f"{self.path} lists no file {name!r}", fix=_mend(self.path))
        path = self.path / name
        try:
            _check_place(self, path)
            _check_content(path, record, _mend(self.path))
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror or error}", fix=_mend(self.path)) from error
        return path

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

    def graph_file(self, graph: Graph) -> Path:
        """The path of a graph, checked as `file` does, and so are the files that it reads its weights from."""
        for name in graph.weights:
            self.file(name)
        return self.file(graph.file)


def open_bundle(name_or_path: str | Path) -> Bundle:
    """Find a bundle and read its manifest.

    `name_or_path` is the name of a built-in bundle ("emoji"), a folder, a .zip of one, or the id of a
    Hugging Face repository ("owner/name" or "owner/name@revision"), tried in this order; with "hub:" before
    it, it is an id in any case. Zips and repositories are unpacked once into the user's cache. Raises BundleError.
    """
    folder = _locate(name_or_path)
    _check_inside(folder, folder / MANIFEST)
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder} is not a bundle: it has no readable {MANIFEST}", fix=_choices()) from error
    bundle = Bundle(folder, read_manifest(raw, str(folder / MANIFEST)))
    for path in folder.rglob("*"):
        if is_pickle_name(path.name):
            raise BundleError(f"{path} is a pickle; a bundle must hold none", fix=f"remove {path}")
    return bundle


def built_in() -> list[str]:
    """The names of the bundles that travel inside the package, sorted."""
    return sorted(folder.name for folder in _assets().iterdir() if (folder / MANIFEST).is_file())


def is_managed(folder: Path) -> bool:
    """A bundle's folder is the package's or the user's cache's: what is changed there breaks, or is lost."""
    return any(_real(folder).is_relative_to(_real(place)) for place in (_assets(), cache_folder("bundles")))


def verify(bundle: Bundle) -> None:
    """Check every listed file. Raises BundleError at the first that is not what the manifest says."""
    for name in bundle.manifest.files:
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
        raise BundleError(f"{path} is a link that leaves the bundle", fix=f"copy real files: cp -rL {folder} NEW")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a loop of links before Python 3.13


def _check_place(bundle: Bundle, path: Path) -> None:
    _check_inside(bundle.path, path)
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path} is not a file", fix=_mend(bundle.path))
    links = found.st_nlink
    # Installers may hard-link a package's files to their cache, so the built-in bundles are let off.
    if links > 1 and bundle.path.parent != _assets() and links > _links_inside(bundle, path):
        fix = f"copy real files: cp -r --no-preserve=links {bundle.path} NEW"
        raise BundleError(f"{path} is a hard link that leaves the bundle", fix=fix)


def _links_inside(bundle: Bundle, path: Path) -> int:
    paths = {_real(bundle.path / name) for name in bundle.manifest.files}
    return sum(other.samefile(path) for other in paths if other.exists())


def _check_content(path: Path, expected: FileRecord, fix: str) -> None:
    size = path.stat().st_size
    if size != expected.size:
        raise BundleError(f"{path} has {size} bytes instead of {expected.size}", fix=fix)
    if file_record(path).sha256 != expected.sha256:
        raise BundleError(f"{path} has been changed: its sha256 is not the manifest's", fix=fix)
    if is_pickle(path):
        raise BundleError(f"{path} is a pickle; a bundle must hold none", fix=fix)


def is_pickle(path: Path) -> bool:
    """By name, or by the first bytes: a bare pickle, or the zip of one that PyTorch writes."""
    with path.open("rb") as file:
        head = file.read(4096)
    if is_pickle_name(path.name):
        return True
    if head.startswith(b"PK\x03\x04"):
        return b".pkl" in head
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and _has_opcodes(head)


def _has_opcodes(head: bytes) -> bool:
    # Weights may begin with the same two bytes by chance, but hardly go on as a valid program.
    try:
        return len(list(islice(pickletools.genops(head), 6))) > 1
    except ValueError:
        return False
