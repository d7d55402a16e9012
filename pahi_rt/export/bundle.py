"""From a diffusers model to a bundle: load, trace, store, check, and only then show the result.

Everything is written into a scratch folder beside the output, which takes its place when all of it is there and every
graph has passed the parity gate. An error before that leaves nothing behind; an export that is cut off, by Ctrl-C or a
kill, leaves the folder, and the same export goes on from it, however often that takes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from pahi_rt.bundle import Bundle, open_bundle, write_manifest
from pahi_rt.errors import OutputError, PahiError
from pahi_rt.export.calibration import load_calibration
from pahi_rt.export.graph import PORTABLE_OPSET
from pahi_rt.export.journal import Journal
from pahi_rt.export.parity import check_graph
from pahi_rt.export.precision import ALL
from pahi_rt.export.provenance import describe_components, describe_prior, settings_files, tool_versions
from pahi_rt.export.reveal import BUNDLE, building
from pahi_rt.export.tokenizer import FILE as TOKENIZER
from pahi_rt.export.tokenizer import save_tokenizer
from pahi_rt.export.trace import (
    STEMS,
    ExportSettings,
    Model,
    OnStage,
    Stages,
    Traced,
    Variant,
    files_in,
    load_model,
    name_file,
    trace,
)
from pahi_rt.files import sha256
from pahi_rt.manifest import (
    FORMAT_VERSION,
    GAUSSIAN,
    MANIFEST,
    PRECISIONS,
    PRIORS,
    Card,
    Manifest,
    Parity,
    TokenizerSpec,
    is_safe_name,
)
from pahi_rt.models.loras import read_lora
from pahi_rt.models.sources import find_model
from pahi_rt.noise import RECIPE

ROOM_FOR_GRAPHS = 64 * 2**20
OWN_FILES = {
    MANIFEST,
    TOKENIZER,
    *(name_file(stem, precision, "bin") for stem in ("weights", *PRIORS) for precision in PRECISIONS),
    *(Variant(n, prior, precision).file for n in STEMS for prior in (*PRIORS, GAUSSIAN) for precision in PRECISIONS),
}
"""Names of files that an export writes itself."""


def export_bundle(
    model: str | Path,
    output: str | Path,
    *,
    name: str,
    steps: Sequence[int] = (1, 2),
    precisions: Sequence[str] = ("fp32",),
    priors: Sequence[str | Path] = (),
    decoder: str | Path | None = None,
    variant: str | None = None,
    loras: Sequence[str | Path] = (),
    size: tuple[int, int] | None = None,
    opset: int = PORTABLE_OPSET,
    calibration: str | Path | None = None,
    min_psnr: float | None = None,
    card: Card | None = None,
    extra_files: Mapping[str, str | Path] | None = None,
    vocabulary: str | None = None,
    overwrite: bool = False,
    on_stage: OnStage | None = None,
) -> Bundle:
    """Fuse the diffusers folder or hub id `model` into a graph for each of `steps` and `precisions`: bundle `output`.

    `priors` are checkpoints of `pahi-rt train`, an HI, a PAHI or both: then there is a graph for each number of steps
    and each prior, and none without. `decoder` is an autoencoder, a folder or hub id, that takes the place of the
    model's own. `variant` chooses among the weights that the model has, such as "fp16", and `loras` are files to fuse
    into them, each FILE or FILE:SCALE. `size` is the pictures' height and width in pixels, if not those that the model
    was trained at. The first of `precisions`, which `pahi_rt.export.precision` describes, is the bundle's default. Of
    `calibration`, prompts of the kind that the model is for (a source as for `load_split`), int8 takes its ranges.
    Graphs of fewer bits must come as near to PyTorch fp32 as their precision asks for, or as `min_psnr` does, in dB.
    `extra_files` (name in the bundle -> file) are copied along, and `vocabulary` names the one of them that lists the
    words the model knows.

    Raises OutputError if `output` cannot be written, ParityError if a graph does not draw what PyTorch draws, and
    PahiError for a model that cannot be exported or a prior that does not fit it.
    """
    output, extras = Path(output), {key: Path(value) for key, value in (extra_files or {}).items()}
    settings = ExportSettings(tuple(steps), tuple(precisions), opset, load_calibration(calibration), min_psnr)
    _check_extras(extras, vocabulary)
    with building(output, BUNDLE, overwrite=overwrite, resume=True) as scratch:
        # Once: what a branch of the hub holds may change.
        folder = find_model(model, variant)
        other = None if decoder is None else find_model(decoder)
        added = [read_lora(lora) for lora in loras]
        stages, journal = Stages(scratch, on_stage), Journal(scratch, scratch.with_name("journal.json"))
        checkpoints = [Path(prior) for prior in priors]
        load = partial(load_model, folder, checkpoints, other, size, variant=variant, loras=added)
        generator, autoencoder = describe_components(folder, other, variant, added)

        def prepare(loaded: Model) -> TokenizerSpec:
            described = [describe_prior(path) for path in loaded.checkpoints.values()]
            configs = sha256(*settings_files(folder, other))
            # Precisions are entries of the journal.
            shared = settings.steps, settings.opset, settings.calibration, settings.min_psnr
            journal.begin(_key(generator, autoencoder, configs, described, size, shared, tool_versions()))
            _check_space(output, scratch, loaded, settings.precisions, extras)
            return save_tokenizer(folder, loaded.generator, scratch)

        traced = trace(load, prepare, scratch, settings, stages, journal)
        parity = (*traced.parity, *_check_parity(scratch, traced, stages, journal))
        with stages("write bundle"):
            _copy(extras, scratch)
            kept = {TOKENIZER, *extras, *(name for g in traced.graphs.values() for name in (g.file, *g.weights))}
            _remove_others(scratch, kept)
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                name=name,
                generator=generator,
                autoencoder=autoencoder,
                priors=traced.priors,
                image=traced.image,
                tokenizer=traced.tokenizer,
                noise_recipe=RECIPE,
                graphs=tuple(traced.graphs.values()),
                engines=(),
                parity=parity,
                files={name: journal.record(name) for name in sorted(kept)},
                tools=tool_versions(),
                card=card,
                vocabulary=vocabulary,
            )
            write_manifest(scratch, manifest)
            Bundle(scratch, manifest).check_graphs()
    return open_bundle(output)


def _key(*parts: object) -> str:
    """One word for all that decides what graphs hold: the model by its hashes, steps, opset, versions."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _check_parity(folder: Path, traced: Traced, stages: Stages, journal: Journal) -> tuple[Parity, ...]:
    def compare(variant: Variant) -> list[Parity]:
        with stages(f"compare {variant.file} with PyTorch"):
            return check_graph(folder / variant.file, traced.inputs, traced.references[variant])

    return tuple(row for v in traced.references for row in journal.parity(v.file, partial(compare, v)))


