"""The frozen models of a training: the generator, and every scorer that trains or evaluates the prior."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pahi_rt.errors import RecipeError, ScorerError
from pahi_rt.machine import has_bfloat16
from pahi_rt.models.arithmetic import forgo_tf32
from pahi_rt.models.conditioning import Conditioning
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.placement import Placement
from pahi_rt.scorers import PromptEmbedder, Scorer, load_scorer
from pahi_rt.train.recipe import Autocast

logger = logging.getLogger(__name__)
Timed = Callable[[str], AbstractContextManager[object]]
"""Name of a long stage -> context manager to run it in."""


@dataclass(frozen=True)
class Models:
    """SD_theta and the scorers, and how to run them."""

    generator: Generator
    scorers: Mapping[str, Scorer]
    """Spec, as in the recipe -> scorer."""
    steps: int = 1
    """Sampling steps of a picture."""
    device: torch.device = torch.device("cpu")
    checkpointing: bool = False
    """Whether the backward pass computes activations again, so that they need not be kept."""
    placement: Placement = field(default_factory=Placement)
    """Device and type of their weights in training and evaluation; by default they stay as loaded."""

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """B prompts -> conditioning, in float32 even under autocast, because the prior takes it."""
        with torch.autocast(self.device.type, enabled=False):
            return self.generator.encode_prompt(self.generator.tokenize(prompts))

    def remember(self, prompts: Sequence[str], specs: Iterable[str]) -> None:
        """Embed the prompts now, all at once, for the scorers in `specs` that embed prompts without pictures."""
        for spec in specs:
            scorer = self.scorers[spec]
            if isinstance(scorer, PromptEmbedder):
                scorer.embed_prompts(prompts)

    def draw(self, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """Standard Gaussian noise [B, C, h, w] -> pictures [B, 3, H, W] in [0, 1]."""
        return self.generator.draw(conditioning, noise, self.steps)

    def score(self, spec: str, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, H, W] -> scores [B] in float32. Raises ScorerError for scores of another shape or without a
        gradient."""
        score = self.scorers[spec].score
        wanted = torch.is_grad_enabled() and pictures.requires_grad
        if self.checkpointing and wanted:
            scores: Tensor = checkpoint(score, pictures, prompts, use_reentrant=False)
        else:
            scores = score(pictures, prompts)
        if scores.shape != (len(prompts),):
            what = f"the scorer {spec} gives scores of shape {list(scores.shape)} for {len(prompts)} pictures"
            raise ScorerError(what, fix="let it return one score for each picture")
        if wanted and not scores.requires_grad:
            what = f"the scores of {spec} do not depend on the pictures in a way that can be differentiated"
            fix = '--set optimisation.gradient="score-function", or train with another and evaluate with this one'
            raise ScorerError(what, fix=fix)
        return scores.float()


def load_models(
    generator: str,
    decoder: str | None,
    specs: Iterable[str],
    *,
    variant: str | None = None,
    steps: int,
    device: torch.device,
    checkpointing: bool,
    stage: Timed,
) -> Models:
    """Load the generator (weights of `variant`, with `decoder`) and the scorers `specs` onto `device`, without TF32.

    Raises ModelError, ScorerError and HubError as their loaders do.
    """
    forgo_tf32()
    with stage("load generator"):
        loaded = load_generator(generator, decoder, variant=variant).to(device)
        loaded.schedule(steps)
    scorers: dict[str, Scorer] = {}
    for spec in specs:
        if spec not in scorers:
            with stage(f"load scorer {spec}"):
                scorers[spec] = load_scorer(spec).to(device)
    if checkpointing:
        loaded.unet.enable_gradient_checkpointing()
        loaded.decoder.enable_gradient_checkpointing()
    return Models(loaded, scorers, steps, device, checkpointing)


def place(models: Models, dtype: torch.dtype, trained: Collection[str]) -> Models:
    """The same models with a placement for training under autocast to `dtype`, against the scorers `trained`."""
    parts = models.generator.named_children()
    drawing = [part for name, part in parts if not name.startswith("text_encoder")]
    scorers = {spec: scorer for spec, scorer in models.scorers.items() if isinstance(scorer, nn.Module)}
    placement = Placement(
        models.device,
        dtype,
        training=[*drawing, *(scorer for spec, scorer in scorers.items() if spec in trained)],
        evaluating=[scorer for spec, scorer in scorers.items() if spec not in trained],
        waiting=[scorer.text_tower for scorer in scorers.values() if isinstance(scorer, PromptEmbedder)],
    )
    return replace(models, placement=placement)


def compile_models(models: Models) -> None:
    """Mark the UNet and the decoder for torch.compile, in place; each is compiled on its first call."""
    # On CPUs PyTorch 2.13 computes wrong gradients in the layout that it prefers (pahi_rt.train.trainer checks that).
    options = {"layout_optimization": models.device.type != "cpu"}
    models.generator.unet.compile(options=options)
    models.generator.decoder.decoder.compile(options=options)


def settle_precision(autocast: Autocast, device: torch.device) -> Autocast:
    """What `device` is to compute in if a recipe asks for `autocast`: that, or for "auto" what is fast there.

    Raises RecipeError for what it cannot compute in. A processor without instructions for bfloat16 can, slowly, which a
    warning says.
    """
    is_cuda = device.type == "cuda"
    is_fast = torch.cuda.is_bf16_supported(including_emulation=False) if is_cuda else has_bfloat16()
    if autocast == "auto":
        return "bf16" if is_fast else "no"
    if autocast == "bf16" and not is_fast:
        if is_cuda:
            raise RecipeError("this GPU has no bfloat16", fix='--set optimisation.autocast="fp16"')
        logger.warning("this processor emulates bfloat16: a step may take minutes; optimisation.autocast=no is faster")
    if autocast == "fp16" and not is_cuda:
        raise RecipeError("fp16 needs a GPU", fix='--set optimisation.autocast="no", or "bf16"')
    return autocast
