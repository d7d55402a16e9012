"""The ways to draw a picture that `pahi-rt bench cuda` times: each turns host inputs into a picture on the host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.bench.reports.table2 import DECODER, TEXT_ENCODER, UNET
from pahi_rt.bench.work import count_flops, count_work
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.export.fused import Fused, FusedGenerator, FusedPrior, to_levels
from pahi_rt.export.precision import halve
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.latents import decode_latents
from pahi_rt.models.priors import PAHI
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.runtimes import TABLE, load

RANDOM = ("sd-turbo", "tiny")
"""Architectures that can be made with random weights."""
EAGER, GRAPH = "eager fp32", "CUDA graph fp16"
"""The numerical reference, and the contender that the others are timed against on a GPU."""

BATCHES = (4, 16)
"""Pictures at once of the rows after those that draw one."""
BUNDLES = {entry.title: entry.name for entry in TABLE if entry.device == "nvidia" and entry.rank}
"""Rows that draw through a bundle -> their runtimes."""

Draw = Callable[[Tensor, Tensor], Tensor]
"""Token ids int64 [B, T] and noise float32 [B, C, h, w] on the host -> pictures uint8 [B, H, W, 3] on the host."""


@dataclass(frozen=True)
class Built:
    """A contender that is ready to draw."""

    draw: Draw
    gflop: Callable[[], float]
    """Counts what one call of `draw` computes."""
    is_same_picture: bool = True
    """Whether it should draw the reference's picture: weights, steps and prior are the same."""
    precision: str | None = None
    """Precision of a bundle's graph; None where the contender's name tells it."""


@dataclass(frozen=True)
class Contender:
    """One row of the report."""

    name: str
    build: Callable[[Setup], Built]
    against: str = EAGER
    """The row that it takes turns with."""
    is_prior: bool = False
    """Whether `against` is the same without a prior, so that their ratio gives the prior's overhead."""
    why_not: str | None = None
    """Why it is not tried in this run."""
    batch: int = 1
    """Pictures at once."""