def _check_extras(extras: Mapping[str, Path], vocabulary: str | None) -> None:
    for name, path in extras.items():
        if not is_safe_name(name) or name in OWN_FILES:
            raise PahiError(f"an extra file cannot be called {name!r} in a bundle", fix="choose another name")
        if not path.is_file():
            raise PahiError(f"the extra file {path} does not exist", fix="check the path")
    if vocabulary is not None and vocabulary not in extras:
        raise PahiError(f"the vocabulary {vocabulary!r} is not among the extra files", fix="add it to extra_files")


def _check_space(
    output: Path, folder: Path, model: Model, precisions: Sequence[str], extras: Mapping[str, Path]
) -> None:
    modules = (model.generator, *model.priors.values())
    parameters = [parameter for module in modules for parameter in module.parameters()]
    room = sum(ALL[precision].bytes_per_weight for precision in precisions)
    weights = sum(parameter.numel() for parameter in parameters) * room
    needed = weights + sum(path.stat().st_size for path in extras.values()) + ROOM_FOR_GRAPHS
    free = shutil.disk_usage(folder).free
    if free + sum(path.stat().st_size for path in files_in(folder)) < needed:
        raise OutputError(
            f"the bundle needs about {needed / 1e9:.1f} GB, {output.absolute().parent} has {free / 1e9:.1f} GB left",
            fix="free some space, choose another output, or export one precision alone, such as w16",
        )


def _remove_others(folder: Path, kept: Collection[str]) -> None:
    """What an export that was cut off has left, and this one does not need, such as another precision."""
    for path in files_in(folder):
        if path.relative_to(folder).as_posix() not in kept:
            path.unlink()
    for path in sorted(folder.rglob("*/"), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _copy(extras: Mapping[str, Path], folder: Path) -> None:
    for name, path in extras.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
