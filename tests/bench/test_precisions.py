"""What precisions cost: the arithmetic of the comparison, and the whole of it on the small contract bundle."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pahi_rt import PahiError
from pahi_rt.bench import precisions, scores
from pahi_rt.cli import app

CONTRACT = str(Path(__file__).parents[1] / "data" / "contract")


def test_equal_pictures_and_others() -> None:
    drawn = np.random.default_rng(0).integers(0, 200, (2, 32, 32, 3)).astype(np.uint8)
    assert precisions.compare(drawn, drawn).to_dict() == {"psnr_db": None, "worst_psnr_db": None, "ssim": 1.0}
    other = drawn.copy()
    other[1] += 51  # a fifth of the range: 14 dB, and over both pictures half of the error
    found = precisions.compare(other, drawn).to_dict()
    assert (found["psnr_db"], found["worst_psnr_db"]) == (16.99, 13.98)
    assert found["ssim"] is not None and found["ssim"] < 1


def test_a_change_is_one_of_standard_deviations() -> None:
    base = torch.tensor([-1.0, 0.0, 1.0])
    assert precisions.change(base - 0.25, base) == -25.0


def test_the_reference_is_compared_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["precisions", CONTRACT, "--runtimes", "onnxruntime", "--prompts", "3", "--force", "--output", str(report)]
    # The real ones read pictures of the emoji generator alone.
    bright = SimpleNamespace(score=lambda images, prompts: images.mean((1, 2, 3)))
    monkeypatch.setattr(scores, "load_scorer", lambda label: bright)
    result = CliRunner().invoke(app, ["bench", *words])
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(report.read_text())["rows"]
    assert (row["precision"], row["psnr_db"], row["ssim"], row["time_over_fp32"]) == ("fp32", None, 1.0, 1.0)
    assert row["emoji-a_change_percent_of_sd"] == 0 and row["ms"] > 0


def test_there_must_be_something_to_compare_with() -> None:
    with pytest.raises(PahiError, match="'emoji' has no fp32") as caught:
        precisions.measure("emoji", "emoji", ["onnxruntime"], 1, force=True)
    assert "--precision fp32,int8" in caught.value.fix
