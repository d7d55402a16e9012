"""From a preference scorer in PyTorch to a folder with its graph: load, trace, store, compare, describe.

    scorer.json           what it is, with the size and sha256 of every other file
    NAME.onnx             pictures uint8 and token ids -> scores; its weights are in NAME.bin
    NAME.tokenizer.json   the scorer's own tokenizer

`export_bundle` puts such folders into bundles.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, cast

import onnx_ir as ir
from torch import nn

from pahi_rt.bundle import file_record
from pahi_rt.errors import PahiError, ScorerError
from pahi_rt.export.found_weights import FoundWeights, restore_transposed
from pahi_rt.export.graph import PORTABLE_OPSET, check_opset, export_module, release
from pahi_rt.export.precision import ALL
from pahi_rt.export.provenance import UNKNOWN, read_licence, tool_versions
from pahi_rt.export.reveal import Kind, building
from pahi_rt.export.rounding import Pack
from pahi_rt.export.score_parity import check_scores, list_scores, make_samples
from pahi_rt.export.scorer_graph import ScorerGraph
from pahi_rt.export.stages import OnStage, Stages
from pahi_rt.export.trace import describe_tensors
from pahi_rt.export.weights import WeightsFile, WeightsPlace, store_weights
from pahi_rt.files import sha256
from pahi_rt.graphs import check_onnx
from pahi_rt.manifest import SCORE, Component, FileRecord, ScorerSpec, TokenizerSpec, is_safe_name
from pahi_rt.manifest_file import check_scorer, write_json
from pahi_rt.record import Record, parse_json
from pahi_rt.scorers import Portable, load_scorer

DESCRIPTION = "scorer.json"
FORMAT = 1
PRECISIONS = ("fp32", "w16")
SIZE = (512, 512)
"""Height and width of the pictures, for a scorer that takes any: those of SD-Turbo."""


@dataclass(frozen=True)
class ScorerFolder(Record):
    """The content of scorer.json."""

    read_error: ClassVar[type[PahiError]] = ScorerError
    read_fix: ClassVar[str] = "export the scorer again: pahi-rt export-scorer"

    format_version: int
    name: str
    scorer: ScorerSpec
    """Its files are in the same folder."""
    files: dict[str, FileRecord]
    tools: dict[str, str]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that it takes."""
        height, width = self.scorer.inputs[0].shape[1:3]
        return int(height), int(width)


@dataclass(frozen=True)
class ScorerSettings:
    """How a scorer is exported. Raises ScorerError for what is not supported."""

    size: tuple[int, int] | None = None
    """Height and width of the pictures; None for the scorer's own, or `SIZE`."""
    precision: str = "fp32"
    opset: int = PORTABLE_OPSET
    name: str | None = None
    """None for the kind of the scorer."""
    licence: str | None = None
    """None for what the model card beside its weights says."""
    weights: Path | None = None
    """A safetensors file that holds the matrices already, for the graph to read them from."""

    def __post_init__(self) -> None:
        check_opset(self.opset)
        if self.precision not in PRECISIONS:
            what = f"a scorer cannot be exported in {self.precision!r}"
            raise ScorerError(what, fix=f"use --precision {' or '.join(PRECISIONS)}")
        if self.name is not None and (not is_safe_name(self.name) or "/" in self.name):
            raise ScorerError(f"a scorer cannot be called {self.name!r}", fix="use letters, digits and -")


def read_scorer(folder: Path) -> ScorerFolder:
    """Read and check the description of an exported scorer. Raises ScorerError, BundleError."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ScorerError(f"{folder} is not an exported scorer: it has no {DESCRIPTION}", fix=ScorerFolder.read_fix)
    found = ScorerFolder.from_dict(parse_json(path.read_bytes(), str(path)), str(path))
    if found.format_version != FORMAT:
        raise ScorerError(f"{path} was made by another version of pahi-rt", fix=ScorerFolder.read_fix)
    check_scorer(found.name, found.scorer, found.size, str(path))
    if not found.scorer.files <= set(found.files):
        raise ScorerError(f"{path} does not list all files of the scorer", fix=ScorerFolder.read_fix)
    for name, record in found.files.items():
        file = folder / name
        if not is_safe_name(name) or not file.is_file() or file_record(file) != record:
            raise ScorerError(f"{file} is not what {DESCRIPTION} says", fix=ScorerFolder.read_fix)
    return found


def _list_files(folder: Path) -> list[str]:
    return [*read_scorer(folder).files, DESCRIPTION]


SCORER = Kind("scorer", "export-scorer", _list_files)


def export_scorer(
    spec: str,
    output: str | Path,
    settings: ScorerSettings | None = None,
    *,
    overwrite: bool = False,
    on_stage: OnStage | None = None,
) -> ScorerFolder:
    """Export the scorer that `spec` names (see `load_scorer`) as the folder `output`.

    Raises OutputError if `output` cannot be written, ParityError if the graph does not score what PyTorch scores, and
    ScorerError for a scorer that cannot be loaded or exported.
    """
    settings = settings or ScorerSettings()
    with building(Path(output), SCORER, overwrite=overwrite) as folder:
        return write_scorer(spec, folder, settings, Stages(folder, on_stage))


def write_scorer(spec: str, folder: Path, settings: ScorerSettings, stages: Stages) -> ScorerFolder:
    """Write a scorer's files into `folder`, which is empty. Raises as `export_scorer` does."""
    with stages.run(f"load scorer {spec}"):
        scorer = load_portable(spec)
        name, (height, width) = settings.name or scorer.name, choose_size(scorer, settings.size)
        tokenizer = save_tokenizer(scorer, folder, name)
        component = describe_weights(spec, scorer, settings)
        samples = make_samples(folder, tokenizer, height, width)
    with stages.run("score with PyTorch"):
        references = list_scores(scorer, samples, settings.precision)
    with stages.run(f"export {name}.onnx"):
        model = write_graph(scorer, folder, name, (height, width), settings)
        inputs, outputs, weights = describe_tensors(model)
        release(model.graph.initializers.values())
    described = ScorerSpec(
        component=component,
        unit=scorer.unit,
        scale=scorer.scale,
        file=f"{name}.onnx",
        precision=settings.precision,
        inputs=inputs,
        outputs=outputs,
        opset=settings.opset,
        weights=weights,
        tokenizer=tokenizer,
        parity=(),
    )
    with stages.run(f"compare {name}.onnx with PyTorch"):
        parity = check_scores(folder / described.file, samples, references, scorer.scale)
    return _describe(folder, name, replace(described, parity=parity))


