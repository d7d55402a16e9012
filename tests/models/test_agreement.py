"""Settings of other people's models: obeyed as diffusers obeys them, or refused. Both load the folder themselves."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig

from pahi_rt.errors import PahiError
from pahi_rt.export.reference import deterministic
from pahi_rt.models.families import GUIDANCE_SCALE
from pahi_rt.models.foreign import quiet_libraries
from pahi_rt.models.generators import load_generator
from pahi_rt.models.random_models import Size, save_random_pipeline

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers has much to say about odd settings

PROMPTS = ["a grinning cat", "Wow! A CAT's naïve 12 by <|endoftext|> x", "long word " * 40]
NEAR = 2e-3
STATISTICS = {"latents_mean": [0.3, -0.2, 0.1, 0.5], "latents_std": [0.5, 2.0, 1.5, 0.8]}
CONTINUOUS = {"timestep_type": "continuous", "prediction_type": "v_prediction"}
EDM = {"use_karras_sigmas": True, "sigma_max": 700.0, "sigma_min": 0.002, "timestep_spacing": "leading"}
SIZES: tuple[Size, ...] = ("tiny", "tiny-lcm", "tiny-sdxl")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {size: save_random_pipeline(tmp_path_factory.mktemp(size) / size, size) for size in SIZES}


@pytest.fixture
def models(originals: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies that a test may change."""
    return {size: Path(shutil.copytree(folder, tmp_path / size)) for size, folder in originals.items()}


def settings_file(folder: Path, part: str) -> Path:
    names = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    return folder / part / names.get(part.removesuffix("_2"), "config.json")


def change(folder: Path, part: str, **values: Any) -> None:
    path = settings_file(folder, part)
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def prompts_for(folder: Path) -> list[str]:
    # SDXL's "!" differs on purpose.
    return [prompt.replace("!", "") for prompt in PROMPTS] if (folder / "tokenizer_2").is_dir() else PROMPTS


def draw_noise() -> torch.Tensor:
    return torch.randn(len(PROMPTS), 4, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def draw_ours(folder: Path, steps: int) -> torch.Tensor:
    generator = load_generator(folder)
    return generator(generator.tokenize(prompts_for(folder)), draw_noise(), steps)


def draw_theirs(folder: Path, steps: int) -> torch.Tensor:
    with quiet_libraries():
        pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False)
        pipeline.set_progress_bar_config(disable=True)
        noise, guidance = draw_noise(), GUIDANCE_SCALE if pipeline.unet.config.time_cond_proj_dim else 0.0
        pipeline.scheduler = deterministic(pipeline.scheduler, steps, noise)
        options = {"output_type": "pt", "guidance_scale": guidance}
        return pipeline(prompts_for(folder), num_inference_steps=steps, latents=noise.clone(), **options).images


def distance(folder: Path, steps: int) -> float:
    return float((draw_ours(folder, steps) - draw_theirs(folder, steps)).abs().max())


