"""The stages as commands: what a run folder without training can do, and what it cannot."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emoji_model import __main__ as stages
from emoji_model import assessment, autoencoder, generator, pools, preferences, published, scorer, tokenizer
from emoji_model.__main__ import Workshop
from pahi_rt.errors import PahiError
from pahi_rt.models.generators import load_generator


def test_published_weights_stand_in_for_the_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Workshop(tmp_path, workers=1, seed=0, steps=None)
    recipe.restore()
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
    Workshop(tmp_path, 1, 0, steps=7).restore()
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


def test_scorers_learn_side_by_side_from_seeds_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Workshop(tmp_path, workers=2, seed=5, steps=3)
    trained: dict[str, tuple[int, int, int | None]] = {}

    def note(self: Workshop, stage: object, name: str, *rest: object) -> None:
        trained[name] = (self.workers, self.seed, self.steps)

    monkeypatch.setattr(Workshop, "_train", note)
    monkeypatch.setattr(Workshop, "_pool", lambda self, name, seed, *rest: f"{name} {seed}")
    monkeypatch.setattr(Workshop, "_finish", lambda self, network, path, *rest: {"path": path.name})
    monkeypatch.setattr(Workshop, "_subjects", lambda self: SimpleNamespace(labels=[]))
    monkeypatch.setattr(pools, "join", lambda made: made)
    monkeypatch.setattr(preferences, "load", lambda folder, name, words: name)
    monkeypatch.setattr(preferences, "standardise", lambda *rest: None)
    monkeypatch.setattr(tokenizer, "load", lambda folder: None)
    monkeypatch.setattr(scorer, "load", lambda name, path, words: SimpleNamespace(network=path.name))
    monkeypatch.setattr(assessment, "agreement", lambda networks, *rest: {"of": networks})
    recipe.folder.joinpath("scorers").mkdir()
    recipe.scorers()
    assert trained == {"scorers/emoji-a": (1, 6, 3), "scorers/emoji-b": (1, 7, 3)}
    report = json.loads((tmp_path / "scorers" / "emoji-scorers.json").read_text())
    assert report["agreement"] == {"of": ["emoji-a.safetensors", "emoji-b.safetensors"]}
    assert set(report) == {"emoji-a", "emoji-b", "agreement"}


def test_restoring_spares_what_was_trained(tmp_path: Path) -> None:
    Workshop(tmp_path, 1, 0, steps=7).restore()
    before = (tmp_path / "generator" / "checkpoint.pt").stat().st_mtime_ns
    Workshop(tmp_path, 1, 0, steps=9).restore()
    assert (tmp_path / "generator" / "checkpoint.pt").stat().st_mtime_ns == before


def test_published_priors_are_restored_unless_there_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "PRIORS", tmp_path / "published")
    (tmp_path / "published").mkdir()
    for kind in ("hi", "pahi"):
        (tmp_path / "published" / f"{kind}.safetensors").write_text(f"published {kind}")
    recipe = Workshop(tmp_path / "work", 1, 0, None)
    assert recipe.priors() == {}
    own = tmp_path / "work" / "priors" / "hi" / "prior.safetensors"
    own.parent.mkdir(parents=True)
    own.write_text("my own")
    recipe.restore()
    assert {kind: path.read_text() for kind, path in recipe.priors().items()} == {
        "hi": "my own",
        "pahi": "published pahi",
    }


def test_a_scorer_is_measured_as_it_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = tokenizer.load(scorer.TOKENIZER)
    network, path = scorer.DualEncoder(words), tmp_path / "emoji-a.safetensors"
    monkeypatch.setattr(assessment, "measure", lambda network, *rest: {"scale": network.scale})
    unused: Any = None
    report = Workshop(tmp_path, 1, 0, None)._finish(network, path, unused, unused, words)
    loaded = scorer.load("emoji-a", path)
    assert report == scorer.measured(path) == {"scale": loaded.scale}
    assert report["scale"] != network.scale  # 2.3 in half precision is another number


def test_a_poor_scorer_is_not_installed(tmp_path: Path) -> None:
    for made in ("bundle", "pahi-emoji", "emoji-generator.json", "scorers"):
        (tmp_path / made).mkdir()
    path = tmp_path / "scorers" / "emoji-a.safetensors"
    scorer.save(torch.nn.Linear(1, 1), path, {"pair_accuracy": {"real": 0.5}})
    with pytest.raises(PahiError, match="emoji-a is not good enough"):
        Workshop(tmp_path, 1, 0, None).install()


def test_install_needs_what_package_makes(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="is not there") as error:
        Workshop(tmp_path, 1, 0, None).install()
    assert error.value.fix == "python -m emoji_model bundle"
