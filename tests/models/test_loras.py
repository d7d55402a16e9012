"""LoRAs that are fused against diffusers' own pipeline with the same LoRAs loaded beside the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from pahi_rt.errors import ModelError
from pahi_rt.models.families import GUIDANCE_SCALE
from pahi_rt.models.foreign import quiet_libraries
from pahi_rt.models.generators import load_generator
from pahi_rt.models.loras import Lora, read_lora
from pahi_rt.models.random_models import save_random_pipeline

pytest.importorskip("peft", reason="diffusers loads LoRAs with peft")
# Of the pipeline that is compared with.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Already found:UserWarning")

Weights = dict[str, torch.Tensor]
RANK, ALPHA = 4, 2.0
PROMPT = "a red cat"


@pytest.fixture(scope="module", params=["tiny", "tiny-lcm", "tiny-sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("tiny"))


def layers_of(model: Path) -> dict[str, tuple[int, ...]]:
    """Layers of the UNet and the text encoders, named as in PEFT's files, and the shapes of their weights."""
    parts = load_generator(model)
    networks = {"unet": parts.unet, "text_encoder": parts.text_encoder, "text_encoder_2": parts.text_encoder_2}
    kinds = (".to_q", ".to_v", ".to_out.0", ".q_proj", ".out_proj", ".fc1")
    return {
        f"{part}.{name}": tuple(layer.weight.shape)
        for part, network in networks.items()
        if network is not None
        for name, layer in network.named_modules()
        if name.endswith(kinds)
    }