SD, LCM, SDXL = SIZES
OBEYED = [
    (SD, "text_encoder", {"use_attention_mask": True}),
    (LCM, "text_encoder", {"use_attention_mask": True}),
    (SDXL, "text_encoder", {"use_attention_mask": True}),
    (SD, "text_encoder", {"dtype": "bfloat16"}),
    (SD, "text_encoder", {"return_dict": False}),
    (SD, "tokenizer", {"model_max_length": 16}),
    (LCM, "tokenizer", {"model_max_length": 16}),
    (SD, "vae", {"shift_factor": 0.25}),
    (LCM, "vae", {"shift_factor": 0.25}),
    (SDXL, "vae", {"shift_factor": 0.25}),
    (SD, "vae", STATISTICS),
    (LCM, "vae", STATISTICS),
    (SDXL, "vae", STATISTICS),
    (SD, "scheduler", CONTINUOUS),
    (SD, "scheduler", CONTINUOUS | EDM),
    (SDXL, "scheduler", CONTINUOUS),
    (SDXL, "scheduler", {"interpolation_type": "log_linear"}),
    (LCM, "scheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    (SD, "scheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
]


@pytest.mark.parametrize(("size", "part", "values"), OBEYED)
def test_what_diffusers_obeys_is_obeyed(size: Size, part: str, values: dict[str, Any], models: dict[str, Path]) -> None:
    change(models[size], part, **values)
    assert distance(models[size], 2) < NEAR


def test_both_tokenizers_of_sdxl_may_cut_prompts_shorter(models: dict[str, Path]) -> None:
    for part in ("tokenizer", "tokenizer_2"):
        change(models[SDXL], part, model_max_length=16)
    assert load_generator(models[SDXL]).max_length == 16
    assert distance(models[SDXL], 1) < NEAR


REFUSED = [
    (SD, "tokenizer", {"padding_side": "left"}, "padding_side = 'left'"),
    (SD, "tokenizer", {"truncation_side": "left"}, "truncation_side = 'left'"),
    (SD, "tokenizer", {"split_special_tokens": True}, "split_special_tokens = True"),
    (SD, "tokenizer", {"model_max_length": 2}, "cuts prompts to 2 tokens"),
    (SD, "tokenizer", {"model_max_length": "16"}, "cannot read the tokenizer"),
    (SDXL, "tokenizer", {"model_max_length": 16}, "prompts of 16 and 24 tokens"),
    (SDXL, "tokenizer", {"bos_token": "b"}, "different tokens at a prompt's start"),
    (SD, "unet", {"_diffusers_version": "0.8.0"}, "is of diffusers 0.8.0 and has sample_size 8"),
    (LCM, "scheduler", {"rescale_betas_zero_snr": True}, "without any signal"),
    (SD, "scheduler", {"beta_end": 0.9}, "not finite"),
    (SD, "scheduler", CONTINUOUS | EDM | {"sigma_max": 3.0}, "starts at noise level 3, not at pure noise"),
]


@pytest.mark.parametrize(("size", "part", "values", "message"), REFUSED)
def test_what_cannot_be_obeyed_is_refused(
    size: Size, part: str, values: dict[str, Any], message: str, models: dict[str, Path]
) -> None:
    change(models[size], part, **values)
    with pytest.raises(PahiError, match=message) as caught:
        draw_ours(models[size], 1)
    assert caught.value.fix


def test_tokens_of_several_vectors_are_refused(models: dict[str, Path]) -> None:
    """diffusers reads "<x>" as "<x> <x>_1"."""
    path = models[SD] / "tokenizer" / "tokenizer_config.json"
    added = {"7": "<x>", "8": "<x>_1"}
    tokens = {number: {"content": text, "special": False} for number, text in added.items()}
    vocabulary = models[SD] / "tokenizer" / "tokenizer.json"
    known = json.loads(vocabulary.read_text())
    words = known["model"]["vocab"]
    for number, text in added.items():
        words.pop(next(word for word, index in words.items() if index == int(number)))
        words[text] = int(number)
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        known["added_tokens"].append({"id": int(number), "content": text, **flags})
    vocabulary.write_text(json.dumps(known))
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_tokens_decoder": tokens}))
    with pytest.raises(PahiError, match="a token of several vectors, <x>"):
        load_generator(models[SD])


# What follows takes every setting of every part, and other values for each.

OTHERS: dict[str, list[Any]] = {
    "hidden_act": ["quick_gelu", "relu"],
    "act_fn": ["gelu", "mish"],
    "beta_schedule": ["linear", "squaredcos_cap_v2"],
    "final_sigmas_type": ["sigma_min"],
    "interpolation_type": ["log_linear"],
    "timestep_spacing": ["linspace", "leading"],
    "timestep_type": ["continuous"],
    "prediction_type": ["v_prediction", "sample"],
    "sigma_max": [700.0, 5.0],
    "sigma_min": [0.1],
    "steps_offset": [0, 2],
    "trained_betas": [[1e-5 * index for index in range(1, 1001)], [1e-4] * 999 + [1.0]],
    "num_train_timesteps": [500, 2000],
    "dtype": ["float16", "bfloat16"],
    "eos_token_id": [599, 7],
    "pad_token_id": [0, 598],
    "upsample_fn": ["bilinear"],
    "mid_block_type": ["UNetMidBlock2D", None],
    "time_embedding_act_fn": ["silu"],
    "timestep_post_act": ["silu"],
    "latents_mean": [STATISTICS["latents_mean"]],
    "latents_std": [STATISTICS["latents_std"]],
    "shift_factor": [0.25],
    "scaling_factor": [0.5],
    "original_inference_steps": [10, 1],
    "timestep_scaling": [1.0, 0.0],
    "num_attention_heads": [2],
    "model_max_length": [3, 16, 77, 10**30],
    "padding_side": ["left"],
    "truncation_side": ["left"],
    "pad_token": ["<|endoftext|>", "a</w>"],
    "bos_token": ["b"],
    "eos_token": ["<|startoftext|>"],
    "unk_token": ["!"],
    "do_lower_case": [False],
    "add_prefix_space": [True],
    "split_special_tokens": [True],
    "errors": ["ignore"],
    "extra_special_tokens": [["grin"]],
    "use_attention_mask": [True],
    "return_dict": [False],
    "output_hidden_states": [True],
    "_diffusers_version": ["0.8.0"],
    "use_karras_sigmas": [True],
}
CLASSES: dict[tuple[Size, str], Any] = {
    (SD, "scheduler"): EulerDiscreteScheduler,
    (LCM, "scheduler"): LCMScheduler,
    (SDXL, "scheduler"): EulerAncestralDiscreteScheduler,
    (SD, "vae"): AutoencoderTiny,
    (LCM, "vae"): AutoencoderKL,
    (SDXL, "vae"): AutoencoderKL,
    (SD, "unet"): UNet2DConditionModel,
    (LCM, "unet"): UNet2DConditionModel,
    (SDXL, "unet"): UNet2DConditionModel,
}
TOKENIZER = (
    "model_max_length padding_side truncation_side pad_token bos_token eos_token unk_token do_lower_case"
    " add_prefix_space split_special_tokens errors extra_special_tokens"
)
EULERS = "use_karras_sigmas interpolation_type final_sigmas_type timestep_type sigma_max"
PARTS = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "scheduler", "vae", "unet")
DRAWN_HERE_ALONE = ("model_max_length", "prediction_type", "return_dict")
"""Where diffusers fails and the generator does not: see `OBSTACLES`; of return_dict, SDXL's pipeline wants True."""


