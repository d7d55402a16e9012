"""A bundle as a Triton model repository:

    generate       prompt, seed and prior_strength -> image: an ensemble of the next three
    generate_png   the same -> a PNG file
    tokenizer      prompt -> input_ids
    noise          seed -> noise, by the recipe of pahi_rt.noise
    pipeline       the fused graph: text encoder, prior, UNet, decoder
    png            image -> a PNG file

All but the graph run in Triton's Python backend, and need pahi-rt in the server's Python (pip install pahi-rt). The
graph runs there too, or in the backend of ONNX Runtime or TensorRT.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.errors import BundleError, PahiError
from pahi_rt.export.reveal import Kind, building
from pahi_rt.export.triton.config import (
    Batching,
    Message,
    Ports,
    ensemble_config,
    format_message,
    parameters_of,
    pipeline_config,
    step_config,
)
from pahi_rt.manifest import GAUSSIAN, MANIFEST, Graph, is_safe_name
from pahi_rt.pipeline import check_noise_recipe
from pahi_rt.prior import choose_prior
from pahi_rt.record import Record

CONFIG, VERSION = "config.pbtxt", "1"
LISTING = "generate/pahi-rt.json"
"""Lists the repository's files. Triton does not read it."""
MODEL = """# Written by `pahi-rt embed triton`.

from pahi_rt.export.triton.serving import {} as TritonPythonModel
"""
PLACEHOLDER = "Triton wants this folder of an ensemble; git and object stores would drop an empty one.\n"
Write = Callable[[Path], Message]
"""Puts a model's files into the folder of its version; returns the fields of its configuration that name them."""


@dataclass(frozen=True)
class Choice:
    """Which graph of a bundle is served, and by which runtime."""

    runtime: str = "python"
    """"python", "onnxruntime" or "tensorrt"."""
    steps: int = 1
    prior: str | None = None
    """Kind of the prior; None for the bundle's default (see `choose_prior`)."""
    precision: str | None = None


def write_repository(
    source: str | Path,
    output: str | Path,
    choice: Choice | None = None,
    batching: Batching | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the repository of a bundle into the folder `output`, which appears when all of it is there.

    Raises BundleError for what the bundle lacks or what is damaged, and OutputError if `output` cannot be written.
    """
    choice, batching, output = choice or Choice(), batching or Batching(), Path(output)
    bundle = open_bundle(source)
    check_noise_recipe(bundle)
    prior = choose_prior(bundle, choice.prior)
    write = _choose_writer(bundle, bundle.graph(choice.steps, prior, choice.precision), prior, choice, batching)
    image, length = bundle.manifest.image, bundle.manifest.tokenizer.max_length
    ports = Ports(length, image.latent_shape, (image.height, image.width), has_prior=prior != GAUSSIAN)
    with building(output, REPOSITORY, overwrite=overwrite) as scratch:
        _write_models(scratch, bundle, ports, batching, write)
        names = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file())
        listing = json.dumps(Listing(tuple(names)).to_dict(), indent=1)
        (scratch / LISTING).write_text(listing + "\n", encoding="utf-8")
    return output


@dataclass(frozen=True)
class Listing(Record):
    files: tuple[str, ...]


def list_files(folder: Path) -> list[str]:
    """The repository's own files, the listing last. Raises BundleError if `folder` is not a repository."""
    try:
        names = Listing.from_dict(json.loads((folder / LISTING).read_bytes()), LISTING).files
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"it has no readable {LISTING}", fix="choose another output") from error
    if not all(is_safe_name(name) for name in names):
        raise BundleError(f"its {LISTING} names files that are elsewhere", fix="choose another output")
    return [*names, *_compiled(folder, names), LISTING]


REPOSITORY = Kind("model repository", "embed", list_files)


