"""The file pahi.json: read and written strictly, and checked.

An unknown key, a missing key or a wrong type is an error that names the place: a manifest that is only half understood
gives wrong pictures, which is worse than none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pahi_rt.errors import BundleError
from pahi_rt.manifest import (
    FORMAT_VERSION,
    FORMATS,
    GAUSSIAN,
    IDS,
    IMAGE,
    MANIFEST,
    PRECISIONS,
    PRIORS,
    SCORE,
    STRENGTH,
    Graph,
    Manifest,
    ScorerSpec,
    TensorSpec,
    TokenizerSpec,
    is_pickle_name,
    is_safe_name,
)
from pahi_rt.record import FIX, Record, parse_json

MAX_MANIFEST = 1 << 20
"""Bytes of pahi.json."""
MAX_FILES = 1_000
MAX_GRAPHS = 100
MAX_SCORERS = 16
MAX_FILE = 1 << 40
"""Bytes of any file."""
MAX_GRAPH = 256 << 20
"""Bytes of a graph without its weights."""
MAX_TEXT = 64 << 20
"""Bytes of a tokenizer or a vocabulary."""
MAX_SIDE = 8_192
"""Pixels of a picture's width or height."""
MAX_PIXELS = 1 << 26
MAX_LATENTS = 1 << 24
"""Values of one picture's noise."""
MAX_TOKENS = 1_024
MAX_STEPS = 4
MAX_BATCH = 256
"""Pictures that a plan draws at once."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_manifest(raw: bytes, where: str) -> Manifest:
    """Read `raw`, the content of pahi.json, and check it. `where` names it in errors. Raises BundleError."""
    if len(raw) > MAX_MANIFEST:
        raise BundleError(f"{where} has more than {MAX_MANIFEST} bytes", fix=FIX)
    data = parse_json(raw, where)
    version = data.get("format_version") if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(f"{where} holds no usable format_version", fix=FIX)
    if version not in FORMATS:
        fix = "pip install --upgrade pahi-rt" if version > FORMAT_VERSION else FIX
        known = " and ".join(map(str, FORMATS))
        raise BundleError(f"{where} is of bundle format {version}; this version reads {known}", fix=fix)
    manifest = Manifest.from_dict(data, where)
    check_manifest(manifest, where)
    return manifest


def check_manifest(manifest: Manifest, where: str = MANIFEST) -> None:
    """Check that names are safe, that every file in use is listed, and that sizes make sense. Raises BundleError."""
    _check_files(manifest, where)
    _check_sizes(manifest, where)
    _check_graphs(manifest, where)
    _check_plans(manifest, where)
    _check_scorers(manifest, where)


def write_json(record: Record) -> bytes:
    """A record as JSON text. Raises BundleError for a number that JSON cannot hold, such as an infinite PSNR."""
    try:
        text = json.dumps(record.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"{MANIFEST} would hold a number that is not finite", fix="write a finite number") from error
    return (text + "\n").encode()


def _check_files(manifest: Manifest, where: str) -> None:
    if len(manifest.files) > MAX_FILES:
        raise BundleError(f"{where} lists {len(manifest.files)} files, and {MAX_FILES} are allowed", fix=FIX)
    for name, record in manifest.files.items():
        if not is_safe_name(name) or name == MANIFEST:
            raise BundleError(f"{where}: {name!r} is not a path inside the bundle", fix=FIX)
        if is_pickle_name(name):
            raise BundleError(f"{where}: {name} is a pickle; a bundle must hold none", fix=FIX)
        if not 0 <= record.size < MAX_FILE or not _SHA256.fullmatch(record.sha256):
            raise BundleError(f"{where}: files: {name}: no usable size and sha256", fix=FIX)
    for name, most in _named_files(manifest).items():
        if name not in manifest.files:
            raise BundleError(f"{where}: {name!r} is used but not listed under files", fix=FIX)
        if manifest.files[name].size > most:
            raise BundleError(f"{where}: files: {name} has more than {most} bytes", fix=FIX)


def _check_sizes(manifest: Manifest, where: str) -> None:
    image = manifest.image
    _check_tokenizer(manifest.tokenizer, where)
    ranges = {
        "height": (image.height, 1, MAX_SIDE),
        "width": (image.width, 1, MAX_SIDE),
        "pixels": (image.height * image.width, 1, MAX_PIXELS),
        "least of latent_shape": (min(image.latent_shape), 1, MAX_LATENTS),
        "values of latent_shape": (math.prod(image.latent_shape), 1, MAX_LATENTS),
    }
    _check_ranges(ranges, where)


def _check_tokenizer(tokenizer: TokenizerSpec, where: str) -> None:
    ranges = {"max_length": (tokenizer.max_length, 2, MAX_TOKENS), "pad_id": (tokenizer.pad_id, 0, 2**31 - 1)}
    _check_ranges(ranges, where)


def _check_ranges(ranges: Mapping[str, tuple[int, int, int]], where: str) -> None:
    """Name -> value, least and most."""
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            what = f"{where}: image or tokenizer sizes make no sense: {name} is {value}, not {least} to {most}"
            raise BundleError(what, fix=FIX)


def _check_graphs(manifest: Manifest, where: str) -> None:
    if not 1 <= len(manifest.graphs) <= MAX_GRAPHS:
        what = f"{len(manifest.graphs)} graphs" if manifest.graphs else "no graphs"
        raise BundleError(f"{where}: there are {what}", fix=FIX)
    for kind in manifest.priors:
        if kind not in PRIORS:
            raise BundleError(f"{where}: priors: {kind!r} is not one of {', '.join(PRIORS)}", fix=FIX)
        if kind not in {graph.prior for graph in manifest.graphs}:
            raise BundleError(f"{where}: priors: {kind} has no graph", fix=FIX)
    seen = set()
    for graph in manifest.graphs:
        place = f"{where}: graphs: {graph.file}"
        is_known = graph.precision in PRECISIONS and graph.prior in (*manifest.priors, GAUSSIAN)
        if not is_known or not 1 <= graph.steps <= MAX_STEPS:
            what = f"{graph.steps} steps, prior {graph.prior!r} and precision {graph.precision!r}"
            raise BundleError(f"{place}: {what} make no sense here", fix=FIX)
        if graph.prior != GAUSSIAN and STRENGTH not in {spec.name for spec in graph.inputs}:
            raise BundleError(f"{place} does not take {STRENGTH}", fix=FIX)
        # Runtimes choose the format by the ending.
        if not graph.file.endswith(".onnx"):
            raise BundleError(f"{place} is not called .onnx", fix=FIX)
        _check_beside(graph.file, graph.weights, place)
        _check_specs(manifest, graph, place)
        if (role := (graph.steps, graph.prior, graph.precision)) in seen:
            raise BundleError(f"{place} is a second graph of {role}", fix=FIX)
        seen.add(role)


def _check_specs(manifest: Manifest, graph: Graph, place: str) -> None:
    """Check that a graph's inputs and outputs are those that every runtime expects, in the shapes of this manifest."""
    image = manifest.image
    expected = {
        "input_ids": ("int64", ("batch", manifest.tokenizer.max_length)),
        "noise": ("float32", ("batch", *image.latent_shape)),
        STRENGTH: ("float32", ("batch",)),
    }
    inputs = _read_specs(graph.inputs)
    without = {name: spec for name, spec in expected.items() if name != STRENGTH}
    if len(inputs) < len(graph.inputs) or inputs not in (expected, without):
        raise BundleError(f"{place}: inputs: {inputs} are not {expected}", fix=FIX)
    picture = [("uint8", ("batch", image.height, image.width, 3))]
    outputs = [(spec.dtype, spec.shape) for spec in graph.outputs]
    if outputs != picture:
        raise BundleError(f"{place}: outputs: {outputs} are not {picture}", fix=FIX)


