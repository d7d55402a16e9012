"""One tiny model with random weights, and its bundle: tracing takes seconds, so all tests of export share them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.export.exporter import export_bundle
from pahi_rt.export.inputs import Inputs, fixed_inputs
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.priors import HI, PAHI, Prior, save_prior
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.tokenizer import Tokenizer


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills, once in a run: a worker waits for the one that is making it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        save_random_pipeline(folder)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Random weights\n")

    return make_once(tmp_path_factory, "tiny", make)


Exported = tuple[Bundle, list[tuple[str, float, int | None]]]


@pytest.fixture(scope="session")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A bundle of one and two steps with weights stored in 16 bits, and the stages that its export reported."""
    words = tmp_path_factory.mktemp("extras") / "words.json"
    words.write_text('{"words": ["cat"], "concepts": [], "styles": []}')

    def make(folder: Path) -> None:
        stages: list[tuple[str, float, int | None]] = []
        export_bundle(
            model,
            folder,
            name="tiny",
            precisions=("w16",),
            extra_files={"vocabulary.json": words},
            vocabulary="vocabulary.json",
            on_stage=lambda *stage: stages.append(stage),
        )
        folder.with_suffix(".json").write_text(json.dumps(stages))

    folder = make_once(tmp_path_factory, "exported", make)
    stages = [tuple(stage) for stage in json.loads(folder.with_suffix(".json").read_text())]
    return open_bundle(folder), stages


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

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
        made = {"hi": perturb(HI((4, 8, 8)), 0.3), "pahi": perturb(PAHI(32, (4, 8, 8), 16, init="zero"), 0.1)}
        for kind, prior in made.items():
            save_prior(prior, folder / f"{kind}.safetensors")

    folder = make_once(tmp_path_factory, "mine", make)
    return {kind: folder / f"{kind}.safetensors" for kind in ("hi", "pahi")}


@pytest.fixture(scope="session")
def with_priors(model: Path, priors: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of one step with both priors, its weights stored in 16 bits."""

    def make(folder: Path) -> None:
        export_bundle(model, folder, name="tiny", steps=(1,), precisions=("w16",), priors=tuple(priors.values()))

    return open_bundle(make_once(tmp_path_factory, "priors", make))


@pytest.fixture
def generator(model: Path) -> Generator:
    return load_generator(model)


@pytest.fixture(scope="session")
def inputs(bundle: Bundle) -> Inputs:
    spec = bundle.manifest.tokenizer
    tokenizer = Tokenizer(bundle.file(spec.file), spec.max_length, spec.pad_id)
    return fixed_inputs(tokenizer, bundle.manifest.image.latent_shape)
