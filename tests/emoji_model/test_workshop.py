"""The stages of the recipe, without training."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emoji_model import assessment, pools, preferences, scorer, tokenizer
from emoji_model.workshop import Workshop


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
    monkeypatch.setattr(scorer, "load", lambda name, path: SimpleNamespace(network=path.name))
    monkeypatch.setattr(assessment, "agreement", lambda networks, *rest: {"of": networks})
    recipe.folder.joinpath("scorers").mkdir()
    recipe.scorers()
    assert trained == {"scorers/emoji-a": (1, 6, 3), "scorers/emoji-b": (1, 7, 3)}
    report = json.loads((tmp_path / "scorers" / "emoji-scorers.json").read_text())
    assert report["agreement"] == {"of": ["emoji-a.safetensors", "emoji-b.safetensors"]}
    assert set(report) == {"emoji-a", "emoji-b", "agreement"}


def test_a_scorer_is_measured_as_it_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = tokenizer.load(scorer.TOKENIZER)
    network, path = scorer.DualEncoder(words), tmp_path / "emoji-a.safetensors"
    monkeypatch.setattr(assessment, "measure", lambda network, *rest: {"scale": network.scale})
    unused: Any = None
    report = Workshop(tmp_path, 1, 0, None)._finish(network, path, unused, unused, words)
    loaded = scorer.load("emoji-a", path)
    assert report == scorer.measured(path) == {"scale": loaded.scale}
    assert report["scale"] != network.scale  # 2.3 in half precision is another number
