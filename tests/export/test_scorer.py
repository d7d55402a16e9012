"""Every scorer as a graph, in tiny, and (slow) the published architectures with random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pahi_rt.errors import OutputError, ParityError, ScorerError
from pahi_rt.export import scorer as exporter
from pahi_rt.export.drawing import open_file_session
from pahi_rt.export.score_parity import ScoreReference, compare_scores, draw_sample
from pahi_rt.export.scorer import ScorerSettings, export_scorer, read_scorer
from pahi_rt.models.random_models import random_tokenizer
from pahi_rt.scorers import load_scorer
from pahi_rt.tokenizer import Tokenizer
from tests.scorers import test_hpsv2 as hpsv2
from tests.scorers import test_image_reward as image_reward
from tests.scorers.conftest import random_weights, save_clip, tiny_clip
from tests.scorers.test_aesthetic import HEAD, save_head

__all__ = ["random_weights", "save_clip", "tiny_clip"]

Draw = Callable[..., dict[str, Tensor]]
PROMPTS = ["a red cat", "the house by the sea, at night"]
SIZE = (40, 52)


@pytest.fixture
def specs(tmp_path: Path, tiny_clip: Path, random_weights: Draw) -> dict[str, str]:
    """Kind -> spec of a tiny one."""
    hps, reward, rating = (tmp_path / name for name in ("hps", "reward", "rating"))
    random_tokenizer(hpsv2.TINY["vocab"], hpsv2.TINY["tokens"]).save_pretrained(hps)
    save_file(hpsv2.draw(hpsv2.TINY, random_weights), hps / "HPS_v2.1_compressed.safetensors")
    image_reward.write_vocabulary(reward)
    save_file(image_reward.draw(image_reward.TINY, random_weights), reward / "ImageReward.safetensors")
    shutil.copytree(tiny_clip, rating / "clip-vit-large-patch14")
    save_head(rating / HEAD, 16)
    return {
        "pickscore": f"pickscore:{tiny_clip}",
        "clipscore": f"clipscore:{tiny_clip}",
        "hpsv2": f"hpsv2:{hps}",
        "imagereward": f"imagereward:{reward}",
        "aesthetic": f"aesthetic:{rating}",
        "redness": "redness",
    }


def score_graph(folder: Path, pictures: np.ndarray[Any, Any], prompts: list[str]) -> np.ndarray[Any, Any]:
    """What a program without PyTorch does."""
    found = read_scorer(folder).scorer
    feeds = {"image": pictures}
    if (spec := found.tokenizer) is not None:
        feeds["input_ids"] = Tokenizer(folder / spec.file, spec.max_length, spec.pad_id).encode(prompts).input_ids
    scores: np.ndarray[Any, Any] = open_file_session(folder / found.file).run(["score"], feeds)[0]
    return scores


@pytest.mark.parametrize("kind", ["pickscore", "hpsv2", "imagereward", "aesthetic", "redness"])
@pytest.mark.parametrize("precision", ["fp32", "w16"])
def test_a_graph_scores_as_its_scorer(specs: dict[str, str], kind: str, precision: str, tmp_path: Path) -> None:
    if precision == "w16" and kind not in ("pickscore", "imagereward"):
        pytest.skip("rounding is the same for all")
    export_scorer(specs[kind], tmp_path / "out", ScorerSettings(SIZE, precision))
    pictures = np.stack([draw_sample(seed, *SIZE) for seed in (50, 51)])
    scorer = load_scorer(specs[kind])
    with torch.no_grad():
        expected = scorer.score(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, PROMPTS).numpy()
    scores = score_graph(tmp_path / "out", pictures, PROMPTS)
    assert scores.dtype == np.float32 and scores.shape == (2,)
    assert abs(expected[0] - expected[1]) > 1e-4  # or the comparison would see nothing
    assert np.abs(scores - expected).max() * scorer.scale < (0.01 if precision == "fp32" else 0.1)


def test_the_folder_describes_itself(specs: dict[str, str], tmp_path: Path) -> None:
    stages: list[str] = []
    settings = ScorerSettings(SIZE, name="mine", licence="mit")
    made = export_scorer(specs["hpsv2"], tmp_path / "out", settings, on_stage=lambda name, *_: stages.append(name))
    assert read_scorer(tmp_path / "out") == made
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*made.files, "scorer.json"])
    assert (made.name, made.size, made.scorer.unit, made.scorer.component.licence) == ("mine", SIZE, "cosine", "mit")
    assert made.scorer.component.id == "hpsv2:hps"
    assert [row.against for row in made.scorer.parity] == [
        "PyTorch fp32; prompts are not repaired by ftfy",
        "itself, batch 3 and batch 1",
    ]
    assert stages[-1] == "compare mine.onnx with PyTorch"


def test_a_scorer_that_reads_no_prompts_has_no_tokenizer(tmp_path: Path) -> None:
    made = export_scorer("redness", tmp_path / "out", ScorerSettings(SIZE))
    assert made.scorer.tokenizer is None
    assert [spec.name for spec in made.scorer.inputs] == ["image"]


def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_scorer("redness", out, ScorerSettings(SIZE))
    with pytest.raises(OutputError, match="exists already"):
        export_scorer("redness", out, ScorerSettings(SIZE))
    export_scorer("redness", out, ScorerSettings((32, 32)), overwrite=True)
    assert read_scorer(out).size == (32, 32)
    (out / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        export_scorer("redness", out, ScorerSettings(SIZE), overwrite=True)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_scorer("redness", out, ScorerSettings(SIZE))
    with pytest.raises(ScorerError, match="not an exported scorer"):
        read_scorer(tmp_path)
    data = json.loads((out / "scorer.json").read_text())
    (out / "scorer.json").write_text(json.dumps({**data, "format_version": 99}))
    with pytest.raises(ScorerError, match="another version"):
        read_scorer(out)
    (out / "scorer.json").write_text(json.dumps({**data, "files": {}}))
    with pytest.raises(ScorerError, match="does not list all files"):
        read_scorer(out)
    (out / "scorer.json").write_text(json.dumps(data))
    (out / "redness.onnx").write_bytes(b"")
    with pytest.raises(ScorerError, match=r"redness\.onnx is not what"):
        read_scorer(out)


@pytest.mark.parametrize("settings", [{"precision": "int8"}, {"name": "a/b"}, {"name": ".."}])
def test_what_cannot_be_exported_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ScorerError, match="cannot be"):
        ScorerSettings(**settings)


class Fixed(nn.Module):
    """A scorer of one size of pictures that cannot be traced to its own numbers."""

    name, unit, scale, tokenizer, max_tokens = "fixed", "brightness", 1.0, None, 0
    size, unported = (8, 8), ()

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return images.mean((1, 2, 3))

    def score_ids(self, images: Tensor, input_ids: Tensor | None = None) -> Tensor:
        return images.mean((1, 2, 3)) + 0.02


def test_a_graph_that_scores_otherwise_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exporter, "load_scorer", lambda spec: Fixed())
    with pytest.raises(ParityError, match="max error 0.02"):
        export_scorer("fixed", tmp_path / "out")
    with pytest.raises(ScorerError, match="takes 8x8 pictures, and not 16x16"):
        export_scorer("fixed", tmp_path / "out", ScorerSettings((16, 16)))
    assert not (tmp_path / "out").exists()


def test_a_scorer_without_score_ids_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exporter, "load_scorer", lambda spec: nn.Linear(1, 1))
    with pytest.raises(ScorerError, match="no score_ids"):
        export_scorer("plain", tmp_path / "out")


def test_a_score_that_is_not_a_number_fails() -> None:
    reference = ScoreReference("PyTorch", np.zeros(2), 0.01)
    with pytest.raises(ParityError, match="max error nan"):
        compare_scores("a.onnx", np.array([0.0, np.nan]), reference, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "w16"])
def test_vit_h_14_as_published(tmp_path: Path, random_weights: Draw, precision: str) -> None:
    """A billion weights: more than a graph's file may hold."""
    size: dict[str, Any] = hpsv2.VIT_H_14
    random_tokenizer(size["vocab"], size["tokens"]).save_pretrained(tmp_path / "hps")
    save_file(hpsv2.draw(size, random_weights), tmp_path / "hps" / "HPS_v2.1_compressed.safetensors")
    made = export_scorer(f"hpsv2:{tmp_path / 'hps'}", tmp_path / "out", ScorerSettings((512, 512), precision))
    assert made.files["hpsv2.bin"].size > (1.9e9 if precision == "w16" else 3.8e9)
    assert made.files["hpsv2.onnx"].size < 20e6


@pytest.mark.slow
def test_image_reward_as_published(tmp_path: Path, random_weights: Draw) -> None:
    image_reward.write_vocabulary(tmp_path)
    save_file(image_reward.draw(image_reward.FULL, random_weights), tmp_path / "ImageReward.safetensors")
    made = export_scorer(f"imagereward:{tmp_path}", tmp_path / "out", ScorerSettings((512, 512)))
    assert made.files["imagereward.bin"].size > 1.5e9
