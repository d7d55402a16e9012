"""What the source tree holds of the recipe stands in for its stages, and is replaced by what they made."""

import shutil
from pathlib import Path

import pytest
import torch

from emoji_model import autoencoder, generator, installation, published, scorer, tokenizer
from emoji_model.installation import install, restore
from emoji_model.published import WEIGHTS
from emoji_model.workshop import Workshop
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.files import sha256
from pahi_rt.models.generators import load_generator
from pahi_rt.models.priors import PRIORS

UNET = "pahi-emoji/unet/diffusion_pytorch_model.safetensors"


def test_published_weights_stand_in_for_the_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Workshop(tmp_path, workers=1, seed=0, steps=None)
    restore(recipe)
    words, model = tokenizer.load(tmp_path / "tokenizer"), load_generator("emoji")
    restored = {
        **generator.load(tmp_path / "generator", words),
        "decoder": autoencoder.load(tmp_path / "decoder"),
    }
    for name, module in restored.items():
        expected = getattr(model, name).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in module.state_dict().items())
    capsys.readouterr()
    recipe.generator()  # and reads neither scenes nor packages
    assert f"generator: {generator.SCHEDULE.steps} steps done" in capsys.readouterr().out


def test_the_package_is_restored_as_it_is_published(tmp_path: Path) -> None:
    restore(Workshop(tmp_path, 1, 0, steps=7))
    one, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (published.generator(), tmp_path / "pahi-emoji")
    )
    assert one == other
    for name in ("emoji-generator.json", "vocabulary.json"):
        assert (tmp_path / name).is_file()
    assert {path.name for path in (tmp_path / "scorers").glob("*")} == {
        path.name for path in scorer.HOME.glob("*.safetensors")
    }


def test_restoring_spares_what_was_trained(tmp_path: Path) -> None:
    restore(Workshop(tmp_path, 1, 0, steps=7))
    before = (tmp_path / "generator" / "checkpoint.pt").stat().st_mtime_ns
    restore(Workshop(tmp_path, 1, 0, steps=9))
    assert (tmp_path / "generator" / "checkpoint.pt").stat().st_mtime_ns == before


def test_published_priors_are_those_of_the_bundle() -> None:
    trained = open_bundle(published.BUNDLE).manifest.priors
    found = {path.stem: sha256(path) for path in installation.PRIORS.glob("*.safetensors")}
    assert found == {kind: prior.component.sha256 for kind, prior in trained.items()}


def test_published_priors_are_restored_unless_there_are_others(tmp_path: Path) -> None:
    recipe = Workshop(tmp_path / "work", 1, 0, None)
    assert recipe.priors() == {}
    own = recipe.prior("hi")
    own.parent.mkdir(parents=True)
    own.write_text("my own")
    restore(recipe)
    assert own.read_text() == "my own"
    trained = set(open_bundle(published.BUNDLE).manifest.priors)
    assert set(recipe.priors()) == trained | {"hi"}
    for kind in trained - {"hi"}:
        assert recipe.prior(kind).read_bytes() == (installation.PRIORS / f"{kind}.safetensors").read_bytes()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source tree with a prior of an earlier bundle, which `install` writes to in place of the real one."""
    places = {"BUNDLE": "emoji", "PUBLISHED": "weights", "PRIORS": "priors", "RESULTS": "results"}
    for name, place in places.items():
        monkeypatch.setattr(installation, name, tmp_path / "tree" / place)
    (tmp_path / "tree" / "priors").mkdir(parents=True)
    (tmp_path / "tree" / "priors" / "old.safetensors").write_text("of a kind that the bundle does not have")
    monkeypatch.setattr(installation, "KINDS", PRIORS | {"old": PRIORS["hi"]})
    return tmp_path / "tree"


@pytest.fixture
def made(tmp_path: Path) -> Workshop:
    """A working folder with the published results and their bundle."""
    recipe = Workshop(tmp_path / "work", 1, 0, None)
    restore(recipe)
    shutil.copytree(published.BUNDLE, recipe.folder / "bundle")
    return recipe


def test_priors_of_an_earlier_bundle_do_not_stay(made: Workshop, tree: Path) -> None:
    install(made)
    names = {path.stem for path in (tree / "priors").iterdir()}
    assert names == set(open_bundle(published.BUNDLE).manifest.priors)
    assert (tree / "emoji" / WEIGHTS).read_bytes() == (published.BUNDLE / WEIGHTS).read_bytes()
    assert (tree / "weights" / "pieces.json").is_file()
    assert (tree / "results" / "emoji-generator.json").is_file()


@pytest.mark.parametrize("other", [UNET, "priors/hi/prior.safetensors"])
def test_a_bundle_of_something_else_is_not_installed(made: Workshop, tree: Path, other: str) -> None:
    path = made.folder / other
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"other weights")
    with pytest.raises(PahiError, match="was not made of what lies in") as error:
        install(made)
    assert error.value.fix == "python -m emoji_model bundle"
    assert not (tree / "emoji").exists()


def test_a_poor_scorer_is_not_installed(made: Workshop, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "measured", lambda path: {"pair_accuracy": {"real": 0.5}})
    with pytest.raises(PahiError, match="emoji-a is not good enough"):
        install(made)
    assert not (tree / "emoji").exists()


def test_install_needs_what_package_makes(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="is not there") as error:
        install(Workshop(tmp_path, 1, 0, None))
    assert error.value.fix == "python -m emoji_model bundle"
