"""The generator against diffusers' own pipelines, and what it refuses to load."""

from __future__ import annotations

import functools
import gc
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedModel

from pahi_rt.errors import PahiError, PromptError
from pahi_rt.models.components import (
    PREDICTION_TYPES,
    check_fit,
    load_components,
)
from pahi_rt.models.conditioning import embed_guidance, encode_prompt, pad_again
from pahi_rt.models.families import GUIDANCE_SCALE
from pahi_rt.models.foreign import quiet_schedulers
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.random_models import END, TINY_CLIP, Size, random_tokenizer, save_random_pipeline
from pahi_rt.models.weights import weight_files

Load = Callable[[Path], Any]
PROMPTS = ["a red cat", "the house by the sea at night"]
# diffusers hands tensors to np.array, which numpy 2 deprecates.
numpy_2 = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", params=PREDICTION_TYPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp(request.param), prediction_type=request.param)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("intact"))


@pytest.fixture(scope="module")
def lcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("lcm"), "tiny-lcm")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("sdxl"), "tiny-sdxl")


@pytest.fixture(scope="module")
def loaded() -> Load:
    """Loads each model once, for tests that leave it as it is."""
    return functools.cache(load_generator)


@pytest.fixture(scope="module")
def parts_of() -> Load:
    return functools.cache(load_components)


@pytest.fixture
def damaged(intact: Path, tmp_path: Path) -> Path:
    """A copy of a model that a test may damage."""
    return Path(shutil.copytree(intact, tmp_path / "model"))


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """LCMScheduler injects the noise that the latents started from, instead of fresh noise."""
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, **__: draw_noise())


def draw_noise(seed: int = 0, size: int = 8) -> torch.Tensor:
    return torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(seed))


