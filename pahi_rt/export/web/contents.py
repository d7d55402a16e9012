"""The files of a site, and its description: the page, the libraries from npm, and what the bundle brings."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pahi_rt import __version__
from pahi_rt.bundle import Bundle
from pahi_rt.errors import BundleError
from pahi_rt.export.web.licences import licences
from pahi_rt.export.web.packages import ONNXRUNTIME, TOKENIZERS, fetch
from pahi_rt.manifest import GAUSSIAN, STRENGTH, Graph
from pahi_rt.pipeline import Pipeline
from pahi_rt.prior import choose_prior, choose_strength

SITE = "site.json"
ENGINES = {
    "wasm": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
"""What runs graphs in a browser -> the files of onnxruntime-web that it needs: a module and a binary."""
PAGE = (".html", ".css", ".js")
CHECK_PROMPT, CHECK_SEED = "a red apple", 7
"""The picture that Python draws here, and that a GPU must draw too before the page trusts it."""
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
    "img-src 'self' blob: data:; connect-src 'self' blob: data:; base-uri 'none'; form-action 'none'"
)

Files = dict[str, bytes]
"""File of the site -> content."""


def make_files(
    bundle: Bundle, graphs: Sequence[Graph], engines: Iterable[str], packages: Path | None, *, isolate: bool
) -> Files:
    """All files of a site. Raises BundleError if the bundle is damaged, and PahiError if a package cannot be had."""
    library, library_files = _library(engines, packages)
    model, model_files = _model(bundle, graphs)
    check, picture = _check_picture(bundle, graphs)
    files = _page(isolate) | library_files | model_files | {check["picture"]: picture}
    files["licences.txt"] = licences(bundle).encode()
    listed = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    site = {"version": __version__, **model, "engines": library, "check": check, "files": listed}
    return files | {SITE: (json.dumps(site, indent=1, ensure_ascii=False) + "\n").encode()}


def playground() -> Path:
    """The folder of the page, which is the same for a server and for a site."""
    return Path(str(resources.files("pahi_rt"))) / "playground"


def _page(isolate: bool) -> Files:
    folder = playground()
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.suffix in PAGE
    }
    backend = 'export { open } from "./browser/local.js";\n'
    files["backend.js"] = (('import "./browser/isolate.js";\n' if isolate else "") + backend).encode()
    for name in ("browser/isolate.js", "isolating.js") if not isolate else ():
        del files[name]
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    files["index.html"] = files["index.html"].replace(b"<head>", f"<head>\n    {policy}".encode(), 1)
    return files


def _library(engines: Iterable[str], packages: Path | None) -> tuple[dict[str, Any], Files]:
    described, files = {}, Files()
    runtime, tokenizers = fetch(ONNXRUNTIME, packages), fetch(TOKENIZERS, packages)
    for engine in engines:
        module, binary = runtime.read(*(f"dist/{name}" for name in ENGINES[engine]))
        names = {"module": f"lib/ort.{engine}.js", "binary": f"lib/ort.{engine}.wasm.gz"}
        described[engine] = names
        files |= {names["module"]: module, names["binary"]: _pack(binary)}
    (files["lib/tokenizers.js"],) = tokenizers.read("dist/tokenizers.min.mjs")
    return described, files


def _model(bundle: Bundle, graphs: Sequence[Graph]) -> tuple[dict[str, Any], Files]:
    manifest = bundle.manifest
    files = {_packed_name(graph.file): _pack(bundle.read_graph(graph)) for graph in graphs}
    others = {manifest.tokenizer.file, *(name for graph in graphs for name in graph.weights)}
    if manifest.vocabulary is not None:
        others.add(manifest.vocabulary)
    files |= {_packed_name(name): _pack(bundle.read(name)) for name in sorted(others)}
    tokenizer = {"max_length": manifest.tokenizer.max_length, "pad_id": manifest.tokenizer.pad_id}
    described = {
        "model": describe_model(bundle, graphs),
        "latent_shape": manifest.image.latent_shape,
        "noise_recipe": manifest.noise_recipe,
        "tokenizer": {"file": _packed_name(manifest.tokenizer.file), **tokenizer},
        "vocabulary": None if manifest.vocabulary is None else _packed_name(manifest.vocabulary),
        "graphs": [_describe_graph(graph) for graph in graphs],
    }
    return described, files


def describe_model(bundle: Bundle, graphs: Sequence[Graph]) -> dict[str, Any]:
    """The model as the service's GET /v1/models describes it."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "height": manifest.image.height,
        "width": manifest.image.width,
        "steps": sorted({graph.steps for graph in graphs}),
        "priors": [*bundle.priors, GAUSSIAN],
        "default_prior": choose_prior(bundle),
        "sha256": bundle.sha256,
        "vocabulary": manifest.vocabulary is not None,
    }


def _describe_graph(graph: Graph) -> dict[str, Any]:
    folder = PurePosixPath(graph.file).parent
    weights = [{"path": str(PurePosixPath(w).relative_to(folder)), "file": _packed_name(w)} for w in graph.weights]
    has_strength = any(spec.name == STRENGTH for spec in graph.inputs)
    return {
        "steps": graph.steps,
        "prior": graph.prior,
        "has_strength": has_strength,
        "file": _packed_name(graph.file),
        "weights": weights,
    }


def _check_picture(bundle: Bundle, graphs: Sequence[Graph]) -> tuple[dict[str, Any], bytes]:
    """A picture of the default prior in the fewest steps, with which the page begins. Raises BundleError."""
    prior, precision = choose_prior(bundle), graphs[0].precision
    steps = min((graph.steps for graph in graphs if graph.prior == prior), default=None)
    if steps is None:
        what = f"it has no graph of one or two steps with its default prior, {prior}, in {precision}"
        raise BundleError(what, fix="export it again with --steps 1, or choose another --precision")
    strength = choose_strength(prior)
    pipeline = Pipeline.load(bundle, steps=steps, runtime="onnxruntime", prior=prior, precision=precision)
    picture = np.asarray(pipeline(CHECK_PROMPT, seed=CHECK_SEED, prior_strength=strength))
    asked = {"prompt": CHECK_PROMPT, "seed": CHECK_SEED, "steps": steps, "prior": prior, "strength": strength}
    return asked | {"picture": "model/check.rgb.gz"}, _pack(picture.tobytes())


def _packed_name(name: str) -> str:
    return f"model/{name}.gz"


def _pack(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)  # without the time, so that a site can be built again to the byte
