"""The graph as a module: its forward has exactly the inputs and the output of the exported graph.

    encode_prompt -> sample_latents -> decode_latents -> to_levels

A noise prior belongs between the first two: it turns `noise` into x_T from the same embeddings, and brings the input
`prior_strength` with it, here and in `example_inputs`. Everything after this file takes names, types and shapes of the
inputs from `example_inputs`.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny, LCMScheduler
from torch import Tensor, nn

from pahi_rt.errors import PahiError
from pahi_rt.export.fold import fold_timestep
from pahi_rt.train.generators import Generator, decode_latents, encode_prompt
from pahi_rt.train.sampling import sample_latents

OUTPUT = "image"
MAX_BATCH = 64


def check_exportable(generator: Generator) -> None:
    """Raises PahiError for a model that can be trained on, but that the graph cannot hold yet."""
    lacking = {
        "a second text encoder": generator.text_encoder_2 is not None,
        "a guidance embedding": generator.guidance is not None,
        "an LCMScheduler": isinstance(generator.scheduler, LCMScheduler),
        f"an {type(generator.decoder).__name__}": not isinstance(generator.decoder, AutoencoderTiny),
    }
    found = [what for what, present in lacking.items() if present]
    if found:
        raise PahiError(
            f"a model with {' and '.join(found)} cannot be exported yet",
            fix="export a StableDiffusionPipeline that has an EulerDiscreteScheduler and an AutoencoderTiny",
        )


class FusedGenerator(nn.Module):
    """Text encoder, `steps` UNets whose timesteps are folded away, decoder; the UNets share all large weights.

    Raises PahiError for a model that the graph cannot hold, or another number of steps.
    """

    def __init__(self, generator: Generator, steps: int) -> None:
        super().__init__()
        check_exportable(generator)
        self.schedule = generator.schedule(steps)
        self.text_encoder = generator.text_encoder
        self.unets = nn.ModuleList(fold_timestep(generator.unet, timestep) for timestep in self.schedule.timesteps)
        self.decoder = generator.decoder
        self.latent_shape = generator.latent_shape
        self.max_length = generator.max_length

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Token ids int64 [B, T], standard Gaussian noise float32 [B, C, h, w] -> pictures uint8 [B, H, W, 3]."""
        embeddings = encode_prompt(self.text_encoder, input_ids).embeddings

        def denoise(latents: Tensor, step: int) -> Tensor:
            # The timestep is an argument of the class, but the folded UNet does not read it.
            output: Tensor = self.unets[step](latents, 0, embeddings).sample
            return output

        return to_levels(decode_latents(self.decoder, sample_latents(denoise, noise, self.schedule)))

    def example_inputs(self, batch: int = 2) -> dict[str, Tensor]:
        """Inputs of the right names, types and shapes, in the order of `forward`. Every first axis is the batch."""
        return {
            "input_ids": torch.zeros(batch, self.max_length, dtype=torch.int64),
            "noise": torch.zeros(batch, *self.latent_shape),
        }


def to_levels(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3], rounded half to even."""
    # The transposition comes first: TensorRT takes uint8 only at the very end of a graph.
    return (pictures * 255).permute(0, 2, 3, 1).round().to(torch.uint8)