def _compiled(folder: Path, names: Iterable[str]) -> list[str]:
    """Compiled files that the server's Python has left beside the models' code."""
    code = [folder / name for name in names if name.endswith(".py")]
    found = [path for file in code for path in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")]
    return [path.relative_to(folder).as_posix() for path in found]


def _write_models(folder: Path, bundle: Bundle, ports: Ports, batching: Batching, write: Write) -> None:
    spec, most = bundle.manifest.tokenizer, batching.most
    pipeline = folder / "pipeline" / VERSION
    pipeline.mkdir(parents=True)
    _write_config(folder, pipeline_config(ports, batching, write(pipeline)))
    tokenizer = step_config(
        "tokenizer", [ports.prompt], [ports.ids], most, max_length=spec.max_length, pad_id=spec.pad_id
    )
    _write_step(folder, tokenizer, "TokenizerModel")
    bundle.copy(spec.file, folder / "tokenizer" / VERSION / "tokenizer.json")
    # Noise needs no input_ids, but must not be drawn beside them: when one of two steps at once fails, Triton's
    # ensemble may crash the whole server (2.51 does, after some hundred bad prompts).
    after_tokenizer = [ports.seed, replace(ports.ids, is_optional=True)]
    _write_step(folder, step_config("noise", after_tokenizer, [ports.noise], most), "NoiseModel")
    _write_step(folder, step_config("png", [ports.image], [ports.png], most), "PngModel")
    steps = [
        ("tokenizer", [ports.prompt], ports.ids),
        ("noise", after_tokenizer, ports.noise),
        ("pipeline", ports.graph, ports.image),
    ]
    for name, last in (("generate", []), ("generate_png", [("png", [ports.image], ports.png)])):
        _write_config(folder, ensemble_config(name, ports, [*steps, *last], most))
        (folder / name / VERSION).mkdir()
        (folder / name / VERSION / "README").write_text(PLACEHOLDER, encoding="utf-8")


def _write_step(folder: Path, config: Message, model: str) -> None:
    _write_config(folder, config)
    version = folder / config["name"] / VERSION
    version.mkdir(exist_ok=True)
    (version / "model.py").write_text(MODEL.format(model), encoding="utf-8")


def _write_config(folder: Path, config: Message) -> None:
    (folder / config["name"]).mkdir(exist_ok=True)
    (folder / config["name"] / CONFIG).write_text(format_message(config), encoding="utf-8")


def _choose_writer(bundle: Bundle, graph: Graph, prior: str, choice: Choice, batching: Batching) -> Write:
    """Raises BundleError for what the bundle lacks, and PahiError for an unknown runtime."""
    if choice.runtime == "python":
        return lambda folder: _write_python(bundle, graph, prior, batching, folder)
    if graph.prior != prior:
        fix = f"serve it with --prior {graph.prior}, and send prior_strength 0; or use --runtime python"
        raise BundleError(f"{bundle.path} has no graph of {graph.steps} steps without a prior", fix=fix)
    if choice.runtime == "onnxruntime":
        return lambda folder: _write_onnx(bundle, graph, batching, folder)
    if choice.runtime == "tensorrt":
        plans = _plans(bundle, graph, batching.most)
        return lambda folder: _write_plans(bundle, plans, batching, folder)
    raise PahiError(f"Triton has no runtime {choice.runtime!r}", fix="use python, onnxruntime or tensorrt")


def _write_python(bundle: Bundle, graph: Graph, prior: str, batching: Batching, folder: Path) -> Message:
    """Copy the whole bundle, which is checked again when the server opens it."""
    bundle.check_graphs()
    for name in bundle.manifest.files:
        target = folder / "bundle" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        bundle.copy(name, target)
    shutil.copyfile(bundle.path / MANIFEST, folder / "bundle" / MANIFEST)
    (folder / "model.py").write_text(MODEL.format("PipelineModel"), encoding="utf-8")
    chosen = {"runtime": "auto", "steps": graph.steps, "prior": prior, "precision": graph.precision}
    # The runtime looks for a GPU itself.
    return {"backend": "python", "instance_group": batching.on("CPU")} | parameters_of(chosen)


def _write_onnx(bundle: Bundle, graph: Graph, batching: Batching, folder: Path) -> Message:
    """Copy the graph into a folder, which Triton wants for external data, and check it, which Triton does not."""
    model = folder / "model.onnx"
    model.mkdir()
    (model / "model.onnx").write_bytes(bundle.read_graph(graph))
    for name in graph.weights:
        target = model / Path(name).relative_to(Path(graph.file).parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        bundle.copy(name, target)
    group = batching.on("GPU" if batching.is_on_gpu else "CPU")
    return {"backend": "onnxruntime", "default_model_filename": "model.onnx", "instance_group": group}


def _plans(bundle: Bundle, graph: Graph, most: int) -> Mapping[str, str]:
    """Compute capability -> file of the plans that Triton's TensorRT backend can run, with batches of 1 to `most`."""
    sha256 = bundle.manifest.files[graph.file].sha256
    built = [plan for plan in bundle.manifest.engines if (plan.runtime, plan.graph_sha256) == ("tensorrt", sha256)]
    if not built:
        fix = "on a machine with that GPU: pahi-rt build BUNDLE --engine tensorrt"
        raise BundleError(f"{bundle.path} has no TensorRT plan of {graph.file}", fix=fix)
    for plan in built:
        least, _, largest = plan.batch
        if least > 1 or largest < most:
            fix = f"use --batch {largest}, or build a plan with --batch 1/{most}/{most}"
            raise BundleError(f"{plan.file} draws {least} to {largest} pictures at once, not 1 to {most}", fix=fix)
    return {capability: plan.file for plan in built for capability in plan.compute_capabilities}


def _write_plans(bundle: Bundle, plans: Mapping[str, str], batching: Batching, folder: Path) -> Message:
    for name in set(plans.values()):
        bundle.copy(name, folder / Path(name).name)
    files = [{"key": f"{int(c) // 10}.{int(c) % 10}", "value": Path(name).name} for c, name in plans.items()]
    return {
        "backend": "tensorrt",
        "default_model_filename": files[0]["value"],
        "cc_model_filenames": files,
        "instance_group": batching.on("GPU"),
    }
