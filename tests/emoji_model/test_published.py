"""The published pipeline is written from what the bundle holds, to the byte."""

import errno
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from emoji_model import published
from emoji_model.published import WEIGHTS
from pahi_rt.errors import ModelError, OutputError
from pahi_rt.export.weights import PAGE
from pahi_rt.models.generators import load_generator

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(size=(64, 96)).astype(np.float16)
SQUARE = RANDOM.normal(size=(48, 48)).astype(np.float16)
KERNEL = RANDOM.normal(size=(32, 16, 3, 3)).astype(np.float16)
WIDE = RANDOM.normal(size=(64, 96)).astype(np.float32)
TENSORS = {"matrix": MATRIX, "square": SQUARE, "kernel": KERNEL, "wide": WIDE, "small": MATRIX[0], "none": MATRIX[:0]}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    folder = tmp_path / "pipeline"
    for name in ("unet", "vae"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(f'"{name}"')
    save_file(TENSORS, folder / "unet" / "model.safetensors", metadata={"format": "pt"})
    save_file({"encoder": KERNEL + 1}, folder / "vae" / "model.safetensors")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with two of the matrices transposed, and a page that starts like one of them."""
    lookalike = KERNEL.copy()
    lookalike.flat[-1] += 1
    folder = tmp_path / "bundle"
    folder.mkdir()
    arrays = [lookalike, KERNEL, MATRIX.T, SQUARE.T]
    parts = [array.tobytes() + bytes(-array.nbytes % PAGE) for array in arrays]
    (folder / WEIGHTS).write_bytes(b"".join(parts))
    return folder


def test_a_pipeline_comes_back_to_the_byte(pipeline: Path, bundle: Path, tmp_path: Path) -> None:
    place, folder = tmp_path / "published", tmp_path / "again"
    published.publish(pipeline, bundle, place)
    published.unpack(place, bundle, folder)
    assert contents(folder) == contents(pipeline)


def test_what_the_bundle_holds_is_not_published_again(pipeline: Path, bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "published"
    published.publish(pipeline, bundle, place)
    rest = (place / "rest.bin").read_bytes()
    assert all(array.tobytes() not in rest for array in (MATRIX, SQUARE, KERNEL))
    assert all(array.tobytes() in rest for array in (WIDE, KERNEL + 1, MATRIX[0]))
    assert not list(place.rglob("*.safetensors"))


def test_publishing_again_replaces_what_was_there(pipeline: Path, bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "published"
    published.publish(pipeline, bundle, place)
    first = contents(place)
    (place / "of-before.json").write_text("{}")
    published.publish(pipeline, bundle, place)
    assert contents(place) == first
    assert {path.name for path in tmp_path.iterdir()} == {"pipeline", "bundle", "published"}


def test_another_bundle_is_refused_and_leaves_nothing(pipeline: Path, bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "published"
    published.publish(pipeline, bundle, place)
    content = bytearray((bundle / WEIGHTS).read_bytes())
    content[KERNEL.nbytes + PAGE] ^= 1
    (bundle / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="does not hold the weights of"):
        published.unpack(place, bundle, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_embedded_model_is_a_generator_by_name() -> None:
    assert load_generator("emoji").latent_shape == (4, 16, 16)
    folder = published.generator()
    before = contents(folder)
    assert published.generator() == folder
    assert contents(folder) == before


def test_most_of_its_weights_lie_in_the_bundle() -> None:
    own, whole = (sum(map(len, contents(place).values())) for place in (published.PUBLISHED, published.generator()))
    assert own < whole / 15


def test_a_full_cache_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(published, "unpack", fail)
    with pytest.raises(OutputError, match="cannot be written: No space left") as caught:
        published.generator()
    assert caught.value.fix.endswith("or set XDG_CACHE_HOME")
