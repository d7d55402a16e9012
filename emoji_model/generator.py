"""Stage `generator`: UNet and text encoder learn together to draw clean latents from noise in one step.

Training is direct regression of x0 (`prediction_type="sample"`) at the scheduler's first timestep, on targets that are
coupled to the noise (coupling.py). In the last part the second step's timestep is trained too, on the generator's own
output, so that two deterministic Euler steps refine what one step drew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from emoji_model import coupling
from emoji_model.captions import Captions
from emoji_model.pictures import save_grid
from emoji_model.sources import STYLES
from emoji_model.targets import Targets
from emoji_model.text import rebuild, tokens
from emoji_model.trainer import Schedule, Trainer, Worker, averaged
from pahi_rt.models.components import turbo_scheduler
from pahi_rt.models.sampling import Schedule as Sampling
from pahi_rt.models.sampling import euler_schedule, sample_latents

LATENT_SHAPE = (coupling.CHANNELS, coupling.HEIGHT, coupling.WIDTH)
SCHEDULE = Schedule(steps=16_600, batch=48, learning_rate=8e-4, warmup=200, decay=0.25, sample_every=500)
SECOND_STEP, ALL_TWICE = 0.25, 0.8
"""Shares of the steps after which the second timestep is trained too: on half of each batch, then on all of it."""
LIFT, LIFTED = 6.0, (0.19, 0.27)
"""The style's functionals start LIFT times too large and come down to their true size between these shares of the
steps. A style's effect differs from concept to concept, so at true size its gradient is lost in the noise at first."""
BETA = 0.1
"""Errors below BETA count by their square, others by their size. Where the noise leaves two styles nearly equal, the
median is one of them; the mean would be a blur."""
STYLED = 0.35
"""Share of the captions that name the drawing style."""
PREVIEW = (
    "grinning cat", "dog face", "noto style fox", "twemoji style fox", "fluent style fox", "panda", "penguin",
    "smiling face with sunglasses", "rose", "skull", "red heart", "red apple", "hamburger", "rocket", "octopus",
    "guitar",
)  # fmt: skip


def build_scheduler() -> EulerDiscreteScheduler:
    """A scheduler with SD-Turbo's noise levels, for a network that predicts the clean latents."""
    return turbo_scheduler("sample")


