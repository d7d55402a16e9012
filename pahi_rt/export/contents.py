"""The files in a bundle's folder while it is written: those that the export makes, and extra ones of the user's."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pahi_rt.errors import OutputError, PahiError
from pahi_rt.export.model import Model
from pahi_rt.export.precision import ALL
from pahi_rt.export.settings import STEMS, Variant, name_file
from pahi_rt.export.stages import files_in
from pahi_rt.export.tokenizer import FILE as TOKENIZER
from pahi_rt.manifest import GAUSSIAN, MANIFEST, PRECISIONS, PRIORS, Graph, is_safe_name

ROOM_FOR_GRAPHS = 64 * 2**20
OWN_FILES = {
    MANIFEST,
    TOKENIZER,
    *(name_file(stem, precision, "bin") for stem in ("weights", *PRIORS) for precision in PRECISIONS),
    *(Variant(n, prior, precision).file for n in STEMS for prior in (*PRIORS, GAUSSIAN) for precision in PRECISIONS),
}
"""Names of files that an export writes itself."""


@dataclass(frozen=True)
class Extras:
    """Files to copy into a bundle. Raises PahiError for a name that is not free, or a file that is not there."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Name in the bundle -> file."""
    vocabulary: str | None = None
    """The one that lists the words the model knows."""

    def __post_init__(self) -> None:
        for name, path in self.files.items():
            if not is_safe_name(name) or name in OWN_FILES or name.startswith("scorers/"):
                raise PahiError(f"an extra file cannot be called {name!r} in a bundle", fix="choose another name")
            if not path.is_file():
                raise PahiError(f"the extra file {path} does not exist", fix="check the path")
        if self.vocabulary is not None and self.vocabulary not in self.files:
            what = f"the vocabulary {self.vocabulary!r} is not among the extra files"
            raise PahiError(what, fix="add it to extra_files")

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.files.values())

    def copy(self, folder: Path) -> None:
        """Copy all files into `folder`."""
        for name, path in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)


def check_space(output: Path, folder: Path, model: Model, precisions: Sequence[str], extras: Extras) -> None:
    """Raises OutputError if the disk of `folder`, which becomes `output`, has too little room for the bundle."""
    modules = (model.generator, *model.priors.values())
    weights = sum(parameter.numel() for module in modules for parameter in module.parameters())
    needed = weights * sum(ALL[precision].bytes_per_weight for precision in precisions) + extras.size + ROOM_FOR_GRAPHS
    free = shutil.disk_usage(folder).free
    # What an export that was cut off has left is used again, or replaced.
    if free + sum(path.stat().st_size for path in files_in(folder)) < needed:
        raise OutputError(
            f"the bundle needs about {needed / 1e9:.1f} GB, {output.absolute().parent} has {free / 1e9:.1f} GB left",
            fix="free some space, choose another output, or export one precision alone, such as w16",
        )


def list_files(graphs: Sequence[Graph], extras: Extras) -> list[str]:
    """Names of all files of a bundle except its manifest, sorted."""
    return sorted({TOKENIZER, *extras.files, *(name for graph in graphs for name in (graph.file, *graph.weights))})


def remove_others(folder: Path, kept: Collection[str]) -> None:
    """Remove what a cut-off export has left and this one does not need, such as another precision."""
    for path in files_in(folder):
        if path.relative_to(folder).as_posix() not in kept:
            path.unlink()
    for path in sorted(folder.rglob("*/"), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
