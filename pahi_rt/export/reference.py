"""What diffusers' own pipeline draws: the first reference of the parity gate.

It shares the generator's modules, so that it takes no memory of its own, and reads the prompts as text.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler
from torch import Tensor

from pahi_rt.errors import ParityError
from pahi_rt.export.drawing import Drawn, Pictures, start_row, to_pictures
from pahi_rt.export.inputs import GATE_PROMPTS, Inputs, split_rows
from pahi_rt.export.journal import Journal
from pahi_rt.export.model import Model
from pahi_rt.export.parity import SAME_ARITHMETIC, Reference, compare
from pahi_rt.export.stages import Stages
from pahi_rt.manifest import GAUSSIAN, Parity
from pahi_rt.models.differences import differences
from pahi_rt.models.families import GUIDANCE_SCALE
from pahi_rt.models.foreign import quiet_libraries, reason
from pahi_rt.models.generators import Generator
from pahi_rt.models.latents import decoder_scale
from pahi_rt.models.priors import Prior
from pahi_rt.models.sampling import as_euler

FIX = "report the model with its settings: one of them is read here in another way than in diffusers"
UNIT = 8
"""Pixels: the sides of diffusers' pictures are multiples of it, whatever the decoder is."""


@dataclass(frozen=True)
class Obstacle:
    """Why diffusers cannot draw a model that the generator here can."""

    reason: str
    applies: Callable[[Generator, str], bool]
    """Whether it holds for a generator, and the pipeline's class in its model_index.json."""


OBSTACLES = (
    Obstacle(
        "its tokenizer names no length that the text encoder can read",
        lambda generator, _: generator.tokenizer.model_max_length > generator.max_length,
    ),
    Obstacle(
        "its LCM pipeline runs with an LCMScheduler alone",
        lambda generator, kind: "Latent" in kind and not isinstance(generator.scheduler, LCMScheduler),
    ),
    Obstacle(
        "its LCM pipeline needs a UNet that takes a guidance scale",
        lambda generator, kind: "Latent" in kind and generator.guidance is None,
    ),
    Obstacle(
        "its ancestral scheduler knows no prediction_type 'sample'",
        lambda generator, _: (
            isinstance(generator.scheduler, EulerAncestralDiscreteScheduler)
            and generator.scheduler.config.prediction_type == "sample"
        ),
    ),
    Obstacle(
        "its statistics of latents have four channels",
        lambda generator, _: generator.latent_scale.mean is not None and generator.latent_shape[0] != 4,
    ),
    Obstacle(
        f"its pictures have sides of multiples of {UNIT} pixels",
        lambda generator, _: any(side % UNIT for side in generator.image_size),
    ),
)


class DiffusersPipeline:
    """The pipeline of a model's class, made of the parts of `generator`. Raises ParityError if diffusers cannot."""

    def __init__(self, generator: Generator, kind: str) -> None:
        self.generator, self._parts, self._kind = generator, generator.parts, kind
        options: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        if "text_encoder_2" in self._parts:
            options = {"add_watermarker": False}
        with _reported(kind):
            # A copy: pipelines change settings of old schedulers.
            scheduler = type(generator.scheduler).from_config(generator.scheduler.config)
            self.pipeline = getattr(diffusers, kind)(**self._parts | {"scheduler": scheduler}, **options)
            self.pipeline.set_progress_bar_config(disable=True)
        self._scheduler = self.pipeline.scheduler

    def against(self, steps: int) -> str:
        """Its name in manifests, with the differences that are on purpose."""
        return "; ".join([f"diffusers {diffusers.__version__} {self._kind}, fp32", *differences(self._parts, steps)])

    def draw(self, prompts: Sequence[str], noise: Tensor, steps: int) -> Tensor:
        """Noise [B, C, h, w] -> pictures [B, 3, H, W] in [0, 1], drawn one at a time."""
        scale = decoder_scale(self._parts["vae"].config)
        height, width = (side * scale for side in noise.shape[2:])
        options = {"guidance_scale": GUIDANCE_SCALE if self._parts["unet"].config.time_cond_proj_dim else 0.0}
        pictures = []
        for prompt, row in zip(prompts, noise.split(1), strict=True):
            with _reported(self._kind):
                self.pipeline.scheduler = deterministic(self._scheduler, steps, row)
                size = {"height": height, "width": width, "num_inference_steps": steps, "output_type": "pt"}
                pictures.append(self.pipeline(prompt, latents=row.clone(), **size, **options).images)
        return torch.cat(pictures)


