"""Where the parts of a bundle come from: what is read and what is fused decide their hashes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pahi_rt.export.provenance import Source, describe_components
from pahi_rt.files import sha256
from pahi_rt.models.loras import Lora
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.models.weights import weight_files

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("hub") / "models--someone--a-model" / "snapshots" / COMMIT)


def test_a_snapshot_of_the_hub_names_its_repository_and_commit(model: Path, tmp_path: Path) -> None:
    generator, autoencoder = describe_components(Source(model))
    assert (generator.id, generator.revision) == ("someone/a-model", COMMIT)
    assert (autoencoder.id, autoencoder.revision) == ("someone/a-model/vae", COMMIT)
    shutil.copytree(model / "vae", tmp_path / "taesd")
    _, other = describe_components(Source(model, tmp_path / "taesd"))
    assert (other.id, other.revision, other.sha256) == ("taesd", "local", autoencoder.sha256)


def test_loras_are_part_of_the_generator(model: Path, tmp_path: Path) -> None:
    plain, autoencoder = describe_components(Source(model))
    loras = [Lora(tmp_path / "a.safetensors", 0.5), Lora(tmp_path / "b.safetensors")]
    for number, lora in enumerate(loras):
        save_file({"x": torch.full((1,), float(number))}, lora.path)
    fused, same = describe_components(Source(model, loras=tuple(loras)))
    assert fused.id == "someone/a-model + a.safetensors:0.5 + b.safetensors:1"
    assert same == autoencoder
    hashes = {plain.sha256, fused.sha256, describe_components(Source(model, loras=(loras[0],)))[0].sha256}
    assert len(hashes) == 3


def test_the_hash_is_that_of_the_variant_that_is_read(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    (full,) = weight_files(folder / "vae")
    half = full.with_suffix(".fp16.safetensors")
    half.write_bytes(full.read_bytes() + b" ")
    assert describe_components(Source(folder))[1].sha256 == sha256(full)
    assert describe_components(Source(folder, variant="fp16"))[1].sha256 == sha256(half)
