"""What is traced: a graph for each number of steps and prior."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import FusedGenerator, FusedPrior
from pahi_rt.export.inputs import Inputs
from pahi_rt.export.journal import Journal, open_journal
from pahi_rt.export.model import load_model
from pahi_rt.export.parity import SAME_ARITHMETIC
from pahi_rt.export.provenance import Source, find_source
from pahi_rt.export.reference import check_generator
from pahi_rt.export.rounding import to_levels
from pahi_rt.export.settings import ExportSettings, Variant
from pahi_rt.export.stages import Stages
from pahi_rt.models.priors import HI, PAHI, save_prior


def test_files_are_named_after_steps_prior_and_precision() -> None:
    assert Variant(1, "gaussian", "fp32").file == "one-step.onnx"
    assert Variant(2, "pahi", "fp16").file == "two-step-pahi-fp16.onnx"


def test_how_near_a_graph_must_come_can_be_said_but_for_fp32() -> None:
    settings = ExportSettings(min_psnr=25.0)
    assert [settings.near(name).psnr_db for name in ("w8", "int8", "fp16")] == [25, 25, 25]
    assert settings.near("fp32") == ExportSettings().near("fp32") == SAME_ARITHMETIC
    with pytest.raises(PahiError, match="-3 dB"):
        ExportSettings(min_psnr=-3.0)


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


def start_journal(folder: Path) -> Journal:
    (folder / "new").mkdir()
    return open_journal(folder / "new", "key")


def test_the_generator_is_compared_with_diffusers_once_for_each_number_of_steps(
    model: Path, inputs: Inputs, tmp_path: Path
) -> None:
    loaded, journal = load_model(Source(model)), start_journal(tmp_path)
    names: list[str] = []
    stages = Stages(tmp_path, lambda name, *_: names.append(name))
    drawn = loaded.draw(inputs, (1, 2))
    rows = check_generator(loaded, inputs, drawn, stages, journal)
    assert [row.graph for row in rows] == ["PyTorch fp32, 1 step", "PyTorch fp32, 2 steps"]
    assert check_generator(loaded, inputs, drawn, stages, journal) == rows  # the journal has them
    assert names == [f"compare {row.graph} with diffusers" for row in rows]


def test_what_is_not_a_number_is_left_to_the_graphs_check(model: Path, inputs: Inputs, tmp_path: Path) -> None:
    loaded = load_model(Source(model))
    loaded.generator.latent_scale = replace(loaded.generator.latent_scale, factor=float("nan"))
    drawn = loaded.draw(inputs, (1,))
    assert check_generator(loaded, inputs, drawn, Stages(tmp_path, None), start_journal(tmp_path)) == ()
