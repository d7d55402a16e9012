"""ONNX Runtime: the portable runtime, and the reference that the others are compared with.

On NVIDIA's GPUs it computes with CUDA, TensorRT or TensorRT for RTX, each under a name of its own (`PROVIDERS`).
The one that was asked for draws the picture, or an error says how to get it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pahi_rt.bundle import Bundle, OpenGraph
from pahi_rt.cache import cache_folder, lend_cache, make_private
from pahi_rt.choice import Chosen
from pahi_rt.errors import BundleError, PahiError, RuntimeUnavailable
from pahi_rt.machine import check_threads, is_core_taken
from pahi_rt.runtimes.base import Description, Feeds, GraphRuntime
from pahi_rt.runtimes.cuda import name_gpu
from pahi_rt.runtimes.optimised import find_shelf
from pahi_rt.runtimes.providers import CPU, PROVIDERS, Provider, own_errors, reason
from pahi_rt.unrounded import expose_unrounded

_NOTHING_BUT_FATAL = 4
# ONNX Runtime's errors for a damaged file, whatever runs it. They are known by name, since it is imported when needed.
_DAMAGE = ("InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile")
# Neither TensorRT provider has an option for TF32. TensorRT reads this variable, as cuBLAS and cuDNN do.
_NO_TF32 = ("NVIDIA_TF32_OVERRIDE", "0")
# Without it a TensorRT session may hand all of its nodes to the CPU, and still list TensorRT first.
_WHOLE = ("session.disable_cpu_ep_fallback", "1")
# Otherwise the threads of one session keep the cores busy after its picture, and the next session's picture takes up to
# twice as long.
_SLEEP_AFTERWARDS = ("session.force_spinning_stop", "1")
# A thread that waits for another one keeps its core busy, which is faster unless that other one waits for the core.
_SLEEP_AT_ONCE = ("session.intra_op.allow_spinning", "0")
# Otherwise it would take some bytes for its own format, whatever else they are.
_ONNX_ONLY = ("session.load_model_format", "ONNX")
_FOLDER = "session.model_external_initializers_file_folder_path"


class OnnxRuntime(GraphRuntime):
    """A graph in an ONNX Runtime session, in the provider of the chosen runtime.

    Without a number of threads, ONNX Runtime uses one for each physical core.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._is_core_taken = is_core_taken(chosen.threads)  # asked before threads of our own are at work
        with chosen.bundle.opened(chosen.graph) as opened:
            self.session = self.open(opened, chosen)
        library = self.session.get_providers()[0].removesuffix("ExecutionProvider")
        device = library if PROVIDERS[chosen.runtime] is CPU else name_gpu(library)
        super().__init__(chosen, version=str(require_onnxruntime().__version__), device=device)

    def open(self, graph: OpenGraph, chosen: Chosen) -> Any:
        """Load the graph. Raises RuntimeUnavailable or BundleError."""
        provider = PROVIDERS[chosen.runtime]
        if provider is CPU:
            return _open_on_cpu(graph, chosen, sleeps=self._is_core_taken)
        options = session_options(chosen.threads, provider)
        return open_session(graph, options, provider, _plan_folder(chosen, provider))

    def describe(self) -> Description:
        """Also `waiting`, if a core was taken by other work when the graph was loaded."""
        asleep: Description = {"waiting": "asleep, since other work takes a core"} if self._is_core_taken else {}
        return {**super().describe(), **asleep}

    def draw(self, feeds: Feeds) -> object:
        """Run the session. Raises RuntimeUnavailable."""
        try:
            return self.session.run([self._graph.outputs[0].name], feeds)[0]
        except own_errors() as error:
            what = f"ONNX Runtime cannot draw a batch of {len(feeds['noise'])}: {reason(error)}"
            raise RuntimeUnavailable(what, fix="draw fewer at once, free memory, or export the bundle again") from error


def open_unrounded(chosen: Chosen) -> Callable[[Feeds], Any] | None:
    """Load a graph on the CPU as `OnnxRuntime` does, to get its pictures before they are rounded to bytes.

    Returns a function of the graph's inputs; None if the graph does not round. Raises RuntimeUnavailable, BundleError.
    """
    with chosen.bundle.opened(chosen.graph) as opened:
        exposed = expose_unrounded(opened.content)
        if exposed is None:
            return None
        name, content = exposed
        session = open_session(OpenGraph(opened.path, content), session_options(chosen.threads), CPU)
    return lambda feeds: session.run([name], {spec.name: feeds[spec.name] for spec in chosen.graph.inputs})[0]


def check_provider(runtime: str, bundle: Bundle) -> None:
    """Raises RuntimeUnavailable if the installed ONNX Runtime lacks the provider. It does not look for a GPU."""
    provider = PROVIDERS[runtime]
    if provider.name not in require_onnxruntime().get_available_providers():
        raise RuntimeUnavailable("not in this ONNX Runtime", fix=provider.install)