def load_pipeline(model: Path) -> Any:
    diffusers_logging.set_verbosity_error()
    # Each pipeline by its own class, as model_index.json names it.
    pipeline = DiffusionPipeline.from_pretrained(model, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_with_diffusers(pipeline: Any, noise: torch.Tensor, steps: int, guidance: float = 0.0) -> torch.Tensor:
    options = {"num_inference_steps": steps, "latents": noise.clone(), "output_type": "pt"}
    return pipeline(PROMPTS, guidance_scale=guidance, **options).images


def draw(generator: Generator, noise: torch.Tensor, steps: int = 1) -> torch.Tensor:
    return generator(generator.tokenize(PROMPTS), noise, steps)


def assert_equal_pictures(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ours.std() > 0.02  # or the comparison would see nothing
    assert (ours[0] - ours[1]).abs().mean() > 0.02
    assert (ours - theirs).abs().max() < 1e-4


@numpy_2
@pytest.mark.parametrize("steps", [1, 2])
def test_equals_the_stable_diffusion_pipeline(model: Path, steps: int, loaded: Load) -> None:
    ours = draw(loaded(model), draw_noise(), steps)
    assert ours.shape == (2, 3, 64, 64)
    assert_equal_pictures(ours, draw_with_diffusers(load_pipeline(model), draw_noise(), steps))


@numpy_2
@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("steps", [1, 2])
def test_equals_the_latent_consistency_pipeline(lcm: Path, steps: int, loaded: Load) -> None:
    pipeline = load_pipeline(lcm)
    assert type(pipeline).__name__ == "LatentConsistencyModelPipeline"
    theirs = draw_with_diffusers(pipeline, draw_noise(), steps, guidance=GUIDANCE_SCALE)
    assert_equal_pictures(draw(loaded(lcm), draw_noise(), steps), theirs)
    others = draw_with_diffusers(pipeline, draw_noise(), steps, guidance=2.0)
    assert (others - theirs).abs().max() > 1e-2


@numpy_2
@pytest.mark.parametrize("steps", [1, 2])
def test_equals_the_stable_diffusion_xl_pipeline(sdxl: Path, steps: int, loaded: Load) -> None:
    pipeline = load_pipeline(sdxl)
    assert type(pipeline).__name__ == "StableDiffusionXLPipeline"
    if steps > 1:  # SDXL-Turbo's own scheduler adds fresh noise between steps, ours is Euler's without it
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    theirs = draw_with_diffusers(pipeline, draw_noise(), steps)
    assert_equal_pictures(draw(loaded(sdxl), draw_noise(), steps), theirs)


@numpy_2
def test_statistics_of_the_latents_are_undone_as_diffusers_does(sdxl: Path, tmp_path: Path, loaded: Load) -> None:
    folder = Path(shutil.copytree(sdxl, tmp_path / "model"))
    statistics = {"latents_mean": [0.3, -0.2, 0.1, 0.5], "latents_std": [0.5, 2.0, 1.5, 0.8]}
    edit_json(folder / "vae" / "config.json", **statistics)
    theirs = draw_with_diffusers(load_pipeline(folder), draw_noise(), 1)
    assert_equal_pictures(draw(load_generator(folder), draw_noise()), theirs)
    assert (theirs - draw(loaded(sdxl), draw_noise())).abs().mean() > 1e-2


FAMILY = pytest.mark.parametrize("family", ["intact", "lcm", "sdxl"])


@FAMILY
def test_noise_and_prompt_decide_the_picture(family: str, request: pytest.FixtureRequest, loaded: Load) -> None:
    generator = loaded(request.getfixturevalue(family))
    input_ids = generator.tokenize(PROMPTS)
    picture = generator(input_ids, draw_noise(0), 2)
    assert (generator(input_ids, draw_noise(1), 2) - picture).abs().mean() > 0.02
    assert (generator(input_ids.flip(0), draw_noise(0), 2) - picture).abs().mean() > 0.01
    assert torch.equal(generator(input_ids, draw_noise(0), 2), picture)
    assert torch.equal(generator.draw(generator.encode_prompt(input_ids), draw_noise(0), 2), picture)


@FAMILY
@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_reach_the_noise_and_no_weight(
    family: str, steps: int, request: pytest.FixtureRequest, loaded: Load
) -> None:
    generator = loaded(request.getfixturevalue(family))
    noise = draw_noise().requires_grad_()
    draw(generator, noise, steps).square().mean().backward()
    assert noise.grad is not None
    assert noise.grad.isfinite().all()
    assert (noise.grad != 0).float().mean() > 0.9
    assert all(p.grad is None and not p.requires_grad for p in generator.parameters())
    assert not generator.training


def test_the_gradient_is_that_of_the_picture(lcm: Path) -> None:
    """Through both steps of an LCM, whose second step reads the noise again: compared with finite differences."""
    generator = load_generator(lcm).double()
    conditioning = generator.encode_prompt(generator.tokenize(PROMPTS))
    noise, direction = draw_noise(0).double().requires_grad_(), draw_noise(1).double()

    def brightness(noise: torch.Tensor) -> torch.Tensor:
        return generator.draw(conditioning, noise, 2).square().sum()

    (gradient,) = torch.autograd.grad(brightness(noise), noise)
    with torch.no_grad():
        difference = (brightness(noise + 1e-6 * direction) - brightness(noise - 1e-6 * direction)) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-3)


def test_shapes_of_a_plain_model(intact: Path, loaded: Load) -> None:
    generator = loaded(intact)
    conditioning = generator.encode_prompt(generator.tokenize(PROMPTS))
    assert (generator.latent_shape, generator.image_size) == ((4, 8, 8), (64, 64))
    assert (generator.max_length, generator.pooled_width) == (24, 32)
    assert (conditioning.embeddings.shape, conditioning.pooled.shape) == ((2, 24, 32), (2, 32))
    assert conditioning.added == {}


def test_shapes_of_sdxl(sdxl: Path, loaded: Load) -> None:
    generator = loaded(sdxl)
    conditioning = generator.encode_prompt(generator.tokenize(PROMPTS))
    assert (generator.image_size, generator.pooled_width) == ((64, 64), 24)
    assert (conditioning.embeddings.shape, conditioning.pooled.shape) == ((2, 24, 72), (2, 24))
    assert conditioning.added["text_embeds"] is conditioning.pooled
    assert conditioning.added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


def test_tokens_are_those_of_the_pipeline(intact: Path, loaded: Load) -> None:
    generator, tokenizer = loaded(intact), CLIPTokenizer.from_pretrained(intact / "tokenizer")
    prompts = [*PROMPTS, "a very long prompt " * 20]
    ids = generator.tokenize(prompts)
    assert (ids.dtype, ids.shape) == (torch.int64, (3, 24))
    assert ids.tolist() == tokenizer(prompts, padding="max_length", max_length=24, truncation=True).input_ids
    for wrong in ("a red cat", [], [""], ["  "]):
        with pytest.raises(PromptError):
            generator.tokenize(wrong)


VARIED = [
    "a cat",
    "A photo of 3 CATS, 4k; trending on artstation",
    "it's 12 o'clock? (yes) -- no...",
    "naïve café, 猫 🐱 Ünïcode",
    "  spaces \n and\ttabs ",
    "a",
    "12345 67890",
    "<|startoftext|> written out",
    "the end <|endoftext|> is near",
    "x" * 70,
    " ".join(["word"] * 300),
]
SHOUTED = ["wow!", "!", "a !! b", "hello!!! world?! (really!)", "stop!" * 40]


@pytest.fixture(scope="module")
def tokenizers() -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """Laid out as SDXL's: the same vocabulary of 49408, padded with the end token, and with id 0."""
    return random_tokenizer(49408, 77, END), random_tokenizer(49408, 77)


def ids_of(tokenizer: CLIPTokenizer, prompts: Sequence[str], **options: bool) -> torch.Tensor:
    settings = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
    return tokenizer(list(prompts), **settings, **options).input_ids


def test_the_second_tokenizers_ids_follow_from_the_firsts(tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]) -> None:
    first, second = tokenizers
    assert (first.pad_token_id, second.pad_token_id) == (49407, 0)
    derived = pad_again(ids_of(first, VARIED), 49407, 49407, 0)
    assert torch.equal(derived, ids_of(second, VARIED))
    assert torch.equal(pad_again(ids_of(second, VARIED), 49407, 0, 49407), ids_of(first, VARIED))
    assert torch.equal(pad_again(ids_of(first, VARIED), 49407, 49407, 49407), ids_of(first, VARIED))