def check_generator(model: Model, inputs: Inputs, drawn: Drawn, stages: Stages, journal: Journal) -> tuple[Parity, ...]:
    """Compare what PyTorch has `drawn`, with the first prior, with diffusers' pipeline; a row for each number of steps.

    Raises ParityError if they differ, or diffusers cannot draw.
    """
    pipeline, first = DiffusersPipeline(model.generator, model.pipeline), next(iter(model.priors), GAUSSIAN)
    rows: list[Parity] = []
    for steps in dict.fromkeys(steps for steps, _ in drawn):
        name, ours = f"PyTorch fp32, {steps} step{'s' * (steps > 1)}", drawn[steps, first]
        if not ours.are_numbers:  # the graph's check refuses it, and names the node
            continue
        if name not in journal.compared:
            with stages.run(f"compare {name} with diffusers"):
                row = check_pictures(name, ours, pipeline, inputs, steps, model.priors.get(first))
            journal.add_comparison(name, [row])
        rows += journal.compared[name]
    return tuple(rows)


def check_pictures(
    name: str, drawn: Pictures, pipeline: DiffusersPipeline, inputs: Inputs, steps: int, prior: Prior | None = None
) -> Parity:
    """Compare what the generator has `drawn` from the gate's `inputs` and a `prior` with what the pipeline draws.

    The pipeline reads the prompts as text. Raises ParityError if it draws something else.
    """
    noise = torch.cat([start_row(pipeline.generator, row, prior)[1] for row in split_rows(inputs)])
    theirs = to_pictures(pipeline.draw(GATE_PROMPTS, noise, steps))
    return compare(name, drawn, Reference(pipeline.against(steps), theirs, SAME_ARITHMETIC, FIX))


def find_obstacle(generator: Generator, kind: str) -> str | None:
    """Why diffusers' pipeline of class `kind` cannot draw with the parts of `generator`; None if it can."""
    return next((obstacle.reason for obstacle in OBSTACLES if obstacle.applies(generator, kind)), None)


def deterministic(scheduler: Any, steps: int, noise: Tensor) -> Any:
    """A fresh copy of `scheduler` that draws no random numbers between its steps, as `differences` explains.

    `noise` is what the first step starts from.
    """
    if steps > 1 and isinstance(scheduler, EulerAncestralDiscreteScheduler):
        return as_euler(scheduler)
    if steps > 1 and isinstance(scheduler, LCMScheduler):
        same: _SameNoise = _SameNoise.from_config(scheduler.config)
        same.noise = noise
        return same
    return type(scheduler).from_config(scheduler.config)


class _SameNoise(LCMScheduler):
    """Adds the same noise after every step."""

    noise: Tensor

    def step(self, model_output: Tensor, timestep: int, sample: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        denoised = super().step(model_output, timestep, sample).denoised
        if self.step_index == len(self.timesteps):
            return denoised, denoised
        kept = self.alphas_cumprod[self.timesteps[self.step_index]]
        return kept.sqrt() * denoised + (1 - kept).sqrt() * self.noise, denoised


@contextmanager
def _reported(kind: str) -> Iterator[None]:
    """Keep diffusers' messages off the screen, and turn whatever it raises into a ParityError."""
    try:
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise ParityError(
            f"diffusers' {kind} cannot draw the model: {reason(error)}",
            fix="draw with diffusers first, and mend the model's settings until it can",
        ) from error