def draw_pairs(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Layer -> down [RANK, in, ...] and up [out, RANK, ...]."""
    draw = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, (out, into, *kernel) in layers.items():
        down = torch.randn(RANK, into, *kernel, generator=draw) / into**0.5
        pairs[name] = down, torch.randn(out, RANK, *([1] * len(kernel)), generator=draw) / 4
    return pairs


def as_peft(layers: dict[str, tuple[int, ...]]) -> Weights:
    pairs = draw_pairs(layers)
    return {f"{n}.lora_{k}.weight": w for n, pair in pairs.items() for k, w in zip("AB", pair, strict=True)}


def as_diffusers(layers: dict[str, tuple[int, ...]]) -> Weights:
    """As diffusers wrote it before it used PEFT."""
    weights: Weights = {}
    for name, pair in draw_pairs(layers).items():
        before, _, last = name.removesuffix(".0").rpartition(".")
        stem = f"{before}.processor.{last}_lora" if name.startswith("unet") else f"{name}.lora_linear_layer"
        weights |= {f"{stem}.{k}.weight": w for k, w in zip(("down", "up"), pair, strict=True)}
    return weights


def as_kohya(layers: dict[str, tuple[int, ...]]) -> Weights:
    """With an alpha other than the rank."""
    weights: Weights = {}
    second = any(name.startswith("text_encoder_2") for name in layers)
    parts = {"unet": "lora_unet", "text_encoder": "lora_te1" if second else "lora_te", "text_encoder_2": "lora_te2"}
    for name, (down, up) in draw_pairs(layers).items():
        part, _, inside = name.partition(".")
        if part == "text_encoder" and not inside.startswith("text_model."):
            inside = f"text_model.{inside}"
        stem = f"{parts[part]}_{inside.replace('.', '_')}"
        weights |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(ALPHA),
        }
    return weights


LAYOUTS: dict[str, Callable[[dict[str, tuple[int, ...]]], Weights]] = {
    "peft": as_peft,
    "diffusers": as_diffusers,
    "kohya": as_kohya,
}


def draw_with_diffusers(model: Path, noise: torch.Tensor, loras: list[Lora]) -> torch.Tensor:
    """What its pipeline draws with LoRAs that are loaded and not fused, [1, 3, H, W]."""
    with quiet_libraries():
        pipeline: Any = DiffusionPipeline.from_pretrained(model, low_cpu_mem_usage=False)
        pipeline.set_progress_bar_config(disable=True)
        for number, lora in enumerate(loras):
            pipeline.load_lora_weights(str(lora.path.parent), weight_name=lora.path.name, adapter_name=str(number))
        if loras:
            pipeline.set_adapters([str(n) for n in range(len(loras))], [lora.scale for lora in loras])
        guidance = GUIDANCE_SCALE if pipeline.unet.config.time_cond_proj_dim else 0.0
        options = {"num_inference_steps": 1, "guidance_scale": guidance, "output_type": "pt"}
        return pipeline(PROMPT, latents=noise.clone(), **options).images


def draw(model: Path, noise: torch.Tensor, loras: list[Lora]) -> torch.Tensor:
    generator = load_generator(model, loras=loras)
    with torch.no_grad():
        return generator(generator.tokenize([PROMPT]), noise)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_diffusers_with_the_lora_beside_the_weights(layout: str, model: Path, tmp_path: Path) -> None:
    save_file(LAYOUTS[layout](layers_of(model)), tmp_path / "style.safetensors")
    lora = Lora(tmp_path / "style.safetensors", 0.8)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ours, theirs = draw(model, noise, [lora]), draw_with_diffusers(model, noise, [lora])
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - draw(model, noise, [])).abs().max() > 1e-2  # or the comparison would see nothing


def test_every_part_of_a_file_counts(model: Path, tmp_path: Path) -> None:
    """Each of the networks and each layer: no other picture is drawn with a part alone."""
    weights = as_kohya(layers_of(model))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    pictures = []
    for part in sorted({name.split("_")[1] for name in weights}):
        save_file({n: w for n, w in weights.items() if n.split("_")[1] == part}, tmp_path / f"{part}.safetensors")
        pictures.append(draw(model, noise, [Lora(tmp_path / f"{part}.safetensors")]))
    plain = draw(model, noise, [])
    assert all((picture - plain).abs().max() > 1e-3 for picture in pictures)


def test_several_add_up(tiny: Path, tmp_path: Path) -> None:
    layers = layers_of(tiny)
    for number in range(2):
        pairs = draw_pairs(layers, number)
        weights = {f"{n}.lora_{k}.weight": w for n, pair in pairs.items() for k, w in zip("AB", pair, strict=True)}
        save_file(weights, tmp_path / f"{number}.safetensors")
    loras = [Lora(tmp_path / "0.safetensors", 0.5), Lora(tmp_path / "1.safetensors", -0.7)]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert (draw(tiny, noise, loras) - draw_with_diffusers(tiny, noise, loras)).abs().max() < 1e-4


def test_convolutions_are_fused_as_well(tiny: Path, tmp_path: Path) -> None:
    """kohya's LoCon."""
    unet = load_generator(tiny).unet
    layers = {
        f"unet.{name}": tuple(layer.weight.shape)
        for name, layer in unet.named_modules()
        if name.endswith((".conv1", ".conv2"))
    }
    assert layers
    save_file(as_kohya(layers), tmp_path / "locon.safetensors")
    lora = Lora(tmp_path / "locon.safetensors")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ours = draw(tiny, noise, [lora])
    assert (ours - draw_with_diffusers(tiny, noise, [lora])).abs().max() < 1e-4
    assert (ours - draw(tiny, noise, [])).abs().max() > 1e-2


def test_weights_are_the_formulas(tiny: Path, tmp_path: Path) -> None:
    """W + scale alpha / rank up down, and nothing else changes."""
    layers = {name: shape for name, shape in layers_of(tiny).items() if name.endswith("attn2.to_q")}
    save_file(as_kohya(layers), tmp_path / "style.safetensors")
    before = load_generator(tiny).state_dict()
    after = load_generator(tiny, loras=[Lora(tmp_path / "style.safetensors", 0.5)]).state_dict()
    assert before.keys() == after.keys()
    pairs = draw_pairs(layers)
    for name, value in before.items():
        pair = pairs.get(name.removesuffix(".weight"))
        change = 0 if pair is None else 0.5 * ALPHA / RANK * pair[1] @ pair[0]
        assert torch.allclose(after[name], value + change, atol=1e-5)


MORE = {"lora_down": torch.ones(4, 32), "lora_up": torch.ones(32, 4)}
BROKEN: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "a layer that is not there": (
        lambda w: {**w, **{f"lora_unet_mid_block_more.{name}.weight": value for name, value in MORE.items()}},
        "2 of .* weights in .* have no place in this model: lora_unet_mid_block_more.lora_down.weight",
    ),
    "another kind": (lambda w: {**w, "lora_unet_conv_in.hada_w1_a": torch.ones(4, 4)}, "style.safetensors"),
    "DoRA": (lambda w: {**w, f"{min(w).split('.')[0]}.dora_scale": torch.ones(32, 1)}, "have no place .*dora_scale"),
    "NaN": (lambda w: {name: value * torch.nan for name, value in w.items()}, "style.safetensors"),
    "another model": (lambda w: {n: v.repeat(2, 2) if v.ndim else v for n, v in w.items()}, "style.safetensors"),
    "no LoRA": (lambda w: {"conv.weight": torch.ones(1)}, "Invalid LoRA"),
    "nothing": (lambda w: {}, "style.safetensors"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_what_has_no_place_in_the_model_is_an_error(tiny: Path, tmp_path: Path, damage: str) -> None:
    change, message = BROKEN[damage]
    layers = {name: shape for name, shape in layers_of(tiny).items() if ".attn2." in name}
    save_file(change(as_kohya(layers)), tmp_path / "style.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        load_generator(tiny, loras=[Lora(tmp_path / "style.safetensors")])
    assert "\n" not in caught.value.what and len(caught.value.what) < 500


def test_what_is_not_a_file_of_tensors_is_refused(tiny: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "style.pt")
    with pytest.raises(ModelError, match=r"cannot read .*style\.pt"):
        load_generator(tiny, loras=[Lora(tmp_path / "style.pt")])


def test_the_scale_follows_the_last_colon(tmp_path: Path) -> None:
    for name in ("style", "odd:1"):
        (tmp_path / name).write_text("")
        assert read_lora(tmp_path / name) == Lora(tmp_path / name, 1.0)
        assert read_lora(f"{tmp_path / name}:-0.5") == Lora(tmp_path / name, -0.5)
    for wrong in ("style:", "style:much", "style:nan", "style:inf", "style:0", "none", "none:1", ""):
        with pytest.raises(ModelError, match="neither a file nor FILE:SCALE"):
            read_lora(f"{tmp_path}/{wrong}")