def build_unet() -> UNet2DConditionModel:
    """The UNet with random weights, apart from the channels that carry the noise's functionals."""
    unet = UNet2DConditionModel(
        sample_size=coupling.WIDTH,
        in_channels=coupling.CHANNELS,
        out_channels=coupling.CHANNELS,
        layers_per_block=1,
        block_out_channels=(48, 96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=192,
        attention_head_dim=(2, 4, 8),
        norm_num_groups=8,
        use_linear_projection=True,
    )
    pass_functionals(unet)
    return unet.to(memory_format=torch.channels_last)


@torch.no_grad()
def pass_functionals(unet: UNet2DConditionModel, gain: float = 8.0) -> None:
    """Initialise the first channels so that they carry averages of the noise's checkerboard to the lowest resolution.

    A functional is a mean of 256 values, so it has a sixteenth of the noise's size. Without this start, the style is
    learned very late.
    """
    box = torch.full((3, 3), 1 / 9)
    board = box * coupling.checkerboard(3, 3)
    _route(unet.conv_in.weight, board * gain)
    # The features alternate in sign until the first downsampler, which sees every second one.
    kernels = iter((board, box))
    for block in unet.down_blocks:
        if block.resnets[0].conv_shortcut is not None:
            _route(block.resnets[0].conv_shortcut.weight, torch.ones(1, 1))
        if block.downsamplers is not None:
            _route(block.downsamplers[0].conv.weight, next(kernels))


def _route(weight: torch.Tensor, kernel: torch.Tensor) -> None:
    for channel in range(coupling.CHANNELS):
        weight[channel] = 0
        weight[channel, channel] = kernel


@torch.no_grad()
def mute_functionals(unet: UNet2DConditionModel) -> None:
    """Remove from the last convolution what draws a checkerboard, where the functionals are read.

    The second step sees the noise through the drawing of the first. If that drawing is 0 on the checkerboard, the
    second step reads the same values as the first.
    """
    board, weight = coupling.checkerboard(3, 3), unet.conv_out.weight
    weight -= board * (weight * board).sum((2, 3), keepdim=True) / board.numel()


@dataclass(frozen=True)
class Batch:
    """B captions, their noise, and their targets."""

    input_ids: torch.Tensor
    """int64 [B, POSITIONS]."""
    noise: torch.Tensor
    """[B, C, h, w]."""
    latents: torch.Tensor
    """[B, C, h, w]: the target that caption and noise ask for."""
    styles: torch.Tensor
    """[B, styles, C, h, w]: the same concept on the same tint, in every style."""


class Sampler:
    """Draws batches of captions, noise, and the one target that both ask for."""

    def __init__(self, targets: Targets, captions: Captions, tokenizer: CLIPTokenizer) -> None:
        self.targets, self.captions, self.tokenizer = targets, captions, tokenizer

    def draw(self, count: int, rng: torch.Generator, lift: float = 1.0) -> Batch:
        """Draw `count` samples. `lift` enlarges the style's functionals; at 1 the noise is standard Gaussian."""
        concepts, styles, variants = (
            torch.randint(size, (count,), generator=rng) for size in self.targets.latents.shape[:3]
        )
        python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
        named = [python_rng.random() < STYLED for _ in range(count)]
        names = list(STYLES)
        drawn = [
            self.captions.draw(concept, names[style] if say else None, python_rng)
            for concept, style, say in zip(concepts.tolist(), styles.tolist(), named, strict=True)
        ]
        noise = torch.randn(count, *self.targets.latents.shape[3:], generator=rng)
        values = self.targets.values[concepts, variants].clone()
        values[:, coupling.STYLE] = coupling.read(noise)[:, coupling.STYLE]
        values = torch.where(torch.tensor(named)[:, None], values, coupling.with_style(values, styles))
        values[:, coupling.STYLE] *= lift
        place = torch.tensor([d.meanings.index(c) for d, c in zip(drawn, concepts.tolist(), strict=True)])
        number = torch.tensor([len(d.meanings) for d in drawn])
        values[:, coupling.CHOICE] = coupling.choice_value(place, number, torch.rand(count, generator=rng))
        every = self.targets.latents[concepts, :, variants].float()
        latents = every[torch.arange(count), styles]
        return Batch(tokens(self.tokenizer, [d.text for d in drawn]), coupling.write(noise, values), latents, every)


def denoiser(unet: nn.Module, text: torch.Tensor, schedule: Sampling) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The UNet as a function of the scaled latents and the index of the step, with all other inputs fixed."""

    def denoise(latents: torch.Tensor, step: int) -> torch.Tensor:
        timestep = torch.tensor(schedule.timesteps[step])
        return unet(latents.contiguous(memory_format=torch.channels_last), timestep, text, return_dict=False)[0]

    return denoise


def lift(done: float) -> float:
    """Size of the style's functionals after the share `done` of the steps."""
    first, last = LIFTED
    return LIFT + (1 - LIFT) * min(1.0, max(0.0, (done - first) / (last - first)))


def nearest_style(drawn: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """For drawn latents [B, C, h, w], the nearest ones among the real `styles` [B, styles, C, h, w]: [B, C, h, w].

    They are the targets of the second step, which refines what the first one drew.
    """
    errors = (styles - drawn[:, None]).square().mean((2, 3, 4))
    return styles[torch.arange(len(drawn)), errors.argmin(1)]


def scale(sample: torch.Tensor, sigma: float) -> torch.Tensor:
    """Scale a sample of noise level `sigma` to the size that the UNet reads."""
    return sample / (sigma**2 + 1) ** 0.5


def losses(modules: nn.ModuleDict, batch: Batch, two: Sampling, again: slice) -> dict[str, torch.Tensor]:
    """Errors of the first step on the batch, and of the second one on the rows `again`, if there are any."""
    mute_functionals(modules["unet"])  # after every update
    text = modules["text_encoder"](batch.input_ids).last_hidden_state
    first = denoiser(modules["unet"], text, two)(scale(batch.noise * two.noise_scale, two.sigmas[0]), 0)
    terms = {"one": F.smooth_l1_loss(first, batch.latents, beta=BETA)}
    start = first[again].detach()
    if len(start):
        noisy = start + (batch.noise[again] * two.noise_scale - start) * (two.sigmas[1] / two.sigmas[0])
        second = denoiser(modules["unet"], text[again], two)(scale(noisy, two.sigmas[1]), 1)
        terms["two"] = F.smooth_l1_loss(second, nearest_style(start, batch.styles[again]), beta=BETA)
    return terms


def train(
    worker: Worker, folder: Path, targets: Targets, captions: Captions, tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel, vae: AutoencoderTiny, schedule: Schedule,
) -> None:  # fmt: skip
    """Train UNet and text encoder; leaves checkpoint.pt, metrics.jsonl and grids (PREVIEW x 6 seeds) in `folder`."""
    modules = nn.ModuleDict({"text_encoder": text_encoder, "unet": build_unet()}).train()
    trainer = Trainer(folder, modules, schedule, worker)
    sampler = Sampler(targets, captions, tokenizer)
    two = euler_schedule(build_scheduler(), 2)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        done, count = step / schedule.steps, schedule.batch // worker.world
        again = 0 if done < SECOND_STEP else count // 2 if done < ALL_TWICE else count
        return losses(modules, sampler.draw(count, rng, lift(done)), two, slice(again))

    def sample(step: int) -> None:
        save_grid(preview(trainer.ema, vae, tokenizer, steps=1), 12, folder / f"{step}.png")

    trainer.run(loss, sample)


@torch.no_grad()
def preview(
    modules: nn.ModuleDict, vae: AutoencoderTiny, tokenizer: CLIPTokenizer, steps: int,
    prompts: Sequence[str] = PREVIEW,
) -> torch.Tensor:  # fmt: skip
    """Pictures [prompts x 6, 3, H, W] of the prompts from 6 seeds."""
    text = modules["text_encoder"](tokens(tokenizer, list(prompts))).last_hidden_state.repeat_interleave(6, 0)
    noise = torch.randn(6, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0)).repeat(len(prompts), 1, 1, 1)
    schedule = euler_schedule(build_scheduler(), steps)
    latents = sample_latents(denoiser(modules["unet"], text, schedule), noise, schedule)
    return (vae.decoder(latents) + 1) / 2


def load(folder: Path, tokenizer: CLIPTokenizer) -> nn.ModuleDict:
    """The trained text encoder and UNet (moving average of the weights), frozen."""
    unet = build_unet()
    unet.load_state_dict(averaged(folder, "unet"))
    modules = nn.ModuleDict({"text_encoder": rebuild(averaged(folder, "text_encoder"), tokenizer), "unet": unet})
    return modules.eval().requires_grad_(False)