def load_portable(spec: str) -> Portable:
    """Load a scorer that can be exported. Raises ScorerError."""
    scorer = load_scorer(spec)
    if not isinstance(scorer, Portable) or not isinstance(scorer, nn.Module):
        what = f"the scorer {spec} cannot be exported: it has no score_ids"
        raise ScorerError(what, fix="give it what pahi_rt.scorers.Portable says")
    return cast(Portable, scorer)


def choose_size(scorer: Portable, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the pictures. Raises ScorerError if the scorer takes others only."""
    if wanted is not None and scorer.size is not None and scorer.size != wanted:
        height, width = scorer.size
        what = f"the scorer {scorer.name} takes {height}x{width} pictures, and not {wanted[0]}x{wanted[1]}"
        raise ScorerError(what, fix="leave --height and --width out, or take another scorer")
    return wanted or scorer.size or SIZE


def save_tokenizer(scorer: Portable, folder: Path, name: str) -> TokenizerSpec | None:
    """Write the scorer's tokenizer as the runtime reads it; None if it does not read prompts."""
    if scorer.tokenizer is None:
        return None
    rust = scorer.tokenizer.backend_tokenizer
    rust.no_truncation()
    rust.no_padding()
    file = f"{name}.tokenizer.json"
    rust.save(str(folder / file))
    return TokenizerSpec(file, scorer.max_tokens, int(scorer.tokenizer.pad_token_id))


def write_graph(scorer: Portable, folder: Path, name: str, size: tuple[int, int], settings: ScorerSettings) -> ir.Model:
    """Trace the scorer, store its weights, and write the graph. The scorer takes pictures of one size from now on."""
    module = ScorerGraph(scorer, *size)
    model = export_module(module, module.example_inputs(), SCORE, settings.opset)
    pack = ALL[settings.precision].pack
    with _open_weights(model, folder, name, settings.weights, pack) as weights:
        store_weights(model, weights, pack)
        ir.save(model, folder / f"{name}.onnx")
    return model


def _open_weights(
    model: ir.Model, folder: Path, name: str, found: Path | None, pack: Pack
) -> AbstractContextManager[WeightsPlace]:
    """Where the weights of the graph lie: in a new file, or in a copy of the one that holds them already."""
    if found is None:
        return WeightsFile(folder / f"{name}.bin")
    copy = folder / f"{name}{found.suffix}"
    shutil.copyfile(found, copy)
    weights = FoundWeights(copy)
    restore_transposed(model, weights, pack)
    return nullcontext(weights)


def describe_weights(spec: str, scorer: Portable, settings: ScorerSettings) -> Component:
    """Where a scorer comes from; of a path only the name, since the rest means something on one machine only."""
    kind, _, source = spec.partition(":")
    place = Path(source)
    is_local = bool(source) and place.exists()
    named = f"{kind}:{place.resolve().name if is_local else source}" if source else kind
    licence = settings.licence or (read_licence(place if place.is_dir() else place.parent) if is_local else UNKNOWN)
    digest = sha256(settings.weights) if settings.weights else hash_weights(cast(nn.Module, scorer))
    return Component(named, "local" if is_local else UNKNOWN, digest, licence)


def hash_weights(module: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of a module's weights."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().cpu().numpy().data)
    return total.hexdigest()


def _describe(folder: Path, name: str, scorer: ScorerSpec) -> ScorerFolder:
    files = {file: file_record(folder / file) for file in sorted(scorer.files)}
    sizes = {file: record.size for file, record in files.items()}
    check_onnx((folder / scorer.file).read_bytes(), scorer, sizes, scorer.file)
    described = ScorerFolder(FORMAT, name, scorer, files, tool_versions())
    check_scorer(name, scorer, described.size, DESCRIPTION)
    (folder / DESCRIPTION).write_bytes(write_json(described))
    return described
