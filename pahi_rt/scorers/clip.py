"""Scorers that are a CLIP: the cosine between the embeddings of a picture and of its prompt.

PickScore   CLIP ViT-H/14, fine-tuned on Pick-a-Pic (Kirstain et al. 2023). Its authors report exp(logit_scale) cosine;
            the paper's Table 2 reports the cosine.
CLIPScore   CLIP without fine-tuning. Hessel et al. (2021) report 2.5 max(cosine, 0).
HPSv2.1     CLIP ViT-H/14, fine-tuned on HPD v2 (Wu et al. 2023). Its authors' tables report 100 cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from pahi_rt.errors import ScorerError
from pahi_rt.models.folders import find_parts, locate
from pahi_rt.models.foreign import read_json
from pahi_rt.models.placement import lent
from pahi_rt.models.weights import find_weights, refuse_quantised, tell_variants
from pahi_rt.scorers.checkpoints import build, load_tokenizer, read_weights, weights_file
from pahi_rt.scorers.open_clip import convert_weights, infer_config, load_cleaner
from pahi_rt.scorers.preprocess import CLIP_MEAN, CLIP_STD, Fit, Preprocess, check_inputs, contain, cover

PICKSCORE = "yuvalkirstain/PickScore_v1"
CLIPSCORE = "openai/clip-vit-large-patch14"
HPSV2, HPSV2_FILE = "xswu/HPSv2", "HPS_v2.1_compressed.pt"
VIT_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""The model that PickScore and HPSv2 were fine-tuned from; they use its tokenizer."""

KEPT = 100_000
"""Prompts whose embeddings a scorer caches on the CPU: 0.4 GB for embeddings of 1,024 numbers."""

_SETTINGS = ("*.json", "merges.txt")
_FIX = "give a folder with a CLIPModel, its tokenizer and its model.safetensors, or a hub id like owner/name"