def _check_plans(manifest: Manifest, where: str) -> None:
    """Check the plans. Runtimes size their buffers by these numbers, so a wrong one would make them overflow."""
    graphs = {graph.file: graph for graph in manifest.graphs}
    for plan in manifest.engines:
        place = f"{where}: engines: {plan.file}"
        if plan.graph not in graphs:
            raise BundleError(f"{place} was built from {plan.graph!r}, which is not a graph", fix=FIX)
        least, best, most = plan.batch
        if not 1 <= least <= best <= most <= MAX_BATCH:
            raise BundleError(f"{place}: no batch goes from {least} over {best} to {most}", fix=FIX)


def _check_scorers(manifest: Manifest, where: str) -> None:
    scorers = manifest.scorers or {}
    if scorers and manifest.format_version < FORMAT_VERSION:
        raise BundleError(f"{where}: scorers: format {manifest.format_version} has none", fix=FIX)
    if len(scorers) > MAX_SCORERS:
        raise BundleError(f"{where}: there are {len(scorers)} scorers, and {MAX_SCORERS} are allowed", fix=FIX)
    for name, scorer in scorers.items():
        check_scorer(name, scorer, (manifest.image.height, manifest.image.width), f"{where}: scorers: {name[:40]}")


def check_scorer(name: str, scorer: ScorerSpec, size: tuple[int, int], place: str) -> None:
    """Check that a scorer takes what it will be given: pictures of this height and width. Raises BundleError."""
    if not is_safe_name(name) or "/" in name:
        raise BundleError(f"{place}: this is not a name", fix=FIX)
    if not scorer.file.endswith(".onnx"):
        raise BundleError(f"{place}: {scorer.file} is not called .onnx", fix=FIX)
    if scorer.precision not in PRECISIONS or scorer.scale <= 0:
        raise BundleError(f"{place}: precision {scorer.precision!r} and scale {scorer.scale} make no sense", fix=FIX)
    _check_beside(scorer.file, scorer.weights, place)
    expected: dict[str, tuple[str, tuple[int | str, ...]]] = {IMAGE: ("uint8", ("batch", *size, 3))}
    if scorer.tokenizer is not None:
        _check_tokenizer(scorer.tokenizer, place)
        expected[IDS] = ("int64", ("batch", scorer.tokenizer.max_length))
    for kind, specs, due in (
        ("inputs", scorer.inputs, expected),
        ("outputs", scorer.outputs, {SCORE: ("float32", ("batch",))}),
    ):
        found = _read_specs(specs)
        if found != due or len(specs) > len(due):
            raise BundleError(f"{place}: {kind}: {found} are not {due}", fix=FIX)


def _read_specs(specs: Sequence[TensorSpec]) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    return {spec.name: (spec.dtype, spec.shape) for spec in specs}


def _check_beside(file: str, weights: Sequence[str], place: str) -> None:
    folder = PurePosixPath(file).parent
    if not all(PurePosixPath(name).is_relative_to(folder) for name in weights):
        raise BundleError(f"{place}: its weights lie in another folder", fix=FIX)


def _named_files(manifest: Manifest) -> dict[str, int]:
    """Name of each file that is in use -> the most bytes that it may have."""
    scorers = (manifest.scorers or {}).values()
    graphs = manifest.onnx_files
    tokenizers = [manifest.tokenizer, *(scorer.tokenizer for scorer in scorers if scorer.tokenizer is not None)]
    most = {name: MAX_FILE for graph in graphs for name in graph.weights}
    most |= {name: MAX_FILE for plan in manifest.engines for name in (plan.file, plan.graph)}
    most |= {tokenizer.file: MAX_TEXT for tokenizer in tokenizers}
    most |= {manifest.vocabulary: MAX_TEXT} if manifest.vocabulary is not None else {}
    return most | {graph.file: MAX_GRAPH for graph in graphs}
