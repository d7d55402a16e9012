"""Random models: small, repeatable, and of the real architecture where they claim it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pahi_rt.files import sha256
from pahi_rt.models.families import FAMILIES
from pahi_rt.models.random_models import ARCHITECTURES, Size, random_tokenizer, save_random_pipeline
from pahi_rt.models.weights import weight_files


def weights(folder: Path) -> str:
    return sha256(*(file for part in ("text_encoder", "unet", "vae") for file in weight_files(folder / part)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("models") / "tiny")


def test_tiny_is_small_and_repeatable(model: Path, tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in model.rglob("*")) < 5e6
    assert weights(save_random_pipeline(tmp_path / "again")) == weights(model)
    assert weights(save_random_pipeline(tmp_path / "other", seed=1)) != weights(model)


def test_weights_of_text_encoders_have_the_names_of_the_hub(model: Path) -> None:
    names = load_file(model / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in names)
    assert "text_model.embeddings.token_embedding.weight" in names


@pytest.mark.parametrize("size", ["tiny-lcm", "tiny-sdxl"])
def test_other_families_are_small_and_complete(size: Size, tmp_path: Path) -> None:
    model = save_random_pipeline(tmp_path, size)
    assert sum(path.stat().st_size for path in model.rglob("*")) < 5e6
    index = json.loads((model / "model_index.json").read_text())
    assert index["_class_name"] == ARCHITECTURES[size].pipeline
    assert all((model / part).is_dir() for part in FAMILIES[index["_class_name"]])


def test_tokenizer_of_sd_turbo_has_its_numbers() -> None:
    tokenizer = random_tokenizer(49408, 77)
    assert len(tokenizer) == 49408
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49406, 49407, 0)
    assert tokenizer.model_max_length == 77
    ids = tokenizer("A cat!").input_ids
    assert ids == tokenizer("a  CAT!").input_ids
    assert (ids[0], ids[-1], len(ids)) == (49406, 49407, 6)  # a, c, at, !
