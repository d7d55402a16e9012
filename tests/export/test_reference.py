"""diffusers' own pipeline as a reference: the real one, which catches what is read in another way, and is silent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler

from pahi_rt.bundle import Bundle
from pahi_rt.errors import ParityError
from pahi_rt.export.drawing import draw_reference
from pahi_rt.export.exporter import export_bundle
from pahi_rt.export.inputs import GATE_PROMPTS, Inputs, fixed_inputs, split_rows
from pahi_rt.export.journal import Journal, open_journal
from pahi_rt.export.model import load_model, pipeline_class
from pahi_rt.export.provenance import Source
from pahi_rt.export.reference import (
    OBSTACLES,
    DiffusersPipeline,
    check_generator,
    check_pictures,
    deterministic,
    find_obstacle,
)
from pahi_rt.export.stages import Stages
from pahi_rt.export.tokenizer import save_tokenizer
from pahi_rt.models.components import turbo_scheduler
from pahi_rt.models.families import GUIDANCE_SCALE
from pahi_rt.models.foreign import quiet_libraries
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.priors import load_prior
from pahi_rt.models.random_models import Size, save_random_pipeline
from pahi_rt.tokenizer import Tokenizer

SD, LCM = "StableDiffusionPipeline", "LatentConsistencyModelPipeline"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sizes: tuple[Size, ...] = ("tiny", "tiny-lcm", "tiny-sdxl")
    return {size: save_random_pipeline(tmp_path_factory.mktemp(size) / size, size) for size in sizes}


def noise() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("size", ["tiny", "tiny-lcm", "tiny-sdxl"])
def test_it_draws_what_the_pipeline_does_that_diffusers_loads_itself(
    size: str, steps: int, folders: dict[str, Path]
) -> None:
    with quiet_libraries():
        loaded = diffusers.DiffusionPipeline.from_pretrained(folders[size], low_cpu_mem_usage=False)
    loaded.set_progress_bar_config(disable=True)
    guidance = GUIDANCE_SCALE if size == "tiny-lcm" else 0.0
    prompts, rows = ["a red cat", "two dogs"], []
    scheduler = loaded.scheduler
    for prompt, row in zip(prompts, noise().split(1), strict=True):
        loaded.scheduler = deterministic(scheduler, steps, row)
        options = {"num_inference_steps": steps, "output_type": "pt", "guidance_scale": guidance}
        rows.append(loaded(prompt, latents=row.clone(), **options).images)
    generator = load_generator(folders[size])
    pipeline = DiffusersPipeline(generator, pipeline_class(folders[size]))
    assert type(loaded).__name__ == pipeline_class(folders[size])
    assert torch.equal(pipeline.draw(prompts, noise(), steps), torch.cat(rows))


def test_it_takes_no_memory_of_its_own_and_leaves_the_generator_alone(generator: Generator) -> None:
    before = dict(generator.scheduler.config), dict(generator.unet.config)
    pipeline = DiffusersPipeline(generator, SD)
    pipeline.draw(["a cat", "a dog"], noise(), 2)
    assert (dict(generator.scheduler.config), dict(generator.unet.config)) == before
    assert pipeline.pipeline.unet is generator.unet


@pytest.mark.parametrize("steps", [1, 2])
def test_the_generator_passes(generator: Generator, inputs: Inputs, steps: int) -> None:
    drawn = draw_reference(generator, inputs, steps)
    row = check_pictures("PyTorch fp32", drawn, DiffusersPipeline(generator, SD), inputs, steps)
    assert row.against == f"diffusers {diffusers.__version__} {SD}, fp32; no safety checker"
    assert row.max_error < 1e-4


def test_a_prior_hands_its_noise_to_the_pipeline(
    generator: Generator, with_priors: Bundle, inputs: Inputs, priors: dict[str, Path]
) -> None:
    mixed = {**inputs, "prior_strength": np.resize(np.array([1, 0.5, 0], np.float32), 8)}
    pipeline, prior = DiffusersPipeline(generator, SD), load_prior(priors["pahi"])
    drawn = draw_reference(generator, mixed, 1, prior)
    assert check_pictures("x", drawn, pipeline, mixed, 1, prior).max_error < 1e-4
    with pytest.raises(ParityError, match="x is not diffusers"):
        check_pictures("x", drawn, pipeline, mixed, 1)


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


FAULTS: dict[str, Any] = {
    "a scale": lambda generator: setattr(generator, "latent_scale", replace(generator.latent_scale, factor=1.1)),
    "another scheduler": lambda generator: generator.schedules.update(
        {1: replace(generator.schedule(1), noise_scale=13.0)}
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_read_in_another_way_is_caught(generator: Generator, inputs: Inputs, fault: str) -> None:
    FAULTS[fault](generator)
    drawn = draw_reference(generator, inputs, 1)
    with pytest.raises(ParityError, match=f"PyTorch fp32 is not diffusers .* {SD}") as caught:
        check_pictures("PyTorch fp32", drawn, DiffusersPipeline(generator, SD), inputs, 1)
    assert "its settings" in caught.value.fix


def test_other_token_ids_than_those_of_the_text_are_caught(generator: Generator, inputs: Inputs) -> None:
    """Such as those of a bundle's tokenizer which reads prompts otherwise."""
    changed = {**inputs, "input_ids": np.roll(inputs["input_ids"], 1, axis=0)}
    with pytest.raises(ParityError, match="is not diffusers"):
        check_pictures("x", draw_reference(generator, changed, 1), DiffusersPipeline(generator, SD), changed, 1)


def test_the_gates_prompts_are_those_of_its_inputs(generator: Generator, inputs: Inputs) -> None:
    assert len(split_rows(inputs)) == len(GATE_PROMPTS)
    assert generator.tokenize(GATE_PROMPTS).tolist() == inputs["input_ids"].tolist()


