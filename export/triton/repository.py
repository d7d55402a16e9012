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

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.bundle import MANIFEST, Bundle, Graph, open_bundle, verify
from pahi_rt.errors import BundleError, OutputError, PahiError
from pahi_rt.export.lock import lock_output
from pahi_rt.export.reveal import finish_reveal, reveal
from pahi_rt.export.triton.config import (
    Batching,
    Message,
    Ports,
    ensemble_config,
    format_message,
    pipeline_config,
    step_config,
)
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.prior import choose_prior

CONFIG, VERSION = "config.pbtxt", "1"
MODEL = (
    '"""Written by `pahi-rt embed triton`."""\n\nfrom pahi_rt.serving import {} as TritonPythonModel  # noqa: F401\n'
)
Write = Callable[[Path], Message]
"""Puts a model's files into the folder of its version; returns the fields of its configuration that name them."""


@dataclass(frozen=True)
class Choice:
    """Which graph of a bundle is served, and by what."""

    runtime: str = "python"
    """"python", "onnxruntime" or "tensorrt"."""
    steps: int = 1
    prior: str | None = None
    """As for `choose_prior`."""
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
    prior = choose_prior(bundle, choice.prior)
    graph = bundle.graph(choice.steps, prior, choice.precision)
    write = _choose_writer(bundle, graph, prior, choice)
    ports = _ports(bundle, prior)
    _check_output(output, overwrite)
    with lock_output(output):
        finish_reveal(output)
        scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.absolute().parent))
        try:
            _write_models(scratch, bundle, ports, batching, write)
            scratch.chmod(0o755)
            reveal(scratch, output)
        except OSError as error:
            what = f"cannot write {output}: {error.strerror or error}"
            raise OutputError(what, fix="free some space, or choose another output") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return output


def _ports(bundle: Bundle, prior: str) -> Ports:
    manifest = bundle.manifest
    size = manifest.image.height, manifest.image.width
    return Ports(manifest.tokenizer.max_length, manifest.image.latent_shape, size, has_prior=prior != GAUSSIAN)


def _write_models(folder: Path, bundle: Bundle, ports: Ports, batching: Batching, write: Write) -> None:
    spec, most = bundle.manifest.tokenizer, batching.most
    pipeline = folder / "pipeline" / VERSION
    pipeline.mkdir(parents=True)
    fields = write(pipeline)
    parameters = fields.pop("parameters", {})
    _write_config(folder, pipeline_config(ports, batching, fields, parameters))
    tokenizer = step_config(
        "tokenizer", [ports.prompt], [ports.ids], most, max_length=spec.max_length, pad_id=spec.pad_id
    )
    _write_step(folder, tokenizer, "TokenizerModel")
    shutil.copyfile(bundle.file(spec.file), folder / "tokenizer" / VERSION / "tokenizer.json")
    _write_step(folder, step_config("noise", [ports.seed], [ports.noise], most), "NoiseModel")
    _write_step(folder, step_config("png", [ports.image], [ports.png], most), "PngModel")
    steps = [
        ("tokenizer", [ports.prompt], ports.ids),
        ("noise", [ports.seed], ports.noise),
        ("pipeline", ports.graph, ports.image),
    ]
    for name, last in (("generate", []), ("generate_png", [("png", [ports.image], ports.png)])):
        _write_config(folder, ensemble_config(name, ports, [*steps, *last], most))
        (folder / name / VERSION).mkdir()


def _write_step(folder: Path, config: Message, model: str) -> None:
    _write_config(folder, config)
    version = folder / config["name"] / VERSION
    version.mkdir(exist_ok=True)
    (version / "model.py").write_text(MODEL.format(model), encoding="utf-8")


def _write_config(folder: Path, config: Message) -> None:
    (folder / config["name"]).mkdir(exist_ok=True)
    (folder / config["name"] / CONFIG).write_text(format_message(config), encoding="utf-8")


def _choose_writer(bundle: Bundle, graph: Graph, prior: str, choice: Choice) -> Write:
    """Raises BundleError for what the bundle lacks, PahiError for a runtime that there is not."""
    if choice.runtime == "python":
        return lambda folder: _write_python(bundle, graph, prior, folder)
    if graph.prior != prior:
        fix = f"serve it with --prior {graph.prior}, and send prior_strength 0; or use --runtime python"
        raise BundleError(f"{bundle.path} has no graph of {graph.steps} steps without a prior", fix=fix)
    if choice.runtime == "onnxruntime":
        return lambda folder: _write_onnx(bundle, graph, folder)
    if choice.runtime == "tensorrt":
        plans = _plans(bundle, graph)
        return lambda folder: _write_plans(bundle, plans, folder)
    raise PahiError(f"Triton has no runtime {choice.runtime!r}", fix="use python, onnxruntime or tensorrt")


def _write_python(bundle: Bundle, graph: Graph, prior: str, folder: Path) -> Message:
    """The whole bundle, whose hashes are checked when the server opens it."""
    verify(bundle)
    for name in (MANIFEST, *bundle.manifest.files):
        target = folder / "bundle" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, target)
    (folder / "model.py").write_text(MODEL.format("PipelineModel"), encoding="utf-8")
    chosen = {"runtime": "auto", "steps": graph.steps, "prior": prior, "precision": graph.precision}
    return {"backend": "python", "parameters": chosen}


def _write_onnx(bundle: Bundle, graph: Graph, folder: Path) -> Message:
    """A graph with external data is a folder for Triton."""
    model = folder / "model.onnx"
    model.mkdir()
    shutil.copyfile(bundle.file(graph.file), model / "model.onnx")
    for name in graph.weights:
        shutil.copyfile(bundle.file(name), model / name)
    return {"backend": "onnxruntime", "default_model_filename": "model.onnx"}


def _plans(bundle: Bundle, graph: Graph) -> Mapping[str, str]:
    """Compute capability -> file of the plans that Triton's TensorRT backend can run."""
    sha256 = bundle.manifest.files[graph.file].sha256
    engines = [e for e in bundle.manifest.engines if (e.runtime, e.graph_sha256) == ("tensorrt", sha256)]
    plans = {capability: engine.file for engine in engines for capability in engine.compute_capabilities}
    if not plans:
        fix = "on a machine with that GPU: pahi-rt build BUNDLE --engine tensorrt"
        raise BundleError(f"{bundle.path} has no TensorRT plan of {graph.file}", fix=fix)
    return plans


def _write_plans(bundle: Bundle, plans: Mapping[str, str], folder: Path) -> Message:
    for name in set(plans.values()):
        shutil.copyfile(bundle.file(name), folder / Path(name).name)
    files = [{"key": f"{int(c) // 10}.{int(c) % 10}", "value": Path(name).name} for c, name in plans.items()]
    return {"backend": "tensorrt", "default_model_filename": files[0]["value"], "cc_model_filenames": files}


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.absolute().parent.is_dir():
        raise OutputError(f"{output.parent} does not exist", fix=f"mkdir -p {output.parent}")
    if not output.exists():
        return
    if not overwrite:
        raise OutputError(f"{output} exists already", fix="choose another output, or replace it (--force)")
    if not (output / "generate" / CONFIG).is_file():
        raise OutputError(f"{output} is no repository of ours, so it will not be replaced", fix="choose another output")
