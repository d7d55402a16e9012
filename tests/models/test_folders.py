"""Where models come from: folders, and a hub that hands out what it is asked for and nothing else."""

from __future__ import annotations

import logging
import shutil
import sys
from functools import partial
from importlib.metadata import EntryPoint  # noqa: TID251 - entry points, and not a version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # not in its __all__

from pahi_rt.errors import ModelError
from pahi_rt.models import folders
from pahi_rt.models.folders import find_model, locate
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.models.weights import weight_files
from pahi_rt.plugins import GENERATORS
from pahi_rt.scorers import load_scorer

COMMIT = "0123456789abcdef" * 2 + "01234567"
PARTS = ("text_encoder", "unet", "vae")
NAME = "someone/some-model"


class Hub:
    """Repositories in a folder; what has been fetched lies in snapshots, named by the commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []

    def add(self, name: str, source: Path) -> Path:
        return Path(shutil.copytree(source, self.folder / "there" / name))

    def snapshot_download(
        self, name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str], local_dir: None
    ) -> str:
        self.asked.append((name, revision))
        there, here = self.folder / "there" / name, self.folder / "here" / name / "snapshots" / COMMIT
        if not there.is_dir():
            raise LocalEntryNotFoundError("offline")
        files = [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (here / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there / file, here / file)
        return str(here)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    return hub


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("intact"))


def as_variant(folder: Path, variant: str) -> None:
    (file,) = weight_files(folder)
    file.rename(file.with_suffix(f".{variant}.safetensors"))


def fetched(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}


def test_a_model_and_its_decoder_come_from_the_hub(intact: Path, hub: Hub) -> None:
    model = hub.add(NAME, intact)
    hub.add("someone/taesd", intact / "vae")
    for other in ("all-in-one.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/model.onnx"):
        (model / other).write_text("not asked for")
    assert isinstance(load_generator(NAME, "someone/taesd"), Generator)
    assert fetched(find_model(NAME)) == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_a_plugin_brings_a_generator_by_name(intact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "stranger:generator", GENERATORS)
    monkeypatch.setattr(folders, "find_plugins", {GENERATORS: {"mine": entry}}.__getitem__)
    monkeypatch.setitem(sys.modules, "stranger", SimpleNamespace(generator=lambda: intact))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert find_model("mine") == intact  # from anywhere, so that a recipe can name it
    assert find_model("./mine") == Path("mine")


def test_a_revision_is_asked_for(intact: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, intact)
    assert find_model(f"{NAME}@v1").name == COMMIT
    monkeypatch.chdir(tmp_path)
    shutil.copytree(intact, tmp_path / NAME)
    assert find_model(NAME) == Path(NAME)
    assert find_model(f"hub:{NAME}@v2").name == COMMIT
    assert hub.asked == [(NAME, "v1"), (NAME, "v2")]


def test_a_repository_with_one_variant_gives_that(intact: Path, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    model = hub.add(NAME, intact)
    for part in PARTS:
        as_variant(model / part, "fp16")
    assert isinstance(load_generator(NAME), Generator)
    assert "those of the variant fp16 are read" in caplog.text
    assert hub.asked == [(NAME, None), (NAME, COMMIT)]  # both of one commit


def test_a_variant_is_fetched_alone(intact: Path, hub: Hub) -> None:
    model = hub.add(NAME, intact)
    for part in PARTS[:2]:
        as_variant(shutil.copytree(intact / part, model / "other" / part), "fp16")
        shutil.copytree(model / "other" / part, model / part, dirs_exist_ok=True)
    assert fetched(find_model(NAME, "fp16")) == {
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_shards_are_fetched(intact: Path, hub: Hub) -> None:
    model = hub.add(NAME, intact)
    unet = load_generator(intact).unet
    shutil.rmtree(model / "unet")
    for variant in (None, "fp16"):
        unet.save_pretrained(model / "unet", max_shard_size="500KB", variant=variant)
    files = weight_files(find_model(NAME) / "unet")
    assert len(files) > 1
    assert not [name for name in fetched(find_model(NAME)) if "fp16" in name]


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_scorers_clip_comes_from_the_hub(
    variant: str | None, tmp_path: Path, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import CLIPConfig, CLIPModel

    from pahi_rt.models.random_models import TINY_CLIP, random_tokenizer

    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = TINY_CLIP | {"eos_token_id": 2}
    config = CLIPConfig(text_config=text, vision_config={**vision, "image_size": 32, "patch_size": 8})
    CLIPModel(config).save_pretrained(tmp_path / "clip", variant=variant)
    random_tokenizer(600, 24).save_pretrained(tmp_path / "clip")
    hub.add("someone/clip", tmp_path / "clip")
    with caplog.at_level(logging.WARNING):
        assert load_scorer("pickscore:someone/clip").name == "pickscore"
    assert ("those of the variant fp16" in caplog.text) == (variant == "fp16")


@pytest.mark.usefixtures("hub")
def test_an_unreachable_hub_is_an_error_with_a_fix() -> None:
    with pytest.raises(ModelError, match=f"no file or folder {NAME} here, and .* cannot be had from the hub") as caught:
        load_generator(NAME)
    assert "network" in caught.value.fix
    assert "the folder of a diffusers pipeline" in caught.value.fix


def test_a_missing_folder_is_not_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_generator(tmp_path / "nothing")
    assert caught.value.fix == "give the folder of a diffusers pipeline, or a hub id like owner/name"


def test_files_and_folders_are_found_as_they_are(tmp_path: Path) -> None:
    refuse = partial(ModelError, fix="mend it")
    (tmp_path / "model.pt").write_text("")
    assert locate(str(tmp_path / "model.pt"), ("model.pt",), refuse) == tmp_path / "model.pt"
    with pytest.raises(ModelError, match=r"no-such-file\.pt") as caught:
        locate("no-such-file.pt", ("model.pt",), refuse)
    assert caught.value.fix == "mend it"


def test_the_fake_takes_what_the_real_hub_takes() -> None:
    from inspect import signature

    from huggingface_hub import snapshot_download

    arguments: dict[str, Any] = {"revision": None, "allow_patterns": [], "ignore_patterns": [], "local_dir": None}
    signature(snapshot_download).bind(NAME, **arguments)
