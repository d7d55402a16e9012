"""The generator against diffusers' own pipeline, and what it refuses to load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from pahi_rt.errors import PahiError
from pahi_rt.export.random_models import save_random_pipeline
from pahi_rt.train.components import PREDICTION_TYPES, check_fit, load_components, weight_files
from pahi_rt.train.generators import Generator, load_generator

PROMPTS = ["a red cat", "the house by the sea at night"]


@pytest.fixture(scope="module", params=PREDICTION_TYPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp(request.param), prediction_type=request.param)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("intact"))


@pytest.fixture
def damaged(intact: Path, tmp_path: Path) -> Path:
    """A copy of a model that a test may damage."""
    return Path(shutil.copytree(intact, tmp_path / "model"))


def tokenize(model: Path) -> torch.Tensor:
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    return tokenizer(PROMPTS, padding="max_length", max_length=24, return_tensors="pt").input_ids


def draw_noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def draw_with_diffusers(model: Path, noise: torch.Tensor, steps: int) -> torch.Tensor:
    diffusers_logging.set_verbosity_error()
    pipeline = StableDiffusionPipeline.from_pretrained(model, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(PROMPTS, guidance_scale=0, num_inference_steps=steps, latents=noise, output_type="pt").images


# diffusers hands tensors to np.array, which numpy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("steps", [1, 2])
def test_equals_diffusers_own_pipeline(model: Path, steps: int) -> None:
    noise = draw_noise()
    ours = load_generator(model)(tokenize(model), noise, steps)
    theirs = draw_with_diffusers(model, noise.clone(), steps)
    assert ours.shape == (2, 3, 64, 64)
    assert ours.std() > 0.02  # or the comparison would see nothing
    assert (ours - theirs).abs().max() < 1e-4


def test_noise_and_prompt_decide_the_picture(intact: Path) -> None:
    generator, input_ids = load_generator(intact), tokenize(intact)
    picture = generator(input_ids, draw_noise(0))
    assert (generator(input_ids, draw_noise(1)) - picture).abs().mean() > 0.02
    assert (generator(input_ids.flip(0), draw_noise(0)) - picture).abs().mean() > 0.02
    assert torch.equal(generator(input_ids, draw_noise(0)), picture)


@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_reach_the_noise_and_no_weight(model: Path, steps: int) -> None:
    generator = load_generator(model)
    noise = draw_noise().requires_grad_()
    generator(tokenize(model), noise, steps).square().mean().backward()
    assert noise.grad is not None
    assert noise.grad.isfinite().all()
    assert (noise.grad != 0).float().mean() > 0.9
    assert all(p.grad is None and not p.requires_grad for p in generator.parameters())
    assert not generator.training


def test_schedule_is_that_of_sd_turbo(intact: Path) -> None:
    generator = load_generator(intact)
    assert generator.schedule(1).timesteps == (999,)
    assert generator.schedule(2).timesteps == (999, 499)
    assert generator.schedule(2).sigmas == pytest.approx((14.6146412, 1.6128862, 0))
    assert generator.schedule(2).noise_scale == pytest.approx(14.6146412)
    assert generator.latent_shape == (4, 8, 8)


@pytest.mark.parametrize("steps", [0, 5, -1])
def test_refuses_other_numbers_of_steps(intact: Path, steps: int) -> None:
    with pytest.raises(PahiError, match="steps are not supported"):
        load_generator(intact)(tokenize(intact), draw_noise(), steps)


def test_loading_is_silent(intact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_generator(intact)
    assert capfd.readouterr() == ("", "")


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_a_weight(folder: Path) -> None:
    (file,) = weight_files(folder / "unet")
    weights = load_file(file)
    del weights["conv_in.weight"]
    save_file(weights, file)


def pickle_the_vae(folder: Path) -> None:
    (file,) = weight_files(folder / "vae")
    torch.save(load_file(file), folder / "vae" / "diffusion_pytorch_model.bin")
    file.unlink()


def truncate_the_text_encoder(folder: Path) -> None:
    (file,) = weight_files(folder / "text_encoder")
    file.write_bytes(file.read_bytes()[:1000])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no model_index.json": (lambda f: (f / "model_index.json").unlink(), "not a diffusers pipeline"),
    "broken model_index.json": (lambda f: (f / "model_index.json").write_text("{"), "not JSON"),
    "a list as model_index.json": (lambda f: (f / "model_index.json").write_text("[]"), "does not list components"),
    "no unet folder": (lambda f: shutil.rmtree(f / "unet"), "lacks its unet"),
    "empty unet entry": (lambda f: edit_json(f / "model_index.json", unet=[None, None]), "lacks its unet"),
    "no weights": (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "no weights in"),
    "another scheduler": (
        lambda f: edit_json(f / "model_index.json", scheduler=["diffusers", "LCMScheduler"]),
        "scheduler of .* is a LCMScheduler",
    ),
    "another prediction type": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", prediction_type="flow"),
        "prediction_type 'flow'",
    ),
    "broken scheduler": (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{"), "read the scheduler"),
    "a pickle": (pickle_the_vae, "a pickle"),
    "a missing weight": (drop_a_weight, "conv_in.weight"),
    "a truncated file": (truncate_the_text_encoder, "cannot read the weights"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_with_a_fix(damaged: Path, damage: str) -> None:
    apply, message = DAMAGES[damage]
    apply(damaged)
    with pytest.raises(PahiError, match=message) as caught:
        load_generator(damaged)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("part", "option", "value", "message"),
    [
        ("vae", "latent_channels", 16, "the decoder reads 16"),
        ("unet", "cross_attention_dim", 99, "embeddings of width 99"),
        ("unet", "time_cond_proj_dim", 8, "needs time_cond_proj_dim = 8"),
    ],
)
def test_refuses_parts_that_do_not_fit(intact: Path, part: str, option: str, value: int, message: str) -> None:
    parts = load_components(intact)
    parts[part].register_to_config(**{option: value})
    with pytest.raises(PahiError, match=message):
        check_fit(intact, parts)


def test_reads_shards_in_order(tmp_path: Path) -> None:
    names = {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert [path.name for path in weight_files(tmp_path)] == sorted(names.values())


def test_a_missing_folder_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="no model at"):
        load_generator(tmp_path / "nothing")


def test_a_hub_id_is_downloaded(intact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: asked.append(name) or str(intact))
    assert isinstance(load_generator("someone/some-model"), Generator)
    assert asked == ["someone/some-model"]


def test_an_unreachable_hub_is_an_error_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(name: str, **_: Any) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(PahiError, match="no folder someone/some-model here"):
        load_generator("someone/some-model")
