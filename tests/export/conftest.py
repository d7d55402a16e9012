"""One tiny model with random weights, and its bundle: tracing takes seconds, so all tests of export share them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pahi_rt.bundle import Bundle
from pahi_rt.export.exporter import export_bundle
from pahi_rt.export.inputs import Inputs, fixed_inputs
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.priors import HI, PAHI, Prior, save_prior
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_random_pipeline(tmp_path_factory.mktemp("models") / "tiny")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Random weights\n")
    return folder


Exported = tuple[Bundle, list[tuple[str, float, int | None]]]


@pytest.fixture(scope="session")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A bundle of one and two steps with weights stored in 16 bits, and the stages that its export reported."""
    stages: list[tuple[str, float, int | None]] = []
    words = tmp_path_factory.mktemp("extras") / "words.json"
    words.write_text('{"words": ["cat"], "concepts": [], "styles": []}')
    bundle = export_bundle(
        model,
        tmp_path_factory.mktemp("bundles") / "tiny",
        name="tiny",
        precisions=("w16",),
        extra_files={"vocabulary.json": words},
        vocabulary="vocabulary.json",
        on_stage=lambda *stage: stages.append(stage),
    )
    return bundle, stages


@pytest.fixture(scope="session")
def bundle(exported: Exported) -> Bundle:
    return exported[0]


def perturb(prior: Prior, amount: float) -> Prior:
    """A prior that starts at the standard Gaussian, moved to where every strength and prompt makes a difference."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=random))
    return prior


@pytest.fixture(scope="session")
def priors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of an HI and a PAHI for the tiny model, in the folder of a run."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    made = {"hi": perturb(HI((4, 8, 8)), 0.3), "pahi": perturb(PAHI(32, (4, 8, 8), 16, init="zero"), 0.1)}
    for kind, prior in made.items():
        save_prior(prior, folder / f"{kind}.safetensors")
    return {kind: folder / f"{kind}.safetensors" for kind in made}


@pytest.fixture(scope="session")
def with_priors(model: Path, priors: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of one step with both priors, its weights stored in 16 bits."""
    output = tmp_path_factory.mktemp("bundles") / "priors"
    return export_bundle(model, output, name="tiny", steps=(1,), precisions=("w16",), priors=tuple(priors.values()))


@pytest.fixture
def generator(model: Path) -> Generator:
    return load_generator(model)


@pytest.fixture(scope="session")
def inputs(bundle: Bundle) -> Inputs:
    spec = bundle.manifest.tokenizer
    tokenizer = Tokenizer(bundle.file(spec.file), spec.max_length, spec.pad_id)
    return fixed_inputs(tokenizer, bundle.manifest.image.latent_shape)
