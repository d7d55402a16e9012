"""TensorRT and TensorRT for RTX: run a bundle's plans on NVIDIA's GPUs. Needs the `tensorrt` extra.

A plan fits one version of one of the two, some kinds of GPUs and some batch sizes. If none fits, the error says which
command builds one; nothing else takes its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.bundle import Bundle
from pahi_rt.cache import cache_folder, make_private
from pahi_rt.choice import Chosen
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.files import slug, write_whole
from pahi_rt.locations import is_managed
from pahi_rt.manifest import Graph, Plan
from pahi_rt.runtimes.base import Feeds, GraphRuntime
from pahi_rt.runtimes.cuda import Cuda, name_gpu
from pahi_rt.terminal import command

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Name of a runtime -> its Python module."""
INSTALL = {
    "tensorrt": "pip install tensorrt cuda-bindings --extra-index-url https://pypi.nvidia.com",
    "tensorrt-rtx": "pip install 'pahi-rt[tensorrt]'",
}


class TensorRtRuntime(GraphRuntime):
    """A plan on a GPU; `cuda` is None for the current one.

    The work for a batch of one size is captured the first time, and takes one launch from then on. A number of threads
    is for CPU cores, of which a plan uses none. Raises RuntimeUnavailable or BundleError.
    """

    def __init__(self, chosen: Chosen, *, cuda: Cuda | None = None) -> None:
        runtime, graph = chosen.runtime, chosen.graph
        trt, self._cuda = require_tensorrt(runtime), cuda or Cuda()
        capability = self._cuda.compute_capability
        plan = choose_plan(chosen.bundle, graph, (runtime, str(trt.__version__), capability))
        content = chosen.bundle.read(plan.file)
        self._least, _, self._most = plan.batch
        self._cache = RuntimeCache(chosen.bundle.manifest.files[plan.file].sha256, runtime)
        self._log = make_log(trt)
        self._context = _open(trt, self._log, content, plan.file, self._cache)
        self._buffers = Buffers(self._cuda, graph, self._most)
        self._launches: dict[int, Callable[[], None]] = {}
        self._one_at_a_time = threading.Lock()
        device = name_gpu("CUDA", capability)
        super().__init__(replace(chosen, threads=None), version=plan.runtime_version, device=device)

    def draw(self, feeds: Feeds) -> NDArray[np.uint8]:
        """Run the plan, in several turns for more pictures than it takes at once."""
        with self._one_at_a_time:
            turns = [self._draw_turn(turn) for turn in split(feeds, self._most)]
        return np.concatenate(turns)

    def _draw_turn(self, rows: Feeds) -> NDArray[np.uint8]:
        """For fewer pictures than the plan takes, the last one is repeated."""
        count = len(next(iter(rows.values())))
        size = max(count, self._least)
        self._buffers.fill(rows, size)
        if size not in self._launches:
            self._launches[size] = self._prepare(size)
        self._launches[size]()
        self._cuda.wait()
        return self._buffers.pictures(count)

    def _prepare(self, size: int) -> Callable[[], None]:
        """A function that draws a batch of `size` from the buffers. Kernels are compiled or loaded here."""

        def enqueue() -> None:
            self._buffers.upload(size)
            self._buffers.bind(self._context, size)
            if not self._context.execute_async_v3(self._cuda.stream):
                what = f"TensorRT cannot run its plan: {last_error(self._log)}"
                raise RuntimeUnavailable(what, fix="build it again: pahi-rt build")
            self._buffers.download(size)

        enqueue()
        self._cuda.wait()
        self._cache.save()
        return self._cuda.capture(enqueue) if _is_capturable(self._context, self._cuda.stream) else enqueue


class Buffers:
    """Memory for a graph's inputs and output, on the host and on the GPU, for batches of up to `most`."""

    def __init__(self, cuda: Cuda, graph: Graph, most: int) -> None:
        self._cuda = cuda
        self._output = graph.outputs[0].name
        self._host: Feeds = {}
        self._device: dict[str, int] = {}
        for spec in (*graph.inputs, *graph.outputs):
            shape = (most, *(int(size) for size in spec.shape[1:]))
            self._host[spec.name] = cuda.allocate_host(shape, spec.dtype)
            self._device[spec.name] = cuda.allocate(self._host[spec.name].nbytes)

    def fill(self, rows: Feeds, size: int) -> None:
        """Copy the rows in; the last one is repeated up to `size`."""
        for name, values in rows.items():
            self._host[name][: len(values)] = values
            self._host[name][len(values) : size] = values[-1]

    def bind(self, context: Any, size: int) -> None:
        """Tell the plan where a batch of `size` is. Raises BundleError if its shapes are not its graph's."""
        shapes = {name: (size, *host.shape[1:]) for name, host in self._host.items()}
        taken = [context.set_input_shape(name, shape) for name, shape in shapes.items() if name != self._output]
        # A plan with larger shapes would write past our buffers.
        if not all(taken) or tuple(context.get_tensor_shape(self._output)) != shapes[self._output]:
            raise BundleError("the plan has other shapes than its graph", fix="build it again: pahi-rt build")
        for name in shapes:
            context.set_tensor_address(name, self._device[name])

    def upload(self, size: int) -> None:
        """Enqueue the copies of all inputs."""
        for name, host in self._host.items():
            if name != self._output:
                self._cuda.upload(host[:size], self._device[name])

    def download(self, size: int) -> None:
        """Enqueue the copy of the pictures."""
        self._cuda.download(self._device[self._output], self._host[self._output][:size])

    def pictures(self, count: int) -> NDArray[np.uint8]:
        """A copy of the first `count` pictures: the next batch overwrites them."""
        return np.array(self._host[self._output][:count], np.uint8)