def test_an_exclamation_mark_is_no_padding(tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]) -> None:
    """As OpenCLIP reads it; the second tokenizer of diffusers takes every "!" for its pad token, unless it is told."""
    first, second = tokenizers
    derived = pad_again(ids_of(first, SHOUTED), 49407, 49407, 0)
    assert torch.equal(derived, ids_of(second, SHOUTED, split_special_tokens=True))
    assert not torch.equal(derived, ids_of(second, SHOUTED))


@pytest.mark.parametrize("pad", [0, 49407])
@pytest.mark.parametrize("eos_token_id", [2, 49407])
def test_pooled_is_the_state_at_the_end_of_the_prompt(eos_token_id: int, pad: int) -> None:
    """With CLIP's true ids, by the legacy path of a wrong eos_token_id (2) as by the true one; 2 may be a token."""
    torch.manual_seed(0)
    config = TINY_CLIP | {"vocab_size": 49408, "hidden_size": 8, "intermediate_size": 16}
    encoder = CLIPTextModel(CLIPTextConfig(**config, bos_token_id=0, eos_token_id=eos_token_id, pad_token_id=1)).eval()
    ends = [1, 4, 23]
    input_ids = torch.full((3, 24), pad)
    for row, end in zip(input_ids, ends, strict=True):
        row[0], row[1:end], row[end] = 49406, torch.arange(2, end + 1), 49407
    conditioning = encode_prompt(encoder, input_ids)
    assert torch.equal(conditioning.pooled, conditioning.embeddings[torch.arange(3), ends])


@pytest.mark.parametrize("width", [16, 17, 256])
def test_the_guidance_embedding_is_that_of_diffusers(width: int) -> None:
    from diffusers import LatentConsistencyModelPipeline

    embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    assert torch.equal(embed_guidance(8.0, width), embed(None, torch.tensor([7.0]), width))


