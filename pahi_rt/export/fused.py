"""The graph as a module: its forward has exactly the inputs and the output of the exported graph.

    encode_prompt -> (sample_noise) -> sample_latents -> decode_latents -> to_levels

The second step exists only with a prior: it turns `noise` into x_T from the same embeddings, and adds the input
`prior_strength`. Everything after this file takes names, types and shapes of the inputs from `example_inputs`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pahi_rt.export.fold import fold_timestep
from pahi_rt.manifest import STRENGTH
from pahi_rt.models.conditioning import Conditioning
from pahi_rt.models.gaussians import sample_noise
from pahi_rt.models.generators import Generator
from pahi_rt.models.latents import decode_latents
from pahi_rt.models.priors import Prior, check_fit
from pahi_rt.models.sampling import sample_latents

OUTPUT = "image"
PRIOR_SCOPE = "prior"
MAX_BATCH = 64


class Fused(nn.Module):
    """Text encoders, `steps` UNets whose timesteps are folded away, and the decoder. The UNets share all large weights.

    Raises PahiError for a model that cannot take that many steps, or whose timesteps cannot be folded.
    """

    dtype = torch.float32
    """Type that all parts except the prior compute in."""

    def __init__(self, generator: Generator, steps: int) -> None:
        super().__init__()
        self.schedule = generator.schedule(steps)
        # Its modules are those below; as a method it adds none under another name.
        self.encode_prompt = generator.encode_prompt
        self.text_encoder, self.text_encoder_2 = generator.text_encoder, generator.text_encoder_2
        time_ids = None if generator.text_encoder_2 is None else generator.time_ids
        self.unets = nn.ModuleList(
            fold_timestep(generator.unet, timestep, generator.guidance, time_ids)
            for timestep in self.schedule.timesteps
        )
        self.decoder, self.latent_scale = generator.decoder, generator.latent_scale
        self.latent_shape = generator.latent_shape
        self.max_length = generator.max_length

    def draw(self, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """Conditioning of B prompts and x_T [B, C, h, w] -> pictures uint8 [B, H, W, 3]."""

        def denoise(latents: Tensor, step: int) -> Tensor:
            # The timestep is an argument of the class, but the folded UNet does not read it.
            read = latents.to(self.dtype)
            output: Tensor = self.unets[step](
                read, 0, conditioning.embeddings, added_cond_kwargs=conditioning.added
            ).sample
            return output.float()

        latents = sample_latents(denoise, noise, self.schedule)
        return to_levels(decode_latents(self.decoder, latents, self.latent_scale, self.dtype))

    def example_inputs(self, batch: int = 2) -> dict[str, Tensor]:
        """Inputs with the right names, types and shapes, in the order of `forward`. Each first axis is the batch."""
        return {
            "input_ids": torch.zeros(batch, self.max_length, dtype=torch.int64),
            "noise": torch.zeros(batch, *self.latent_shape),
        }


class FusedGenerator(Fused):
    """The graph without a prior."""

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Token ids int64 [B, T], standard Gaussian noise float32 [B, C, h, w] -> pictures uint8 [B, H, W, 3]."""
        return self.draw(self.encode_prompt(input_ids), noise)


class FusedPrior(Fused):
    """The graph with a prior. Also raises PahiError for a prior that does not fit the generator."""

    def __init__(self, generator: Generator, steps: int, prior: Prior) -> None:
        super().__init__(generator, steps)
        check_fit(prior, generator)
        # After the generator's parts, so that their weights come in the same order as without a prior.
        self.prior = NoiseSampler(prior)

    def forward(self, input_ids: Tensor, noise: Tensor, prior_strength: Tensor) -> Tensor:
        """As without a prior, and strengths float32 [B] in 0..1: 1 is the prior, 0 the standard Gaussian to the bit."""
        conditioning = self.encode_prompt(input_ids)
        return self.draw(conditioning, self.prior(conditioning.pooled.float(), noise, prior_strength))

    def example_inputs(self, batch: int = 2) -> dict[str, Tensor]:
        return {**super().example_inputs(batch), STRENGTH: torch.ones(batch)}


class NoiseSampler(nn.Module):
    """A prior as one module, whose name, `PRIOR_SCOPE`, tells its nodes in the graph from the generator's."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.gaussian = prior

    def forward(self, pooled: Tensor, noise: Tensor, prior_strength: Tensor) -> Tensor:
        """Pooled embeddings [B, P], noise [B, C, h, w] and strengths [B] -> x_T [B, C, h, w]."""
        return sample_noise(self.gaussian(pooled), noise, prior_strength)


def to_levels(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3], rounded half to even."""
    # The transposition comes first: TensorRT takes uint8 only at the very end of a graph.
    return (pictures * 255).permute(0, 2, 3, 1).round().to(torch.uint8)