class Setup:
    """One model with random or given weights on one device, loaded when it is first needed."""

    def __init__(
        self,
        device: str,
        model: str,
        work: Path,
        bundle: Path | None = None,
        precision: str | None = None,
        batch: int = 1,
    ) -> None:
        """`model` is a diffusers folder, or one of `RANDOM`, which is written into `work` unless it is there.

        `precision` chooses the bundle's graph; the bundle's first precision if None.
        """
        self.device, self.model, self.work = torch.device(device), model, work
        self.bundle, self.precision, self.batch = bundle, precision, batch

    def for_batch(self, batch: int) -> Setup:
        """The same for so many pictures at once, with nothing loaded yet."""
        return Setup(str(self.device), self.model, self.work, self.bundle, self.precision, batch)

    @cached_property
    def generator(self) -> Generator:
        """The model in fp32, on the device."""
        folder = Path(self.model)
        if self.model in RANDOM:
            folder = self.work / self.model
            # The index is written last, so a folder with one is complete.
            if not (folder / "model_index.json").exists():
                save_random_pipeline(folder, self.model)  # type: ignore[arg-type]  # one of its sizes
        return load_generator(folder).to(self.device)

    @cached_property
    def inputs(self) -> list[tuple[Tensor, Tensor]]:
        """Token ids and noise of a batch from each prompt on, on the host; pinned if the device is a GPU."""
        ids = self.generator.tokenize(PROMPTS).cpu()
        random = torch.Generator().manual_seed(0)
        noise = torch.randn(len(PROMPTS), *self.generator.latent_shape, generator=random)
        rows = [[(i + j) % len(PROMPTS) for j in range(self.batch)] for i in range(len(PROMPTS))]
        return [(self._pin(ids[row]), self._pin(noise[row])) for row in rows]

    def fuse(self, steps: int = 1, *, is_half: bool = False, has_prior: bool = False) -> Fused:
        """A fused module; in fp16 with a copy of the weights, because halving overwrites them.

        A prior has random weights and stays in fp32, as in an exported graph.
        """
        generator = copy.deepcopy(self.generator) if is_half else self.generator
        fused: Fused
        if has_prior:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                prior = PAHI(generator.pooled_width, generator.latent_shape)
            fused = FusedPrior(generator, steps, prior.to(self.device))
        else:
            fused = FusedGenerator(generator, steps)
        if is_half:
            halve(fused)
        return fused.eval().requires_grad_(False)

    def on_device(self, fused: torch.nn.Module, inputs: tuple[Tensor, Tensor] | None = None) -> list[Tensor]:
        """All arguments of `fused` on the device: `inputs`, or those of the first prompt, and strength 1."""
        ready = [value.to(self.device, non_blocking=True) for value in inputs or self.inputs[0]]
        return [*ready, torch.ones(self.batch, device=self.device)] if isinstance(fused, FusedPrior) else ready

    def to_host(self, picture: Tensor) -> Tensor:
        """The picture in host memory, once the device has finished it."""
        if self.device.type == "cpu":
            return picture
        host = torch.empty(picture.shape, dtype=picture.dtype, pin_memory=True)
        host.copy_(picture, non_blocking=True)
        torch.cuda.synchronize()
        return host

    def _pin(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.device.type == "cuda" else tensor.contiguous()


def contenders(setup: Setup, *, autotune: bool = False) -> list[Contender]:
    """All contenders in the order of trial: what is quick and certain before what compiles for minutes."""
    on_cuda = setup.device.type == "cuda"
    no_gpu = None if on_cuda else "needs an NVIDIA GPU; this run is on the CPU"
    base = GRAPH if on_cuda else EAGER
    two = f"{base}, two steps"
    no_tuning = None if autotune else "not asked for: add --autotune"
    no_bundle = None if setup.bundle else "there is no bundle to run: add --bundle"
    one_at_a_time = [
        Contender(EAGER, run_eager),
        Contender(GRAPH, partial(run_graph, is_half=True), why_not=no_gpu),
        Contender(f"{base}, PAHI", partial(run_graph, is_half=on_cuda, has_prior=True), base, is_prior=True),
        Contender(two, partial(run_graph, is_half=on_cuda, steps=2), base),
        Contender(f"{two}, PAHI", partial(run_graph, is_half=on_cuda, steps=2, has_prior=True), two, is_prior=True),
        *(
            Contender(f"{base}, {part} alone", partial(run_component, part, is_half=on_cuda), base)
            for part in (TEXT_ENCODER, UNET, DECODER)
        ),
        Contender("eager TF32", partial(run_eager, tf32=True), base, why_not=no_gpu),
        Contender("eager fp16", partial(run_eager, is_half=True), base),
        Contender("eager fp16 channels-last", partial(run_eager, is_half=True, is_channels_last=True), base),
        Contender(
            f"{GRAPH} channels-last", partial(run_graph, is_half=True, is_channels_last=True), base, why_not=no_gpu
        ),
        *(
            Contender(name, partial(run_bundle, runtime=runtime), base, why_not=no_gpu or no_bundle)
            for name, runtime in BUNDLES.items()
        ),
        Contender("torch.compile reduce-overhead", partial(run_compiled, "reduce-overhead"), base, why_not=no_gpu),
        Contender("AOTInductor", run_aot_inductor, base, why_not=no_gpu),
        Contender(
            "torch.compile max-autotune", partial(run_compiled, "max-autotune"), base, why_not=no_gpu or no_tuning
        ),
    ]
    several = {base, f"{GRAPH} channels-last", *BUNDLES, "torch.compile reduce-overhead"}
    return one_at_a_time + [
        replace(
            row,
            name=in_batches(row.name, batch),
            against=EAGER if row.name == base else in_batches(base, batch),
            batch=batch,
        )
        for batch in BATCHES
        for row in one_at_a_time
        if row.name in several
    ]


def in_batches(name: str, batch: int) -> str:
    """The name of a contender that draws several pictures at once."""
    return f"{name}, batch {batch}"


def run_eager(setup: Setup, *, is_half: bool = False, is_channels_last: bool = False, tf32: bool = False) -> Built:
    """Run PyTorch operator by operator."""
    fused = _arrange(setup.fuse(is_half=is_half), is_channels_last)
    plain = _call(setup, fused, fused)
    return Built(_with_tf32(plain) if tf32 else plain, partial(_count, setup, fused))


def run_graph(
    setup: Setup, *, steps: int = 1, is_half: bool, has_prior: bool = False, is_channels_last: bool = False
) -> Built:
    """Record all kernels of the module once and launch them as one CUDA graph; on the CPU run it eagerly."""
    fused = _arrange(setup.fuse(steps, is_half=is_half, has_prior=has_prior), is_channels_last)
    draw = _capture(setup, fused) if setup.device.type == "cuda" else _call(setup, fused, fused)
    return Built(draw, partial(_count, setup, fused), is_same_picture=steps == 1 and not has_prior)


def run_component(part: str, setup: Setup, *, is_half: bool) -> Built:
    """Run one component alone as `run_graph` does: the UNet with the first prompt, the decoder from noise."""
    fused = setup.fuse(is_half=is_half)
    module = Component(fused, part, setup.on_device(fused)[0]).eval()
    draw = _capture(setup, module) if setup.device.type == "cuda" else _call(setup, module, module)
    return Built(draw, partial(_count, setup, module), is_same_picture=False)


class Component(torch.nn.Module):
    """A component of a fused module, with its inputs: token ids and noise."""

    def __init__(self, fused: Fused, part: str, input_ids: Tensor) -> None:
        super().__init__()
        self.fused, self.part = fused, part
        with torch.no_grad():
            self.conditioning = fused.encode_prompt(input_ids)

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """The component's result."""
        fused, conditioning = self.fused, self.conditioning
        if self.part == TEXT_ENCODER:
            return fused.encode_prompt(input_ids).embeddings
        if self.part == DECODER:
            return to_levels(decode_latents(fused.decoder, noise, fused.latent_scale, fused.dtype))
        read = noise.to(fused.dtype)
        result: Tensor = fused.unets[0](read, 0, conditioning.embeddings, added_cond_kwargs=conditioning.added).sample
        return result


def run_compiled(mode: str, setup: Setup) -> Built:
    """Run torch.compile in fp16; both modes record CUDA graphs of their own."""
    fused = setup.fuse(is_half=True)
    compiled = torch.compile(fused, mode=mode)
    call = _call(setup, fused, compiled)

    def draw(ids: Tensor, noise: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return call(ids, noise)

    draw(*setup.inputs[0])
    return Built(draw, partial(_count, setup, fused))


def run_aot_inductor(setup: Setup, *, is_half: bool = True) -> Built:
    """Compile the module ahead of time into a library, and load that."""
    from torch import _inductor

    fused = setup.fuse(is_half=is_half)
    with torch.no_grad():
        program = torch.export.export(fused, tuple(setup.on_device(fused)))
        package = _inductor.aoti_compile_and_package(program, package_path=str(setup.work / "fused.pt2"))
    return Built(_call(setup, fused, _inductor.aoti_load_package(package)), partial(_count, setup, fused))


def run_bundle(setup: Setup, *, runtime: str) -> Built:
    """Run a bundle's graph of one step, or its plan; its weights are the bundle's.

    Raises PahiError if its inputs have other shapes, or if the runtime or the plan is missing.
    """
    bundle = open_bundle(str(setup.bundle))
    ids, noise = setup.inputs[0]
    takes = (bundle.manifest.tokenizer.max_length, *bundle.manifest.image.latent_shape)
    if takes != (ids.shape[1], *noise.shape[1:]):
        what = f"the bundle takes tokens and noise of the shape {takes}, the model {(ids.shape[1], *noise.shape[1:])}"
        raise PahiError(what, fix="give --bundle an export of a model of the same architecture")
    loaded = load(bundle, steps=1, name=runtime, prior=GAUSSIAN, precision=setup.precision)
    graph = bundle.graph(1, GAUSSIAN, setup.precision)
    strength = torch.zeros(setup.batch).numpy()

    def draw(ids: Tensor, noise: Tensor) -> Tensor:
        return torch.from_numpy(loaded.run(ids.numpy(), noise.numpy(), strength))

    def count() -> float:
        return setup.batch * sum(part.gflop for part in count_work(bundle.file(graph.file)).values())

    return Built(draw, count, is_same_picture=False, precision=graph.precision)


def _count(setup: Setup, fused: Fused | Component) -> float:
    return count_flops(fused, setup.on_device(fused)) / 1e9


def _arrange(fused: Fused, is_channels_last: bool) -> Fused:
    if is_channels_last:
        fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks this one
    return fused


def _call(setup: Setup, fused: Fused | Component, run: Callable[..., Tensor]) -> Draw:
    """`run` takes the arguments of `fused`."""

    @torch.no_grad()
    def draw(ids: Tensor, noise: Tensor) -> Tensor:
        return setup.to_host(run(*setup.on_device(fused, (ids, noise))))

    return draw


def _with_tf32(draw: Draw) -> Draw:
    backends: Sequence[Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)

    def switched(ids: Tensor, noise: Tensor) -> Tensor:
        for backend in backends:
            backend.allow_tf32 = True
        try:
            return draw(ids, noise)
        finally:
            for backend in backends:
                backend.allow_tf32 = False

    return switched


@torch.no_grad()
def _capture(setup: Setup, fused: Fused | Component) -> Draw:
    buffers = setup.on_device(fused)
    # The first calls allocate and tune, which a capture forbids; they must run on another stream than the default.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            fused(*buffers)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        picture = fused(*buffers)

    def draw(ids: Tensor, noise: Tensor) -> Tensor:
        buffers[0].copy_(ids, non_blocking=True)
        buffers[1].copy_(noise, non_blocking=True)
        graph.replay()
        return setup.to_host(picture)

    return draw