def test_schedule_is_that_of_sd_turbo(intact: Path, loaded: Load) -> None:
    generator = loaded(intact)
    assert generator.schedule(1).timesteps == (999,)
    assert generator.schedule(2).timesteps == (999, 499)
    assert generator.schedule(2).sigmas == pytest.approx((14.6146412, 1.6128862, 0))
    assert generator.schedule(2).noise_scale == pytest.approx(14.6146412)


@pytest.mark.parametrize("steps", [0, 5, -1])
def test_refuses_other_numbers_of_steps(intact: Path, steps: int, loaded: Load) -> None:
    with pytest.raises(PahiError) as caught:
        draw(loaded(intact), draw_noise(), steps)
    assert caught.value.fix == "ask for 1 to 4 steps"


@FAMILY
def test_loading_is_silent(family: str, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> None:
    folder = request.getfixturevalue(family)
    capfd.readouterr()
    load_generator(folder)
    assert capfd.readouterr() == ("", "")


@numpy_2
@pytest.mark.slow
@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize(("size", "pixels", "guidance"), [("sd-turbo", 64, 0), ("lcm", 96, 8.0), ("sdxl-turbo", 64, 0)])
def test_the_whole_architectures_equal_diffusers(size: Size, pixels: int, guidance: float, tmp_path: Path) -> None:
    """Needs up to 30 GB of memory and 14 GB of disk, and many minutes."""
    model, noise = save_random_pipeline(tmp_path, size), draw_noise(size=pixels)
    pipeline = load_pipeline(model)
    with quiet_schedulers():
        theirs = draw_with_diffusers(pipeline, noise, 1, guidance)
    del pipeline
    gc.collect()
    with torch.no_grad():
        assert_equal_pictures(draw(load_generator(model), noise), theirs)


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
    "a list as model_index.json": (lambda f: (f / "model_index.json").write_text("[]"), "not a JSON object"),
    "no unet folder": (lambda f: shutil.rmtree(f / "unet"), "lacks its unet"),
    "no class of the text encoder": (
        lambda f: edit_json(f / "model_index.json", text_encoder=[None, None]),
        "nothing says of which class the folder text_encoder is",
    ),
    "no weights": (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "no weights in"),
    "another pipeline": (
        lambda f: edit_json(f / "model_index.json", _class_name="StableDiffusion3Pipeline"),
        "is a StableDiffusion3Pipeline",
    ),
    "no pipeline": (lambda f: edit_json(f / "model_index.json", _class_name=["a", "b"]), "which is not supported"),
    "another scheduler": (
        lambda f: edit_json(f / "model_index.json", scheduler=["diffusers", "PNDMScheduler"]),
        "scheduler of .* is a PNDMScheduler",
    ),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "lacks its tokenizer"),
    "a broken tokenizer": (lambda f: (f / "tokenizer" / "tokenizer_config.json").write_text("{"), "the tokenizer in"),
    "another prediction type": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", prediction_type="flow"),
        "prediction_type 'flow'",
    ),
    "broken scheduler": (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{"), "not JSON"),
    "a pickle": (pickle_the_vae, "a pickle"),
    "a missing weight": (drop_a_weight, "conv_in.weight"),
    "a truncated file": (truncate_the_text_encoder, "cannot read .*text_encoder"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_with_a_fix(damaged: Path, damage: str) -> None:
    apply, message = DAMAGES[damage]
    apply(damaged)
    with pytest.raises(PahiError, match=message) as caught:
        load_generator(damaged)
    assert caught.value.fix


MISFITS: list[tuple[str, str, Any, str]] = [
    ("vae", "latent_channels", 16, "the decoder reads 16"),
    ("unet", "cross_attention_dim", 99, "embeddings of width 99"),
    ("unet", "class_embed_type", "timestep", "class_embed_type = 'timestep'"),
    ("unet", "addition_embed_type", "image", "addition_embed_type = 'image'"),
    ("unet", "sample_size", None, "how large its latents are"),
    ("text_encoder", "vocab_size", 599, "600 tokens, its text encoder knows 599"),
    ("text_encoder", "eos_token_id", 3, "looks for the end of a prompt at token 3"),
]


@pytest.mark.parametrize(("part", "option", "value", "message"), MISFITS)
def test_refuses_parts_that_do_not_fit(
    intact: Path, part: str, option: str, value: Any, message: str, parts_of: Load
) -> None:
    parts = parts_of(intact)
    with option_set(parts[part], option, value), pytest.raises(PahiError, match=message) as caught:
        check_fit(intact, parts)
    assert caught.value.fix
    check_fit(intact, parts)


SDXL_MISFITS: list[tuple[str, str, Any, str]] = [
    ("unet", "addition_embed_type", None, "instead of 'text_time'"),
    ("unet", "addition_time_embed_dim", 9, "a pooled embedding of width 18"),
    ("text_encoder_2", "hidden_size", 41, "embeddings of width 72, the text encoder writes 73"),
    ("text_encoder_2", "max_position_embeddings", 12, "prompts of 24 and 12 tokens"),
    ("text_encoder_2", "eos_token_id", 3, "text_encoder_2 looks for the end of a prompt at token 3"),
]


@pytest.mark.parametrize(("part", "option", "value", "message"), SDXL_MISFITS)
def test_refuses_parts_of_sdxl_that_do_not_fit(
    sdxl: Path, part: str, option: str, value: Any, message: str, parts_of: Load
) -> None:
    parts = parts_of(sdxl)
    with option_set(parts[part], option, value), pytest.raises(PahiError, match=message):
        check_fit(sdxl, parts)


def test_refuses_two_vocabularies(sdxl: Path, parts_of: Load) -> None:
    parts = parts_of(sdxl) | {"tokenizer_2": random_tokenizer(599, 24)}
    with pytest.raises(PahiError, match="different vocabularies"):
        check_fit(sdxl, parts)


def test_refuses_an_lcm_that_clips(lcm: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lcm, tmp_path / "model"))
    edit_json(folder / "scheduler" / "scheduler_config.json", clip_sample=True)
    with pytest.raises(PahiError) as caught:
        load_generator(folder)
    assert caught.value.fix == "set clip_sample and thresholding to false in scheduler_config.json"


@contextmanager
def option_set(part: Any, option: str, value: Any) -> Iterator[None]:
    """The part's configuration with one option changed, for a while."""
    before = getattr(part.config, option)
    change = functools.partial(setattr, part.config) if isinstance(part, PreTrainedModel) else register(part)
    change(option, value)
    yield
    change(option, before)


def register(part: Any) -> Callable[[str, Any], None]:
    return lambda option, value: part.register_to_config(**{option: value})


def test_another_decoder_takes_the_place_of_the_models_own(intact: Path, tmp_path: Path) -> None:
    other = save_random_pipeline(tmp_path / "other", seed=1)
    own, replaced, its = (load_generator(*names) for names in ((intact,), (intact, other / "vae"), (other,)))
    key = next(iter(own.decoder.state_dict()))
    assert torch.equal(replaced.decoder.state_dict()[key], its.decoder.state_dict()[key])
    assert not torch.equal(replaced.decoder.state_dict()[key], own.decoder.state_dict()[key])


def test_pictures_of_another_size(intact: Path) -> None:
    generator = load_generator(intact, size=(32, 96))
    assert (generator.latent_shape, generator.image_size) == ((4, 4, 12), (32, 96))
    noise = torch.zeros(1, *generator.latent_shape)
    assert generator(generator.tokenize(["a red cat"]), noise).shape == (1, 3, 32, 96)


@pytest.mark.parametrize("size", [(64, 60), (0, 64), (-16, 64)])
def test_sizes_that_the_unet_cannot_halve(intact: Path, size: tuple[int, int]) -> None:
    with pytest.raises(PahiError) as caught:
        load_generator(intact, size=size)
    assert "multiples of 16" in caught.value.fix


def test_a_decoder_that_is_none_is_refused(intact: Path, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="is not an autoencoder"):
        load_generator(intact, tmp_path)
    with pytest.raises(PahiError, match="UNet2DConditionModel, which is not a supported autoencoder"):
        load_generator(intact, intact / "unet")