class ClipScorer(nn.Module):
    """score = cosine of E_image(picture) and E_text(prompt), in [-1, 1]; scale = exp(logit_scale), about 100.

    A prompt that is too long for the text encoder is cut and keeps its end token, as with the model's own tokenizer.
    """

    unit = "cosine"
    size = None

    def __init__(
        self, name: str, model: Any, tokenizer: Any, preprocess: Preprocess, clean: Callable[[str], str] = str
    ) -> None:
        """`clean` rewrites a prompt before the tokenizer reads it."""
        super().__init__()
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.clean = clean
        self.max_tokens: int = model.config.text_config.max_position_embeddings
        self.unported: tuple[str, ...] = () if clean is str else ("prompts are not repaired by ftfy",)
        self._embeddings: dict[str, Tensor] = {}
        self.scale = float(model.logit_scale.detach().float().exp())
        self.float().eval().requires_grad_(False)

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] and B prompts -> cosines [B]. Raises ScorerError for other shapes."""
        check_inputs(images, prompts)
        pictures = embed_images(self.model, self.preprocess(images))
        return (pictures * self.embed_prompts(prompts)).sum(dim=-1)

    def score_ids(self, images: Tensor, input_ids: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] and token ids int64 [B, T] -> cosines [B]."""
        return (embed_images(self.model, self.preprocess(images)) * self._embed_ids(input_ids)).sum(dim=-1)

    @property
    def text_tower(self) -> nn.Module:
        """The text model and its projection."""
        return nn.ModuleList([self.model.text_model, self.model.text_projection])

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """B prompts -> unit vectors [B, E], on the pictures' device. Those of the last `KEPT` prompts are cached."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._embeddings]
        if new:
            with lent(self.text_tower, self._device):
                self._embeddings.update({prompt: self._embed(prompt).cpu() for prompt in new})
        embeddings = torch.stack([self._embeddings[prompt] for prompt in prompts]).to(self._device)
        for oldest in list(self._embeddings)[: max(0, len(self._embeddings) - KEPT)]:
            del self._embeddings[oldest]
        return embeddings

    @torch.no_grad()
    def _embed(self, prompt: str) -> Tensor:
        # One prompt at a time and in fp32, so that its bits depend on nothing else: a resumed run reads its prompts in
        # another order.
        with torch.autocast(self._device.type, enabled=False):
            return self._embed_ids(self.tokenize([prompt]))[0]

    def _embed_ids(self, input_ids: Tensor) -> Tensor:
        return F.normalize(self.model.text_projection(self.model.text_model(input_ids).pooler_output), dim=-1)

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.model.logit_scale.device
        return device

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """B prompts -> token ids int64 [B, T], on the model's device."""
        tokens = self.tokenizer(
            [self.clean(prompt) for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        input_ids: Tensor = tokens.input_ids.to(self._device)
        return input_ids


def embed_images(model: Any, pixels: Tensor) -> Tensor:
    """Preprocessed pictures [B, 3, S, S] -> unit vectors [B, E] of a CLIPModel, in fp32."""
    embeddings = model.visual_projection(model.vision_model(pixels).pooler_output)
    # In fp32 even under autocast: cosines of one prompt differ in the third digit, which bf16 does not have.
    return F.normalize(embeddings.float(), dim=-1)


def load_pickscore(source: str | None = None) -> ClipScorer:
    """Load PickScore from a folder in transformers' layout, or from the hub. Raises ScorerError if it is not a CLIP."""
    return _load_scorer("pickscore", source or PICKSCORE, cover)


def load_clipscore(source: str | None = None) -> ClipScorer:
    """Load any CLIP of transformers from a folder, or from the hub. Raises ScorerError if it is not a CLIP."""
    return _load_scorer("clipscore", source or CLIPSCORE, cover)


def load_hpsv2(source: str | None = None) -> ClipScorer:
    """Load HPSv2.1 from its published checkpoint, a folder with that, a folder in transformers' layout, or the hub.

    The published checkpoint comes without a tokenizer, which is read from its folder or else from the hub. Prompts are
    cleaned as by open_clip, which HPSv2 is built on. Raises ScorerError if something is missing, such as the package
    ftfy, or of another architecture.
    """
    fix = f"give the file {HPSV2_FILE} of {HPSV2}"
    place = locate(source or HPSV2, (HPSV2_FILE,), partial(ScorerError, fix=fix))
    if (place / "config.json").is_file():
        return _load_scorer("hpsv2", str(place), contain, load_cleaner())
    path = weights_file(place, (HPSV2_FILE,))
    weights = read_weights(path)
    config = infer_config(weights, path, fix)
    model = build(CLIPModel, None, path, fix, config=config, state_dict=convert_weights(weights))
    tokenizer = load_tokenizer(CLIPTokenizer, path.parent, VIT_H, config.text_config.vocab_size)
    return ClipScorer("hpsv2", model, tokenizer, Preprocess(config.vision_config.image_size, contain), load_cleaner())


def load_clip(source: str, fix: str = _FIX) -> tuple[Any, Path]:
    """Load a CLIPModel from a folder in transformers' layout or a hub id; return it and its folder.

    Raises ScorerError if the model is missing, incomplete or not a CLIP; `fix` is the fix of errors without a special
    one.
    """
    refuse = partial(ScorerError, fix=fix)
    folder = find_parts(source, ("",), _SETTINGS, refuse)
    settings = read_json(folder / "config.json", refuse)
    if settings.get("model_type") != "clip":
        raise refuse(f"the model in {folder} is a {settings.get('model_type')}, not a clip")
    refuse_quantised(settings, folder, refuse)
    weights = find_weights(folder, refuse=refuse)
    tell_variants(folder)
    return build(CLIPModel, folder, folder, fix, use_safetensors=True, variant=weights.variant), folder


def read_normalisation(folder: Path) -> dict[str, Sequence[float]]:
    """`mean` and `std` from a folder's preprocessor_config.json; CLIP's numbers if it is missing or silent.

    Raises ScorerError if they are not three finite numbers each.
    """
    path = folder / "preprocessor_config.json"
    stated = read_json(path, partial(ScorerError, fix=_FIX)) if path.is_file() else {}
    mean, std = stated.get("image_mean", CLIP_MEAN), stated.get("image_std", CLIP_STD)
    for name, values, least in (("image_mean", mean, -math.inf), ("image_std", std, 0)):
        numbers = values if isinstance(values, (list, tuple)) else ()
        if len(numbers) != 3 or not all(isinstance(n, (int, float)) and least < n < math.inf for n in numbers):
            fix = "take the file of the published model, or delete it: then CLIP's numbers are used"
            raise ScorerError(f"{name} in {path} is {values!r}, which cannot normalise three colours", fix=fix)
    return {"mean": mean, "std": std}


def _load_scorer(name: str, source: str, fit: Fit, clean: Callable[[str], str] = str) -> ClipScorer:
    model, folder = load_clip(source)
    tokenizer = load_tokenizer(CLIPTokenizer, folder, VIT_H, model.config.text_config.vocab_size)
    _check_end(model.config.text_config.eos_token_id, tokenizer.eos_token_id, folder)
    preprocess = Preprocess(model.config.vision_config.image_size, fit, **read_normalisation(folder))
    return ClipScorer(name, model, tokenizer, preprocess, clean)


def _check_end(sought: int, written: int, folder: Path) -> None:
    # If a prompt lacks the configured end token, transformers pools the first token: all prompts get one embedding.
    # The published configurations have 2, which is wrong; for it, transformers uses the highest id of the prompt.
    if sought not in (2, written):
        raise ScorerError(
            f"the text encoder in {folder} looks for the end token {sought}, its tokenizer writes {written}",
            fix=f"set eos_token_id of the text_config to {written} in {folder / 'config.json'}",
        )
