"""What is refused in other people's models: weights that nothing reads, and files that make the libraries raise."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from pahi_rt.errors import ModelError
from pahi_rt.models.components import load_components, load_decoder
from pahi_rt.models.generators import load_generator
from pahi_rt.models.random_models import TINY_CLIP, save_random_pipeline
from pahi_rt.models.weights import weight_files

Weights = dict[str, torch.Tensor]
Damage = Callable[[Path], object]


@pytest.fixture(scope="module", params=["tiny", "tiny-lcm", "tiny-sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("intact"))


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy of a model that a test may damage."""
    return Path(shutil.copytree(intact, tmp_path / "model"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(part: Path, change: Callable[[Weights], Weights]) -> None:
    (file,) = weight_files(part)
    save_file(change(load_file(file)), file, {"format": "pt"})


def add(part: str, **more: torch.Tensor) -> Damage:
    """Weights that the model does not read; a double underscore is a dot."""
    named = {name.replace("__", "."): value for name, value in more.items()}
    return lambda folder: edit_weights(folder / part, lambda weights: {**weights, **named})


def configure(part: str, **changes: Any) -> Damage:
    return lambda folder: edit_json(folder / part / "config.json", **changes)


def shard(folder: Path) -> Path:
    """Save the UNet in several files; their index."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="500KB")
    return folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"


def refused(folder: Path) -> ModelError:
    """What loading a model says, which is short and has a fix."""
    with pytest.raises(ModelError) as caught:
        load_generator(folder)
    error = caught.value
    assert "\n" not in error.what + error.fix and len(error.what) < 600
    return error


OLD = "down_blocks__0__attentions__0__transformer_blocks__0__attn2__processor__to_q_lora__"
TEXT = "text_model__encoder__layers__"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (add("unet", more__weight=torch.ones(1)), "1 weights that a UNet2DConditionModel .* more.weight"),
        (add("vae", decoder__more=torch.ones(1)), "AutoencoderTiny of its settings does not read: decoder.more"),
        (
            add("text_encoder", **{f"{TEXT}2__self_attn__q_proj__weight": torch.ones(32, 32)}),
            "encoder.layers.2.self_attn.q_proj.weight",
        ),
    ],
)
def test_weights_that_nothing_reads_are_named(folder: Path, damage: Damage, named: str) -> None:
    damage(folder)
    assert re.search(named, refused(folder).what)


def test_many_are_named_by_the_first_and_their_number(folder: Path) -> None:
    edit_weights(folder / "unet", lambda weights: {**weights, **{f"more.{n}": torch.ones(1) for n in range(9)}})
    assert refused(folder).what.endswith(
        "9 weights that a UNet2DConditionModel of its settings does not read: more.0, more.1, more.2 and 6 more"
    )


def wrap_as_peft_does(folder: Path) -> None:
    def wrap(weights: Weights) -> Weights:
        name = next(name for name in weights if name.endswith("attn2.to_q.weight")).removesuffix("weight")
        adapter = {"lora_A.default_0": torch.ones(4, 32), "lora_B.default_0": torch.ones(32, 4)}
        adapter["base_layer"] = weights.pop(f"{name}weight")
        return {**weights, **{f"{name}{part}.weight": value for part, value in adapter.items()}}

    edit_weights(folder / "unet", wrap)


@pytest.mark.parametrize(
    "damage",
    [
        add("unet", **{f"{OLD}down__weight": torch.ones(4, 32), f"{OLD}up__weight": torch.ones(32, 4)}),
        add("text_encoder", **{f"{TEXT}0__self_attn__q_proj__lora_linear_layer__up__weight": torch.ones(32, 4)}),
        add("text_encoder", **{f"{TEXT}0__self_attn__to_k_lora__down__weight": torch.ones(4, 32)}),
        wrap_as_peft_does,
        lambda folder: (folder / "unet" / "adapter_config.json").write_text("{}"),
        lambda folder: (folder / "unet" / "pytorch_lora_weights.safetensors").write_text(""),
    ],
    ids=["old", "old text", "older text", "peft", "peft beside", "diffusers beside"],
)
def test_the_fix_of_an_unfused_adapter_says_how_to_fuse_it(folder: Path, damage: Damage) -> None:
    damage(folder)
    error = refused(folder)
    assert "holds an adapter" in error.what
    assert "fuse_lora()" in error.fix and "save_pretrained" in error.fix


def test_what_published_files_hold_besides_is_harmless(folder: Path) -> None:
    """Positions of older releases, and the rest of a CLIP whose text encoder alone is used."""
    sizes = {**TINY_CLIP, "eos_token_id": 2}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    whole = CLIPModel(CLIPConfig(text_config=sizes, vision_config={**vision, "image_size": 32, "patch_size": 8}))
    rest = {n: v for n, v in whole.state_dict().items() if not n.startswith("text_model.")}
    assert {name.split(".")[0] for name in rest} == {
        "logit_scale", "text_projection", "vision_model", "visual_projection"}  # fmt: skip
    positions = {"text_model.embeddings.position_ids": torch.arange(24)[None]}
    before = load_components(folder)["text_encoder"].state_dict()
    edit_weights(folder / "text_encoder", lambda weights: {**weights, **rest, **positions})
    after = load_components(folder)["text_encoder"].state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_old_names_of_attention_are_known(tmp_path: Path) -> None:
    """As published before diffusers 0.12: query, key, value and proj_attn."""
    save_random_pipeline(tmp_path / "lcm", "tiny-lcm")
    shutil.move(tmp_path / "lcm" / "vae", tmp_path / "vae")
    expected = load_decoder(tmp_path / "vae").state_dict()
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def rename(name: str) -> str:
        return next((name.replace(new, old) for new, old in names.items() if new in name), name)

    edit_weights(tmp_path / "vae", lambda weights: {rename(name): value for name, value in weights.items()})
    assert any(".proj_attn." in name for name in load_file(weight_files(tmp_path / "vae")[0]))
    found = load_decoder(tmp_path / "vae").state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    for value in (torch.nan, torch.inf):

        def poison(weights: Weights, value: float = value) -> Weights:
            return {**weights, max(weights): torch.full_like(weights[max(weights)], value)}

        edit_weights(folder / "vae", poison)
        assert "holds NaN or infinity" in refused(folder).what


MISREAD: dict[str, tuple[Damage, str]] = {
    "bitsandbytes": (
        configure("text_encoder", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        r"quantised \(bitsandbytes\)",
    ),
    "gguf": (configure("unet", quantization_config={"quant_method": "gguf"}), r"quantised \(gguf\)"),
    "torchao": (configure("unet", quantization_config={"quant_method": "torchao"}), r"quantised \(torchao\)"),
    "nonsense about quantisation": (configure("vae", quantization_config="q4"), r"quantised \(q4\)"),
    "an unknown activation": (configure("text_encoder", hidden_act="new_gelu"), "'new_gelu' is missing or not known"),
    "an unknown activation of the UNet": (configure("unet", act_fn="swishy"), "swishy"),
    "a number as text": (configure("text_encoder", hidden_size="wide"), "hidden_size"),
    "an unknown block": (configure("unet", down_block_types=["A", "B"]), "unet: "),
    "sample_size as text": (configure("unet", sample_size="8"), "its sample_size is '8'"),
    "no sample_size": (configure("unet", sample_size=None), "its sample_size is None"),
    "a scale as text": (configure("vae", scaling_factor="1"), "scaling_factor = '1'"),
    "means of another number": (configure("vae", latents_mean=[1.0]), r"latents_mean = \[1.0\]"),
    "other widths": (
        configure("unet", block_out_channels=[32, 96]),
        r"is \[\d+.*\] where a UNet2DConditionModel has \[\d+.*\], and \d+ more",
    ),
    "an encoder of another width": (
        configure("text_encoder", hidden_size=64),
        r"embeddings.position_embedding.weight is \[24, 32\] where a CLIPTextModel has \[24, 64\], and 33 more",
    ),
    "a list as config.json": (lambda f: (f / "unet" / "config.json").write_text("[]"), "config.json: it is not a JSON"),
    "no config.json": (lambda f: (f / "vae" / "config.json").unlink(), "config.json: No such file"),
    "a cut index": (lambda f: shard(f).write_text('{"weight_map": '), "index.json: it is not JSON"),
    "an index of nothing": (lambda f: shard(f).write_text("{}"), "its weight_map does not name a file for each weight"),
    "an index that leaves": (
        lambda f: shard(f).write_text('{"weight_map": {"a": "../a.safetensors"}}'),
        "its weight_map does not name a file for each weight",
    ),
    "a missing shard": (lambda f: next(shard(f).parent.glob("*-00002-*")).unlink(), "which is not there"),
    "a scheduler of text": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", beta_start="low"),
        "cannot read the scheduler in",
    ),
}


@pytest.mark.parametrize("damage", MISREAD)
def test_one_line_says_what_is_wrong_with_which_file(folder: Path, damage: str) -> None:
    apply, message = MISREAD[damage]
    apply(folder)
    error = refused(folder)
    assert re.search(message, error.what), error.what
    assert str(folder) in error.what
    assert "report" not in error.what


def test_an_index_must_say_what_its_files_hold(folder: Path) -> None:
    """diffusers fills what an index lists in vain with random numbers, and drops what it does not list."""
    index = shard(folder)
    assert load_generator(folder)
    content = json.loads(index.read_text())
    some_file = next(iter(content["weight_map"].values()))
    index.write_text(json.dumps({**content, "weight_map": {**content["weight_map"], "more.weight": some_file}}))
    assert "differ in what the file holds: more.weight" in refused(folder).what
    del content["weight_map"]["conv_in.weight"]
    index.write_text(json.dumps(content))
    assert "differ in what the file holds: conv_in.weight" in refused(folder).what


def test_another_autoencoder_in_the_folder_is_recognised(family: Path, intact: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family, tmp_path / "model"))
    own = json.loads((folder / "vae" / "config.json").read_text())["_class_name"]
    shutil.rmtree(folder / "vae")
    if own == "AutoencoderTiny":
        sizes = {"block_out_channels": [8], "norm_num_groups": 4}
        AutoencoderKL(**sizes).save_pretrained(folder / "vae")
    else:
        shutil.copytree(intact / "vae", folder / "vae")
    other = ({"AutoencoderTiny", "AutoencoderKL"} - {own}).pop()
    error = refused(folder)
    assert f"is an {other}, but model_index.json calls it {own}" in error.what
    assert f'"vae": ["diffusers", "{other}"]' in error.fix
    edit_json(folder / "model_index.json", vae=["diffusers", other])
    assert type(load_generator(folder).decoder).__name__ == other


def test_a_scheduler_that_is_not_listed_says_itself_what_it_is(tmp_path: Path) -> None:
    """As in published models of the LCM kind."""
    folder = save_random_pipeline(tmp_path / "lcm", "tiny-lcm")
    edit_json(folder / "model_index.json", scheduler=[None, None])
    assert type(load_components(folder)["scheduler"]).__name__ == "LCMScheduler"
    settings = folder / "scheduler" / "scheduler_config.json"
    settings.write_text(json.dumps({k: v for k, v in json.loads(settings.read_text()).items() if k != "_class_name"}))
    error = refused(folder)
    assert "nothing says of which class the folder scheduler is" in error.what
    assert '"scheduler": ["diffusers", "EulerDiscreteScheduler"]' in error.fix


def rename_weights(folder: Path, parts: tuple[str, ...], variant: str) -> None:
    for part in parts:
        (file,) = weight_files(folder / part)
        file.rename(file.with_suffix(f".{variant}.safetensors"))


PARTS = ("text_encoder", "unet", "vae")


def test_the_only_variant_is_read_with_a_note(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rename_weights(folder, PARTS, "fp16")
    assert load_generator(folder)
    assert caplog.messages == [f"{folder} has no full weights: those of the variant fp16 are read"]
    caplog.clear()
    assert load_generator(folder, variant="fp16")
    assert not caplog.messages
    with pytest.raises(ModelError, match="has no bf16 weights"):
        load_generator(folder, variant="bf16")


def test_a_variant_is_chosen_where_there_are_more(folder: Path) -> None:
    full = load_components(folder)["unet"].state_dict()
    shutil.copy(weight_files(folder / "unet")[0], folder / "unet" / "diffusion_pytorch_model.bf16.safetensors")
    edit_weights(folder / "unet", lambda weights: {name: value * 0 for name, value in weights.items()})
    parts = load_components(folder, "bf16")  # the other parts have full weights alone
    assert all(torch.equal(parts["unet"].state_dict()[name], value) for name, value in full.items())
    assert not any(value.any() for value in load_components(folder)["unet"].state_dict().values())
    rename_weights(folder, ("unet",), "fp16")
    error = refused(folder)
    assert "no full weights, but bf16 and fp16" in error.what and "--variant" in error.fix


def test_shards_of_a_variant_are_read(folder: Path) -> None:
    unet = load_components(folder)["unet"]
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="500KB", variant="fp16")
    found = load_components(folder)["unet"].state_dict()
    assert len(weight_files(folder / "unet")) > 1
    assert all(torch.equal(found[name], value) for name, value in unet.state_dict().items())
