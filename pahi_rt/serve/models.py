"""The models that the service offers: bundles by name, and what clients may ask of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.choice import Chosen, choose
from pahi_rt.errors import BundleError
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.pipeline import check_noise_recipe, load_tokenizer
from pahi_rt.prior import choose_prior
from pahi_rt.serve.problems import Problem, bad_request
from pahi_rt.serve.settings import Settings
from pahi_rt.tokenizer import Tokenizer
from pahi_rt.vocabulary import Vocabulary


@dataclass(frozen=True)
class Model:
    """A bundle under the name that clients use."""

    name: str
    bundle: Bundle
    sha256: str
    default_prior: str
    tokenizer: Tokenizer
    vocabulary: Vocabulary | None
    settings: Settings
    """With the precision that was chosen."""

    @classmethod
    def open(cls, place: str, settings: Settings) -> Model:
        """Open a bundle. Its graphs are loaded later. Raises BundleError."""
        bundle = open_bundle(place)
        check_noise_recipe(bundle)
        return cls(
            name=bundle.manifest.name,
            bundle=bundle,
            sha256=bundle.sha256,
            settings=replace(settings, precision=bundle.choose_precision(settings.precision)),
            default_prior=choose_prior(bundle),
            tokenizer=load_tokenizer(bundle),
            vocabulary=Vocabulary.load(bundle),
        )

    @property
    def priors(self) -> list[str]:
        """The priors that clients may ask for, the default first."""
        return list(dict.fromkeys([self.default_prior, *self.bundle.priors, GAUSSIAN]))

    @property
    def steps(self) -> list[int]:
        """The numbers of steps that clients may ask for."""
        return sorted(self.bundle.graphs(self.default_prior, self.settings.precision))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures."""
        return self.bundle.manifest.image.width, self.bundle.manifest.image.height

    def choose(self, steps: int | None = None, prior: str | None = None) -> Chosen:
        """What to draw a request with: by default the fewest steps, and the default prior.

        Raises Problem for what the model does not offer.
        """
        if prior is not None and prior not in self.priors:
            fix = f"use {' or '.join(self.priors)}, or leave it out"
            raise bad_request(f"the model {self.name!r} has no prior {prior!r}", fix, "prior")
        wanted, settings = prior or self.default_prior, self.settings
        offered = sorted(self.bundle.graphs(wanted, settings.precision))
        steps = offered[0] if steps is None else steps
        if steps not in offered:
            fix = f"use {' or '.join(map(str, offered))}, or leave it out"
            raise bad_request(f"the model {self.name!r} cannot draw in {steps} steps", fix, "steps")
        return choose(
            self.bundle,
            steps=steps,
            runtime=settings.runtime,
            threads=settings.threads,
            prior=wanted,
            precision=settings.precision,
        )

    def choose_scorer(self, scorer: str | None = None) -> str:
        """The scorer that chooses among candidates: by default the bundle's first.

        Raises Problem for one that the model does not have.
        """
        known = list(self.bundle.scorers)
        if not known:
            fix = "leave candidates out, or export the model with --scorer"
            raise bad_request(f"the model {self.name!r} has no scorer to choose pictures with", fix, "candidates")
        if scorer is not None and scorer not in known:
            fix = f"use {' or '.join(known)}, or leave it out"
            raise bad_request(f"the model {self.name!r} has no scorer {scorer!r}", fix, "scorer")
        return scorer or known[0]

    def describe(self) -> dict[str, Any]:
        """The model as an entry of OpenAI's list, with what a client of ours may want to know."""
        width, height = self.size
        return {
            "id": self.name,
            "object": "model",
            "created": 0,
            "owned_by": "pahi-rt",
            "height": height,
            "width": width,
            "steps": self.steps,
            "priors": self.priors,
            "default_prior": self.default_prior,
            "scorers": list(self.bundle.scorers),
            "sha256": self.sha256,
            "vocabulary": self.vocabulary is not None,
        }


class Models:
    """The models by name; the first is the default. Raises BundleError if two have the same name."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._by_name = {model.name: model for model in models}
        if len(self._by_name) < len(models):
            names = ", ".join(model.name for model in models)
            raise BundleError(f"two of the bundles have the same name: {names}", fix="export one under another --name")

    def __iter__(self) -> Iterator[Model]:
        return iter(self._by_name.values())

    @property
    def default(self) -> Model:
        """The model for requests that name none."""
        return next(iter(self._by_name.values()))

    def find(self, name: str | None) -> Model:
        """The model of this name; the default for None. Raises Problem."""
        if name is None:
            return self.default
        if name not in self._by_name:
            fix = f"use {' or '.join(self._by_name)}, or leave it out"
            raise Problem(404, "no-such-model", f"there is no model {name[:80]!r}", fix, param="model")
        return self._by_name[name]

    def find_or_default(self, name: str | None) -> Model:
        """The model of this name, and the default for any other name: many programs send a name that is built in."""
        return self._by_name.get(name or "", self.default)


def unknown_words(model: Model, prompts: Sequence[str]) -> list[dict[str, Any]]:
    """The words of the prompts that the model does not know, each with the nearest that it does."""
    if model.vocabulary is None:
        return []
    found = {word: near for prompt in prompts for word, near in model.vocabulary.unknown(prompt).items()}
    return [{"word": word, "nearest": near} for word, near in found.items()]
