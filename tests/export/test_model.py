"""The model that is exported: a graph for each number of steps and prior, from files that are found once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import FusedGenerator, FusedPrior
from pahi_rt.export.model import load_model
from pahi_rt.export.provenance import Source, describe, find_source
from pahi_rt.export.rounding import to_levels
from pahi_rt.export.settings import Variant
from pahi_rt.models import folders
from pahi_rt.models.priors import HI, PAHI, save_prior


def test_without_priors_there_is_a_graph_for_each_number_of_steps(model: Path) -> None:
    loaded = load_model(Source(model))
    assert loaded.variants((1, 2), "w16") == [Variant(1, "gaussian", "w16"), Variant(2, "gaussian", "w16")]
    assert type(loaded.fuse(Variant(1, "gaussian", "fp32"))) is FusedGenerator


def test_with_priors_there_is_one_for_each_of_them_and_none_without(model: Path, priors: dict[str, Path]) -> None:
    loaded = load_model(Source(model, priors=tuple(priors.values())))
    assert loaded.variants((1, 2), "fp32") == [
        Variant(steps, kind, "fp32") for steps in (1, 2) for kind in ("hi", "pahi")
    ]
    fused = loaded.fuse(Variant(2, "hi", "fp32"))
    assert isinstance(fused, FusedPrior) and len(fused.unets) == 2
    assert fused.prior.gaussian is loaded.priors["hi"]
    assert not any(parameter.requires_grad for parameter in fused.parameters())


def test_rounding_reaches_the_priors(model: Path, priors: dict[str, Path]) -> None:
    loaded = load_model(Source(model, priors=(priors["pahi"],)))
    loaded.round(to_levels)
    for name, parameter in loaded.priors["pahi"].named_parameters():
        assert parameter.equal(parameter.half().float()) == name.endswith("weight")


def test_two_priors_of_one_kind(model: Path, priors: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(priors["hi"], tmp_path / "other.safetensors")
    with pytest.raises(PahiError, match="is a second HI; a bundle holds one prior of each kind"):
        load_model(Source(model, priors=(priors["hi"], tmp_path / "other.safetensors")))


@pytest.mark.parametrize(
    ("prior", "message"), [(HI((4, 4, 4)), "makes noise of shape"), (PAHI(31, (4, 8, 8)), "embeddings of width 31")]
)
def test_priors_of_another_model(model: Path, tmp_path: Path, prior: HI | PAHI, message: str) -> None:
    save_prior(prior, tmp_path / "prior.safetensors")
    with pytest.raises(PahiError, match=message):
        load_model(Source(model, priors=(tmp_path / "prior.safetensors",)))


def test_what_is_no_prior(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="no prior at"):
        find_source(model, priors=[tmp_path / "missing.safetensors"])


def test_a_model_and_a_decoder_are_found_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a branch of the hub holds may change between two looks."""
    source = find_source(model, model / "vae")
    monkeypatch.setattr(folders, "locate", lambda *_: pytest.fail("it was looked for again"))
    describe(source)
    assert load_model(source).pipeline == "StableDiffusionPipeline"
