"""Stage `autoencoder`: AutoencoderTiny (TAESD's class) for 128x128 emoji, latents 4 x 16 x 16."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import nn
from torch.nn import functional as F

from emoji_model.pictures import save_grid
from emoji_model.render import composite
from emoji_model.trainer import Schedule, Trainer, Worker, averaged

SCHEDULE = Schedule(steps=1800, batch=64, learning_rate=2e-3, warmup=100, sample_every=300)
CROP = 64
WHOLE = 0.9
"""Share of the steps after which training uses whole pictures and not crops."""


def build() -> AutoencoderTiny:
    """The autoencoder with random weights: pictures [B, 3, 128, 128] in [-1, 1] <-> latents [B, 4, 16, 16]."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(48, 48, 48, 48),
        num_encoder_blocks=(0, 1, 2, 2),
        num_decoder_blocks=(4, 3, 1, 0),
    )


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 of pixels and gradients at three scales, plus colour at 1/8 size; pictures [B, 3, H, W] in [0, 1].

    The last term preserves colours: without it, and without permuting channels, greens collapse to orange.
    """
    loss = output.new_zeros(())
    for scale, weight in ((1, 1.0), (2, 0.3), (4, 0.3)):
        small, wanted = F.avg_pool2d(output, scale), F.avg_pool2d(target, scale)
        loss = loss + weight * F.l1_loss(small, wanted) + 0.5 * gradient_loss(small, wanted)
    small, wanted = F.avg_pool2d(output, 8), F.avg_pool2d(target, 8)
    return loss + F.l1_loss(small, wanted) + F.mse_loss(small, wanted)


def gradient_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 of horizontal and vertical differences, so that edges count and not only areas."""
    error = output - target
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def moment_loss(latents: torch.Tensor) -> torch.Tensor:
    """Squared distance of each channel's mean from 0 and standard deviation from 1, averaged over channels."""
    return latents.mean((0, 2, 3)).square().mean() + (latents.std((0, 2, 3)) - 1).square().mean()


def draw_batch(pictures: torch.Tensor, count: int, crop: int, rng: torch.Generator) -> torch.Tensor:
    """Random pictures on random pastel backgrounds, mirrored, recoloured, cropped: float [count, 3, crop, crop]."""
    chosen = pictures[torch.randint(len(pictures), (count,), generator=rng)]
    batch = composite(chosen, 1 - 0.35 * torch.rand(count, 3, generator=rng))
    top, left = torch.randint(batch.shape[-1] - crop + 1, (2, count), generator=rng).tolist()
    batch = torch.stack([b[:, y : y + crop, x : x + crop] for b, y, x in zip(batch, top, left, strict=True)])
    for index in torch.rand(count, generator=rng).lt(0.6).nonzero().flatten().tolist():
        batch[index] = batch[index, torch.randperm(3, generator=rng)]
    return torch.where(torch.rand(count, 1, 1, 1, generator=rng) < 0.5, batch.flip(-1), batch)


def train(worker: Worker, folder: Path, pictures: torch.Tensor, schedule: Schedule) -> None:
    """Train on uint8 pictures [N, 4, 128, 128]; leaves checkpoint.pt, metrics.jsonl and samples in `folder`."""
    model = build().to(memory_format=torch.channels_last)
    trainer = Trainer(folder, nn.ModuleDict({"vae": model}), schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        whole = step >= WHOLE * schedule.steps
        size, share = (pictures.shape[-1], 4) if whole else (CROP, 1)
        batch = draw_batch(pictures, schedule.batch // worker.world // share, size, rng) * 2 - 1
        latents = model.encoder(batch.contiguous(memory_format=torch.channels_last))
        noise = 0.15 * torch.rand(len(latents), 1, 1, 1, generator=rng)
        noisy = latents + noise * torch.randn(latents.shape, generator=rng)
        output = model.decoder(noisy)
        terms = {"reconstruction": reconstruction_loss((output + 1) / 2, (batch + 1) / 2)}
        return terms | {"moments": 0.05 * moment_loss(latents)}

    def sample(step: int) -> None:
        shown = composite(pictures[:: max(1, len(pictures) // 32)][:32], torch.full((32, 3), 1.0))
        save_grid(
            torch.stack([shown, reconstruct(trainer.ema["vae"], shown)], 1).flatten(0, 1), 16, folder / f"{step}.png"
        )

    trainer.run(loss, sample)


@torch.no_grad()
def reconstruct(vae: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """Encode and decode float pictures [N, 3, 128, 128] in [0, 1]."""
    return torch.cat([(vae.decoder(vae.encoder(part * 2 - 1)) + 1) / 2 for part in pictures.split(32)]).clamp(0, 1)


def picture_psnr(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each picture in dB, [B]; values in [0, 1]."""
    error = (output - target).square().mean((1, 2, 3)).clamp(min=1e-10)
    return -10 * error.log10()


def psnr(output: torch.Tensor, target: torch.Tensor) -> float:
    """Mean of `picture_psnr` over the pictures."""
    return float(picture_psnr(output, target).mean())


def load(folder: Path) -> AutoencoderTiny:
    """The trained model (moving average of the weights)."""
    model = build()
    model.load_state_dict(averaged(folder, "vae"))
    return model.eval().requires_grad_(False)
