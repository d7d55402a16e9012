"""Scorers in a bundle: exported before as folders, or now from PyTorch, for pictures of the bundle's size."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pahi_rt.errors import PahiError
from pahi_rt.export.scorer import DESCRIPTION, ScorerFolder, ScorerSettings, read_scorer, write_scorer
from pahi_rt.export.stages import Stages
from pahi_rt.files import sha256
from pahi_rt.manifest import ScorerSpec, TokenizerSpec
from pahi_rt.terminal import command

FOLDER = "scorers"
"""Where a bundle holds the files of its scorers."""


def add_scorers(
    folder: Path, specs: Sequence[str | Path], size: tuple[int, int], precision: str, tokenizer: str, stages: Stages
) -> dict[str, ScorerSpec] | None:
    """Put scorers, each a folder of `export_scorer` or a spec as for `load_scorer`, into a bundle's `folder`.

    `size` is that of the bundle's pictures, `precision` its default, and `tokenizer` its own file, which a scorer with
    the same tokenizer shares. Returns what the manifest says of them; None for none. Raises PahiError.
    """
    added: dict[str, ScorerSpec] = {}
    for spec in specs:
        with _exported(spec, size, precision, folder, stages) as place:
            found = read_scorer(place)
            _check_fit(found, spec, size, added)
            added[found.name] = _copy(found, place, folder, tokenizer)
    return added or None


@contextmanager
def _exported(spec: str | Path, size: tuple[int, int], precision: str, folder: Path, stages: Stages) -> Iterator[Path]:
    if (Path(spec) / DESCRIPTION).is_file():
        yield Path(spec)
        return
    with TemporaryDirectory(dir=folder) as made:
        write_scorer(str(spec), Path(made), ScorerSettings(size, "fp32" if precision == "fp32" else "w16"), stages)
        yield Path(made)


def _check_fit(found: ScorerFolder, spec: str | Path, size: tuple[int, int], added: dict[str, ScorerSpec]) -> None:
    if found.size != size:
        (height, width), (own_height, own_width) = size, found.size
        what = f"the scorer {spec} takes {own_height}x{own_width} pictures, and the model draws {height}x{width}"
        again = command("pahi-rt", "export-scorer", "SCORER", "--height", str(height), "--width", str(width))
        raise PahiError(what, fix=f"export it for these: {again}")
    if found.name in added:
        raise PahiError(f"two scorers are called {found.name!r}", fix="export one under another --name")


def _copy(found: ScorerFolder, place: Path, folder: Path, tokenizer: str) -> ScorerSpec:
    names = {name: f"{FOLDER}/{name}" for name in found.files}
    own = found.scorer.tokenizer
    if own is not None and found.files[own.file].sha256 == sha256(folder / tokenizer):
        names[own.file] = tokenizer
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, target in names.items():
        if target != tokenizer:
            shutil.copyfile(place / name, folder / target)
    return replace(
        found.scorer,
        file=names[found.scorer.file],
        weights=tuple(names[name] for name in found.scorer.weights),
        tokenizer=None if own is None else TokenizerSpec(names[own.file], own.max_length, own.pad_id),
    )
