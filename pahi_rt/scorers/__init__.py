"""SC_phi of the paper's eq. (2): frozen models of human preference, differentiable in the pictures.

    load_scorer("pickscore")                           the published model, from the hub
    load_scorer("imagereward:/models/ImageReward.pt")  a published model, from a file

The table `SCORERS` lists the kinds. Other packages add theirs as plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from pahi_rt import plugins
from pahi_rt.errors import ScorerError
from pahi_rt.plugins import find_plugins, load_plugin
from pahi_rt.scorers.aesthetic import load_aesthetic
from pahi_rt.scorers.clip import load_clipscore, load_hpsv2, load_pickscore
from pahi_rt.scorers.image_reward import load_image_reward
from pahi_rt.scorers.redness import load_redness


class Scorer(Protocol):
    """Interface of every scorer. All are frozen fp32 `nn.Module`s: gradients reach the pictures, never the weights."""

    name: str
    """Its kind, for tables and files."""
    unit: str
    """The unit of a score."""
    scale: float
    """Factor from a difference of scores to the logit of a preference: the factor in the exponent of eq. (4)."""

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] and a prompt for each -> scores [B], higher is better."""

    def to(self, *arguments: Any, **options: Any) -> Any:
        """As `nn.Module.to`."""


@runtime_checkable
class PromptEmbedder(Protocol):
    """A scorer that embeds a prompt without its picture, and so has to do it only once."""

    @property
    def text_tower(self) -> nn.Module:
        """The module that embeds prompts. It may be on another device than the rest, and is lent to theirs for it."""

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """B prompts -> embeddings [B, E] to compare pictures with, on the pictures' device. They are cached."""


@runtime_checkable
class Portable(Protocol):
    """A scorer that `pahi-rt export-scorer` can write as a graph, because it scores token ids as well as prompts."""

    name: str
    unit: str
    scale: float
    tokenizer: Any
    """transformers' tokenizer of its prompts; None if it does not read prompts."""
    max_tokens: int
    """T: the tokens of a prompt, start and end token included."""
    size: tuple[int, int] | None
    """Height and width of the only pictures that it takes; None if it takes any."""
    unported: tuple[str, ...]
    """What `score` does to prompts before they are tokens, and a graph's tokenizer does not."""

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """As a Scorer's."""

    def score_ids(self, images: Tensor, input_ids: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] and token ids int64 [B, T], padded -> scores [B]."""


SCORERS: Mapping[str, Callable[[str | None], Scorer]] = {
    "pickscore": load_pickscore,
    "clipscore": load_clipscore,
    "hpsv2": load_hpsv2,
    "imagereward": load_image_reward,
    "aesthetic": load_aesthetic,
    "redness": load_redness,
}
"""Kind -> loader. The argument is the path or hub id after the colon, or None for the published model."""


def load_scorer(spec: str) -> Scorer:
    """Load the scorer that `spec` names: "kind", or "kind:PATH_OR_HUB_ID".

    Raises ScorerError for an unknown kind, a model that is missing, a pickle that holds more than tensors, and weights
    of another architecture.
    """
    kind, _, source = spec.partition(":")
    if kind in SCORERS:
        return SCORERS[kind](source or None)
    added = find_plugins(plugins.SCORERS)
    if kind not in added:
        fix = f"use {', '.join([*SCORERS, *added])}, alone or as kind:PATH_OR_HUB_ID"
        raise ScorerError(f"there is no scorer {kind!r}", fix=fix)
    scorer: Scorer = load_plugin(added[kind])(source or None)
    return scorer
