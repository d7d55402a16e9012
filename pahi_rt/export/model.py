"""The PyTorch model that is exported: a generator and its priors, loaded in fp32 and freed after each precision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.errors import PahiError
from pahi_rt.export.drawing import Drawn, draw_reference, mean_kl
from pahi_rt.export.fused import Fused, FusedGenerator, FusedPrior
from pahi_rt.export.inputs import GATE_PROMPTS, Inputs, fixed_inputs, with_strengths
from pahi_rt.export.provenance import Source
from pahi_rt.export.rounding import Round, round_matrices, to_float16
from pahi_rt.export.settings import Variant
from pahi_rt.manifest import GAUSSIAN, Component, ImageSpec, PriorSpec
from pahi_rt.models.generators import Generator, read_generator
from pahi_rt.models.priors import Prior, check_fit, load_prior
from pahi_rt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Model:
    """What is exported."""

    generator: Generator
    priors: Mapping[str, Prior]
    """By kind, in the order of the source's."""
    pipeline: str
    """Class of the pipeline in diffusers."""

    def variants(self, steps: Sequence[int], precision: str) -> list[Variant]:
        """A graph for each number of steps and prior. With priors there is no plain graph; strength 0 gives it."""
        return [Variant(count, kind, precision) for count in steps for kind in self.priors or (GAUSSIAN,)]

    def fuse(self, variant: Variant) -> Fused:
        """The module that becomes the graph, still in fp32."""
        if variant.prior == GAUSSIAN:
            return FusedGenerator(self.generator, variant.steps)
        return FusedPrior(self.generator, variant.steps, self.priors[variant.prior])

    def inputs(self, tokenizer: Tokenizer, prompts: Sequence[str] = GATE_PROMPTS, first_seed: int = 0) -> Inputs:
        """Inputs of the model's graphs, with strengths if it has priors; by default those of the gate."""
        inputs = fixed_inputs(tokenizer, self.generator.latent_shape, prompts, first_seed)
        return with_strengths(inputs) if self.priors else inputs

    def draw(self, inputs: Inputs, steps: Sequence[int]) -> Drawn:
        """What PyTorch draws in place of each graph."""
        priors: Mapping[str, Prior | None] = self.priors or {GAUSSIAN: None}
        return {
            (count, kind): draw_reference(self.generator, inputs, count, prior)
            for count in steps
            for kind, prior in priors.items()
        }

    def image(self, drawn: Drawn) -> ImageSpec:
        """Sizes of what PyTorch has `drawn`, and of the noise that it started from."""
        height, width = next(iter(drawn.values())).levels.shape[1:3]
        return ImageSpec(height, width, self.generator.latent_shape)

    def describe_priors(self, components: Sequence[Component], inputs: Inputs) -> dict[str, PriorSpec]:
        """What the manifest says of each prior, which comes from one of `components`: its KL is that of `inputs`."""
        described = zip(self.priors.items(), components, strict=True)
        return {kind: PriorSpec(made, mean_kl(self.generator, inputs, prior)) for (kind, prior), made in described}

    def round(self, to: Round) -> None:
        """Round all matrices of the generator, in place, and those of its priors to what float16 can hold.

        The priors' matrices are few, and everything else starts from what they compute.
        """
        round_matrices(self.generator, to)
        for prior in self.priors.values():
            round_matrices(prior, to_float16)

    def release(self) -> None:
        """Free all weights. Letting go of the model is not enough: the exporter's rules keep the last graph alive."""
        for module in (self.generator, *self.priors.values()):
            for parameter in module.parameters():
                parameter.data = parameter.data.new_empty(0)


def load_model(source: Source) -> Model:
    """Load what `source` names.

    Raises PahiError for a model that cannot be loaded, a prior that cannot be read or does not fit it, or two priors of
    one kind.
    """
    generator = read_generator(source.folder, source.decoder, source.size, variant=source.variant, loras=source.loras)
    priors: dict[str, Prior] = {}
    for path in source.priors:
        prior = load_prior(path).requires_grad_(False)
        check_fit(prior, generator)
        if prior.kind in priors:
            what = f"{path} is a second {prior.kind.upper()}; a bundle holds one prior of each kind"
            raise PahiError(what, fix="leave one of them out, or make another bundle of it")
        priors[prior.kind] = prior
    return Model(generator, priors, pipeline_class(source.folder))


def pipeline_class(folder: Path) -> str:
    """The class that a model's model_index.json names."""
    name: str = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    return name
