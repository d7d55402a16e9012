"""pahi-rt: one-step text-to-image with learned noise priors, without PyTorch at run time.

    from pahi_rt import Pipeline

    Pipeline.load("emoji")("a red apple", seed=1).save("apple.png")

Each name is imported when it is first used, so that `import pahi_rt` and `pahi-rt --help` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pahi_rt.bundle import Bundle, open_bundle
    from pahi_rt.errors import (
        BundleError,
        HubError,
        ModelError,
        NoiseError,
        OutputError,
        PahiError,
        ParityError,
        PromptError,
        RecipeError,
        ReportError,
        RequestError,
        RunError,
        RuntimeUnavailable,
        ScorerError,
    )
    from pahi_rt.judge import Judge
    from pahi_rt.locations import built_in
    from pahi_rt.noise import draw_noise
    from pahi_rt.pipeline import Pipeline, Result
    from pahi_rt.runtimes.base import Runtime
    from pahi_rt.runtimes.fake import FakeRuntime
    from pahi_rt.tokenizer import Tokenizer
    from pahi_rt.vocabulary import Vocabulary

__version__ = "0.2.0"

__all__ = [
    "Bundle",
    "BundleError",
    "FakeRuntime",
    "HubError",
    "Judge",
    "ModelError",
    "NoiseError",
    "OutputError",
    "PahiError",
    "ParityError",
    "Pipeline",
    "PromptError",
    "RecipeError",
    "ReportError",
    "RequestError",
    "Result",
    "RunError",
    "Runtime",
    "RuntimeUnavailable",
    "ScorerError",
    "Tokenizer",
    "Vocabulary",
    "__version__",
    "built_in",
    "draw_noise",
    "open_bundle",
]

HOMES = {
    "bundle": ("Bundle", "open_bundle"),
    "errors": (
        "BundleError",
        "HubError",
        "ModelError",
        "NoiseError",
        "OutputError",
        "PahiError",
        "ParityError",
        "PromptError",
        "RecipeError",
        "ReportError",
        "RequestError",
        "RunError",
        "RuntimeUnavailable",
        "ScorerError",
    ),
    "judge": ("Judge",),
    "locations": ("built_in",),
    "noise": ("draw_noise",),
    "pipeline": ("Pipeline", "Result"),
    "runtimes.base": ("Runtime",),
    "runtimes.fake": ("FakeRuntime",),
    "tokenizer": ("Tokenizer",),
    "vocabulary": ("Vocabulary",),
}


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
