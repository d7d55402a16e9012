"""The published pipeline, whose weights lie in the embedded bundle and nowhere else in the source tree.

The exporter only rounds and transposes matrices, and these are rounded already: nearly every tensor of the pipeline is
in the bundle's weights. `pieces.json` says for each weights file where its bytes are, there or in `rest.bin`, which
holds what no graph needs: headers, small tensors, and the autoencoder's encoder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pahi_rt import assets
from pahi_rt.cache import cache_folder, make_private
from pahi_rt.errors import ModelError
from pahi_rt.files import explain, sha256
from pahi_rt.models.safetensors_file import list_places
from pahi_rt.scratch import scratch, sweep

PUBLISHED = Path(__file__).parent / "weights"
BUNDLE = Path(assets.__path__[0]) / "emoji"
"""The embedded bundle."""
WEIGHTS = "weights-w16.bin"
"""The bundle's file of the generator's weights."""
_INDEX, _REST = "pieces.json", "rest.bin"


class Piece(NamedTuple):
    """Bytes of a weights file, which lie somewhere else."""

    is_shared: bool
    """Whether they lie in the bundle's weights, and not in rest.bin."""
    offset: int
    size: int
    rows: int = 0
    """If not 0: they lie there as a matrix of 16-bit values with as many rows, and have to be transposed."""


def generator() -> Path:
    """The folder of the pipeline, in diffusers' format, written to the user's cache once.

    Raises ModelError if bundle and pipeline do not belong together, and OutputError if it cannot be written.
    """
    index = (PUBLISHED / _INDEX).read_bytes()
    folder = cache_folder("generators", hashlib.sha256(index).hexdigest()[:16], "pahi-emoji")
    if not folder.is_dir():
        try:
            make_private(folder.parent)
            sweep(folder.parent)
            unpack(PUBLISHED, BUNDLE, folder)
        except OSError as error:
            raise explain(error, folder, "or set XDG_CACHE_HOME") from error
    return folder


def publish(pipeline: Path, bundle: Path, place: Path) -> None:
    """Write the diffusers folder `pipeline` to `place`, without what lies in the weights of the `bundle` made of it."""
    from pahi_rt.export.weights import PAGE  # here: whoever loads a scorer imports this module, and needs no exporter

    pages, index = _Pages((bundle / WEIGHTS).read_bytes(), PAGE), {}
    with scratch(place, "write") as made:
        new = shutil.copytree(pipeline, made / "new", ignore=shutil.ignore_patterns("*.safetensors"))
        with (new / _REST).open("wb") as rest:
            for path in sorted(pipeline.rglob("*.safetensors")):
                parts = _split(path.read_bytes())
                pieces = [pages.find(part, shape) or _append(part, rest) for part, shape in parts]
                index[path.relative_to(pipeline).as_posix()] = {"sha256": sha256(path), "pieces": pieces}
        (new / _INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)


def unpack(place: Path, bundle: Path, folder: Path) -> None:
    """Write what `publish` left in `place` to `folder`, again as the diffusers folder that it was.

    Raises ModelError if `bundle` is not the one that it was published with, and OSError.
    """
    sources = np.memmap(place / _REST, np.uint8, "r"), np.memmap(bundle / WEIGHTS, np.uint8, "r")
    with scratch(folder, "write") as made:
        new = made / folder.name
        shutil.copytree(place, new, ignore=shutil.ignore_patterns(_INDEX, _REST))
        for name, entry in json.loads((place / _INDEX).read_bytes()).items():
            content = b"".join(_read(sources, Piece(*piece)) for piece in entry["pieces"])
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise ModelError(f"{bundle} does not hold the weights of {place}", fix="check out both from one commit")
            (new / name).write_bytes(content)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise


class _Pages:
    """The bundle's weights, which can be searched for a tensor: each starts on a page, and fills one or more."""

    def __init__(self, content: bytes, page: int) -> None:
        self._content, self._page = content, page
        self._starts: dict[bytes, list[int]] = {}
        for start in range(0, len(content), page):
            self._starts.setdefault(content[start : start + page], []).append(start)

    def find(self, part: bytes, shape: tuple[int, ...]) -> Piece | None:
        """Where the bytes of a tensor lie, as they are or transposed."""
        if (offset := self._offset(part)) is not None:
            return Piece(True, offset, len(part))
        if len(shape) != 2 or len(part) != 2 * shape[0] * shape[1]:
            return None
        turned = np.frombuffer(part, np.uint16).reshape(shape).T
        offset = self._offset(turned.tobytes())
        return None if offset is None else Piece(True, offset, len(part), len(turned))

    def _offset(self, part: bytes) -> int | None:
        found = (start for start in self._starts.get(part[: self._page], ()) if self._content.startswith(part, start))
        return next(found, None)


def _append(part: bytes, rest: BinaryIO) -> Piece:
    piece = Piece(False, rest.tell(), len(part))
    rest.write(part)
    return piece


def _split(content: bytes) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """The header of a safetensors file, and its tensors in the order of their bytes, each with its shape."""
    places = list_places(content)
    yield content[: places[0].start], ()
    for place in places:
        yield content[place.start : place.end], place.shape


def _read(sources: tuple[NDArray[np.uint8], NDArray[np.uint8]], piece: Piece) -> bytes:
    found = sources[piece.is_shared][piece.offset : piece.offset + piece.size]
    return found.view(np.uint16).reshape(piece.rows, -1).T.tobytes() if piece.rows else found.tobytes()