def require_onnxruntime() -> Any:
    """The module, imported when it is first needed. Raises RuntimeUnavailable."""
    lend_cache()  # it keeps an id of the machine in a home, and logs where it cannot
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        fix = PROVIDERS["onnxruntime"].install
        raise RuntimeUnavailable(f"ONNX Runtime cannot be loaded: {error}", fix=fix) from error


def session_options(threads: int | None = None, provider: Provider | None = None, *, sleeps: bool = False) -> Any:
    """The options of every session here; with `sleeps`, threads that wait for each other leave their cores to others.

    Raises RuntimeUnavailable for no threads, or too many.
    """
    options = require_onnxruntime().SessionOptions()
    # What it would log on standard error is what it raises.
    options.log_severity_level = _NOTHING_BUT_FATAL
    options.add_session_config_entry(*_SLEEP_AFTERWARDS)
    options.add_session_config_entry(*_ONNX_ONLY)
    if sleeps:
        options.add_session_config_entry(*_SLEEP_AT_ONCE)
    if provider is not None and provider.is_tensorrt:
        options.add_session_config_entry(*_WHOLE)
    if threads is not None:
        check_threads(threads)
        options.intra_op_num_threads = threads
    return options


def _plan_folder(chosen: Chosen, provider: Provider) -> Path:
    """The folder for compiled plans in the user's cache, one for each graph, its weights and the versions here.

    ONNX Runtime's own names for plans depend neither on weights nor on TensorRT's exact version.
    """
    contents = chosen.bundle.graph_files(chosen.graph).values()
    versions = [_version(name) for name in ("onnxruntime", provider.module) if name]
    key = hashlib.sha256("\n".join([*contents, *versions]).encode()).hexdigest()
    return cache_folder(chosen.runtime, key)


def _version(module: str) -> str:
    """The version of a module, which is imported; "None" if it cannot be."""
    with contextlib.suppress(ImportError):
        return str(getattr(import_module(module), "__version__", None))
    return "None"


def _open_on_cpu(graph: OpenGraph, chosen: Chosen, *, sleeps: bool) -> Any:
    """A session of the graph as it was optimised at an earlier start; else of `graph`, kept optimised for the next."""
    make_options = partial(session_options, chosen.threads, sleeps=sleeps)
    shelf = find_shelf(chosen, require_onnxruntime())
    if shelf is not None:
        with contextlib.suppress(PahiError, OSError):
            options, kept = make_options(), shelf.open()
            options.graph_optimization_level = require_onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
            return open_session(kept, options, CPU)
        options, session = make_options(), None
        with contextlib.suppress(PahiError, OSError), shelf.filling(options):
            session = open_session(graph, options, CPU)
        if session is not None:
            return session
    return open_session(graph, make_options(), CPU)


def open_session(graph: OpenGraph, options: Any, provider: Provider, folder: Path = Path()) -> Any:
    """A session of `graph` in a provider, and in no other. Raises RuntimeUnavailable or BundleError.

    `folder` is for compiled plans.
    """
    onnxruntime = require_onnxruntime()
    if provider.is_tensorrt:
        os.environ.update([_NO_TF32])
    chosen = provider.select(onnxruntime, options, _provider_options(provider, folder))
    # TensorRT looks for weights beside the graph's path. The others are given the bytes that were checked.
    model = str(graph.path) if provider.is_tensorrt else graph.content
    if not provider.is_tensorrt:
        options.add_session_config_entry(_FOLDER, str(graph.path.parent.absolute()))
    raised: tuple[type[Exception], ...] = (*own_errors(), RuntimeError, ValueError)
    try:
        # With a fallback it would print the reason, and go on with the CPU.
        session = onnxruntime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    except raised as error:
        raise _explain(error, graph.path, provider) from error
    # If a built-in provider's libraries are missing, it only warns.
    if session.get_providers()[0] != provider.name:
        raise _not_started(provider, provider.missing_library(onnxruntime))
    return session


def _provider_options(provider: Provider, folder: Path) -> dict[str, str]:
    """All options. If no cache can be written, those of the cache are left out, and plans are compiled each time."""
    cache = {key: value.format(folder) for key, value in provider.cache.items()}
    if cache:
        try:
            make_private(folder)
        except OSError:
            cache = {}
    return {**provider.options, **cache}


def _explain(error: Exception, path: Path, provider: Provider) -> PahiError:
    """The file is at fault if the error says so, and on the CPU, which takes every graph that we export."""
    if isinstance(error, own_errors()) and (provider is CPU or type(error).__name__ in _DAMAGE):
        fix = "pip install --upgrade onnxruntime, or export the bundle again"
        return BundleError(f"ONNX Runtime cannot load {path}: {reason(error)}", fix=fix)
    if missing := provider.missing_library(require_onnxruntime()):
        return _not_started(provider, missing)
    return RuntimeUnavailable(f"{provider.name} cannot run {path}: {reason(error)}", fix=provider.start)


def _not_started(provider: Provider, missing: str) -> RuntimeUnavailable:
    what = f"{provider.name} cannot start on this machine" + (f": {missing}" if missing else "")
    return RuntimeUnavailable(what, fix=provider.install if missing else provider.start)