class RuntimeCache:
    """Kernels that TensorRT for RTX has compiled on this GPU, kept in the user's cache for the next process."""

    def __init__(self, plan_sha256: str, flavour: str) -> None:
        self.path = cache_folder(flavour, f"{plan_sha256}.cache")
        self._cache: Any = None

    def attach(self, trt: Any, engine: Any) -> Any:
        """The settings for an execution context of `engine`; None for TensorRT proper, which has no such cache."""
        if not hasattr(engine, "create_runtime_config"):
            return None
        config = engine.create_runtime_config()
        if not hasattr(config, "create_runtime_cache"):
            return None
        self._cache = config.create_runtime_cache()
        # Without a file, kernels are compiled again. TensorRT itself refuses what another GPU, driver or version left.
        with suppress(OSError):
            self._cache.deserialize(self.path.read_bytes())
        config.set_runtime_cache(self._cache)
        # Kernels made lazily would come after the work has been captured and the cache has been written.
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return config

    def save(self) -> None:
        """Write the kernels, whole or not at all. If the cache cannot be written, nothing is kept."""
        if self._cache is None:
            return
        with suppress(OSError):
            make_private(self.path.parent)
            write_whole(self.path, bytes(self._cache.serialize()))


def check_plan(runtime: str, bundle: Bundle) -> None:
    """Raises RuntimeUnavailable if the bundle has no plan for the runtime. It does not look for a GPU."""
    if not any(plan.runtime == runtime for plan in bundle.manifest.engines):
        fix = command("pahi-rt", "build", "BUNDLE", "--engine", runtime)
        raise RuntimeUnavailable("the bundle has no plan for it", fix=fix)


def require_tensorrt(flavour: str) -> Any:
    """The module, imported when it is first needed. Raises RuntimeUnavailable."""
    try:
        return import_module(MODULES[flavour])
    except ImportError as error:
        raise RuntimeUnavailable(f"{flavour} cannot be loaded: {error}", fix=INSTALL[flavour]) from error


def make_log(trt: Any) -> Any:
    """A logger that keeps the last error, and the list of layers. TensorRT's own one writes to standard output."""

    class Log(trt.ILogger):  # type: ignore[misc]  # which of the two modules it is, is known at run time
        def __init__(self) -> None:
            super().__init__()
            self.error = ""
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.error = message
            elif message.startswith("Layers:\n"):
                self.layers = message

    return Log()


def last_error(log: Any) -> str:
    """The last error in one line."""
    return str(log.error).strip().split("\n")[0][:400] or "it does not say why"


def choose_plan(bundle: Bundle, graph: Graph, found: tuple[str, str, str]) -> Plan:
    """The plan of `graph` that fits what was `found` here: flavour, its version, and the GPU's compute capability.

    Raises RuntimeUnavailable that says what does not fit, and the command that builds a plan that does.
    """
    flavour, version, capability = found
    built = [plan for plan in bundle.manifest.engines if (plan.runtime, plan.graph) == (flavour, graph.file)]
    reasons = [_objection(bundle, plan, version, capability) for plan in built]
    for plan, reason in zip(built, reasons, strict=True):
        if reason is None:
            return plan
    copy = f"my-{slug(bundle.manifest.name)}"
    is_fixed = is_managed(bundle.path)
    first = command("cp", "-r", bundle.path, copy) + " && " if is_fixed else ""
    gpu = () if flavour == "tensorrt" else ("--compute-capability", capability)
    options = ("--engine", flavour, "--precision", graph.precision, *gpu)
    raise RuntimeUnavailable(
        f"no {flavour} plan of bundle {bundle.manifest.name!r} fits: {next(filter(None, reasons), 'none was built')}",
        fix=first + command("pahi-rt", "build", copy if is_fixed else bundle.path, *options),
    )


def split(rows: Feeds, most: int) -> list[Feeds]:
    """The rows, in turns of at most `most`."""
    count = len(next(iter(rows.values())))
    return [{name: values[i : i + most] for name, values in rows.items()} for i in range(0, count, most)]


def _objection(bundle: Bundle, plan: Plan, version: str, capability: str) -> str | None:
    """Why a plan cannot be used; None if it can be."""
    if plan.runtime_version != version:
        return f"it is of version {plan.runtime_version}, and {version} is installed"
    if capability not in plan.compute_capabilities:
        listed = ", ".join(plan.compute_capabilities)
        return f"it is for the compute capability {listed}, and this GPU has {capability}"
    if plan.graph_sha256 != bundle.manifest.files[plan.graph].sha256:
        return f"{plan.graph} was exported again since it was built"
    return None


def _is_capturable(context: Any, stream: int) -> bool:
    """Whether the work can be captured. TensorRT proper cannot be asked: it can, if no shape depends on data."""
    return not hasattr(context, "is_stream_capturable") or bool(context.is_stream_capturable(stream))


def _open(trt: Any, log: Any, plan: bytes, name: str, cache: RuntimeCache) -> Any:
    """An execution context for a plan, which was read from the file `name`."""
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise BundleError(f"TensorRT cannot load {name}: {last_error(log)}", fix="build it again: pahi-rt build")
    config = cache.attach(trt, engine)
    context = engine.create_execution_context() if config is None else engine.create_execution_context(config)
    if context is None:
        what = f"TensorRT cannot make {name} ready to run: {last_error(log)}"
        raise RuntimeUnavailable(what, fix="free memory of the GPU, or build with a smaller --batch")
    return context