def test_it_is_silent(generator: Generator, capfd: pytest.CaptureFixture[str]) -> None:
    """Prompts that are cut, old settings: diffusers says much."""
    generator.scheduler.register_to_config(steps_offset=0)
    capfd.readouterr()
    DiffusersPipeline(generator, SD).draw(["long word " * 40], noise()[:1], 1)
    assert capfd.readouterr() == ("", "")


def test_what_diffusers_raises_is_said_in_one_line(generator: Generator) -> None:
    pipeline = DiffusersPipeline(generator, SD)
    pipeline.pipeline.vae = None
    with pytest.raises(ParityError, match=f"diffusers' {SD} cannot draw the model: ") as caught:
        pipeline.draw(["a cat"], noise()[:1], 1)
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("kind", [EulerAncestralDiscreteScheduler, LCMScheduler, EulerDiscreteScheduler])
def test_no_random_numbers_between_the_steps(kind: Any) -> None:
    scheduler = turbo_scheduler("epsilon", kind)
    draws = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        fresh = deterministic(scheduler, 2, torch.ones(1, 4, 8, 8))
        with quiet_libraries():
            fresh.set_timesteps(2)
        latents = torch.full((1, 4, 8, 8), 3.0)
        for timestep in fresh.timesteps:
            read = fresh.scale_model_input(latents, timestep)
            latents = fresh.step(0.5 * read, timestep, latents, return_dict=False)[0]
        draws.append(latents)
    assert torch.equal(*draws)


DIFFERENCES = {
    ("tiny", 1): ["no safety checker"],
    ("tiny-lcm", 1): ["no safety checker"],
    ("tiny-lcm", 2): ["the first noise again between steps", "no safety checker"],
    ("tiny-sdxl", 1): ['every "!" of a prompt is a word', "no watermark"],
    ("tiny-sdxl", 2): ["no fresh noise between steps", 'every "!" of a prompt is a word', "no watermark"],
}


@pytest.mark.parametrize(("size", "steps"), DIFFERENCES)
def test_differences_on_purpose_are_named(size: str, steps: int, folders: dict[str, Path]) -> None:
    pipeline = DiffusersPipeline(load_generator(folders[size]), pipeline_class(folders[size]))
    assert pipeline.against(steps).split("; ")[1:] == DIFFERENCES[size, steps]


def obstacles_in_turn(generator: Generator) -> Iterator[tuple[str | None, str]]:
    """Why diffusers cannot draw a tiny generator that is changed again and again, and a word of each reason."""
    generator.tokenizer.model_max_length = 10**30
    yield find_obstacle(generator, SD), "length"
    generator.tokenizer.model_max_length = 24
    yield find_obstacle(generator, LCM), "LCMScheduler"
    generator.scheduler = turbo_scheduler("epsilon", LCMScheduler)
    yield find_obstacle(generator, LCM), "guidance"
    generator.scheduler = turbo_scheduler("sample", EulerAncestralDiscreteScheduler)
    yield find_obstacle(generator, SD), "sample"
    generator.scheduler = turbo_scheduler("epsilon")
    generator.decoder.register_to_config(upsampling_scaling_factor=1)
    generator.unet.register_to_config(sample_size=(9, 9))
    yield find_obstacle(generator, SD), "multiples of 8"
    generator.decoder.register_to_config(upsampling_scaling_factor=2)
    generator.latent_scale = replace(generator.latent_scale, mean=(0.0,) * 16, std=(1.0,) * 16)
    generator.unet.register_to_config(in_channels=16)
    yield find_obstacle(generator, SD), "four channels"


def test_obstacles_are_told(generator: Generator) -> None:
    assert find_obstacle(generator, SD) is None
    told = list(obstacles_in_turn(generator))
    assert len(told) == len(OBSTACLES)
    assert all(reason and word in reason for reason, word in told), told


def edit(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_ids_of_the_runtimes_tokenizer_are_cut_as_diffusers_cuts(folders: dict[str, Path], tmp_path: Path) -> None:
    """With a mask and a shorter length: the inputs come from the bundle's own tokenizer."""
    folder = Path(shutil.copytree(folders["tiny"], tmp_path / "model"))
    edit(folder, "text_encoder/config.json", use_attention_mask=True)
    edit(folder, "tokenizer/tokenizer_config.json", model_max_length=6)
    generator = load_generator(folder)
    spec = save_tokenizer(folder, generator, tmp_path)
    assert spec.max_length == 6
    inputs = fixed_inputs(Tokenizer(tmp_path / spec.file, spec.max_length, spec.pad_id), generator.latent_shape)
    drawn = draw_reference(generator, inputs, 1)
    assert check_pictures("x", drawn, DiffusersPipeline(generator, SD), inputs, 1).max_error < 1e-4


@pytest.mark.slow
def test_a_bundle_of_a_model_with_a_mask_and_an_obstacle(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["tiny"], tmp_path / "model"))
    edit(folder, "text_encoder/config.json", use_attention_mask=True)
    rows = export_bundle(folder, tmp_path / "masked", name="x", steps=(1,)).manifest.parity
    assert rows[0].against.startswith("diffusers")
    assert rows[1].max_error < 1e-4
    edit(folder, "tokenizer/tokenizer_config.json", model_max_length=10**30)
    rows = export_bundle(folder, tmp_path / "longer", name="x", steps=(1,)).manifest.parity
    assert [row.graph for row in rows] == ["one-step.onnx"] * 2
    assert rows[0].against == f"PyTorch fp32; diffusers cannot draw it: {OBSTACLES[0].reason}"