def settings_of(folder: Path, size: Size, part: str) -> dict[str, Any]:
    """Every setting that the part may have, and its value in `folder`, or else by default."""
    if part.startswith("tokenizer"):
        return dict.fromkeys(TOKENIZER.split())
    own = json.loads(settings_file(folder, part).read_text())
    if part.startswith("text_encoder"):
        return CLIPTextConfig().to_dict() | own | dict.fromkeys(("use_attention_mask", "return_dict"))
    parameters = inspect.signature(CLASSES[size, part]).parameters.values()
    known = {parameter.name: parameter.default for parameter in parameters}
    return known | (dict.fromkeys(EULERS.split()) if part == "scheduler" else {}) | own


def others(name: str, value: Any) -> list[Any]:
    if name in OTHERS:
        return [other for other in OTHERS[name] if other != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value // 2]
    return [value * 3 + 0.3] if isinstance(value, float) else []


def mutations(folder: Path, size: Size, part: str) -> Iterator[dict[str, Any]]:
    for name, value in settings_of(folder, size, part).items():
        for other in others(name, value):
            yield {name: other}


def attempt(draw: Any, folder: Path) -> torch.Tensor | Exception:
    try:
        return draw(folder, 2)
    except Exception as error:
        return error


def judge(folder: Path, values: dict[str, Any]) -> str | None:
    """What is wrong: a picture that differs, or a traceback, where diffusers draws; or none there, and one here."""
    ours, theirs = attempt(draw_ours, folder), attempt(draw_theirs, folder)
    if isinstance(ours, Exception):
        is_fine = isinstance(ours, PahiError) or isinstance(theirs, Exception)
        return None if is_fine else f"diffusers draws, this does not: {ours!r}"
    if isinstance(theirs, Exception):
        return None if set(values) <= set(DRAWN_HERE_ALONE) else f"diffusers does not draw, this does: {theirs!r}"
    error = (ours - theirs).abs().max()
    both_are_nan = ours.isnan().all() and theirs.isnan().all()  # which the gate refuses
    return None if error < NEAR or both_are_nan else f"differs by {error:.2g}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "scheduler", "vae", "unet"]
)
@pytest.mark.parametrize("size", SIZES)
def test_no_setting_is_read_in_another_way(size: Size, part: str, models: dict[str, Path]) -> None:
    folder = models[size]
    if not (folder / part).is_dir():
        pytest.skip("the layout has no such part")
    path = settings_file(folder, part)
    original, faults = path.read_text(), {}
    for values in mutations(folder, size, part):
        change(folder, part, **values)
        fault = judge(folder, values)
        path.write_text(original)
        if fault is not None:
            faults[str(values)[:60]] = fault
    assert faults == {}
