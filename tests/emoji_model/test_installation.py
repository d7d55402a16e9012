"""What the source tree holds of the recipe stands in for its stages, and is replaced by what they made."""

from pathlib import Path

import pytest
import torch

from emoji_model import autoencoder, generator, installation, published, scorer, tokenizer
from emoji_model.installation import install, restore
from emoji_model.workshop import Workshop
from pahi_rt.errors import PahiError
from pahi_rt.models.generators import load_generator


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


def test_published_priors_are_restored_unless_there_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "PRIORS", tmp_path / "published")
    (tmp_path / "published").mkdir()
    for kind in ("hi", "pahi"):
        (tmp_path / "published" / f"{kind}.safetensors").write_text(f"published {kind}")
    recipe = Workshop(tmp_path / "work", 1, 0, None)
    assert recipe.priors() == {}
    own = tmp_path / "work" / "priors" / "hi" / "prior.safetensors"
    own.parent.mkdir(parents=True)
    own.write_text("my own")
    restore(recipe)
    assert {kind: path.read_text() for kind, path in recipe.priors().items()} == {
        "hi": "my own",
        "pahi": "published pahi",
    }


def test_a_poor_scorer_is_not_installed(tmp_path: Path) -> None:
    for made in ("bundle", "pahi-emoji", "emoji-generator.json", "scorers"):
        (tmp_path / made).mkdir()
    path = tmp_path / "scorers" / "emoji-a.safetensors"
    scorer.save(torch.nn.Linear(1, 1), path, {"pair_accuracy": {"real": 0.5}})
    with pytest.raises(PahiError, match="emoji-a is not good enough"):
        install(Workshop(tmp_path, 1, 0, None))


def test_install_needs_what_package_makes(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="is not there") as error:
        install(Workshop(tmp_path, 1, 0, None))
    assert error.value.fix == "python -m emoji_model bundle"
