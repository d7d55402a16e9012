"""Figure 1 of a bundle: which pictures are where on the sheet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pahi_rt import PahiError, Pipeline
from pahi_rt.bench import pairs
from pahi_rt.cli import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", "pairs", *map(str, words)])


def cut(sheet: Image.Image, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(sheet.crop((left, top, left + size[0], top + size[1])))


def test_the_gaussian_is_left_and_the_prior_right_from_the_same_seeds(contract_with_priors: Path) -> None:
    prompts = ("red", "a red cat")
    sheet = pairs.draw(str(contract_with_priors), prompts)
    pipeline = Pipeline.load(contract_with_priors)
    for row, prompt in enumerate(prompts):
        for column, strength in enumerate((0.0, 1.0)):
            expected = pipeline(prompt, seed=2, prior_strength=strength)
            width, height = expected.size
            left = column * (pairs.SEEDS * width + pairs.GAP) + 2 * width
            top = pairs.LINE + row * (pairs.LINE + height) + pairs.LINE
            assert np.array_equal(cut(sheet, left, top, expected.size), np.asarray(expected))
    plain, learned = (pipeline("red", seed=2, prior_strength=strength) for strength in (0.0, 1.0))
    assert not np.array_equal(np.asarray(plain), np.asarray(learned))


def test_the_prompts_are_the_first_that_no_prior_was_trained_on() -> None:
    from emoji_model.prompts import split

    parts = split(160, 320, 0)
    assert pairs.held_out_prompts("emoji") == parts.test[: pairs.PROMPTS]
    assert not set(parts.test[: pairs.PROMPTS]) & set(parts.train)


def test_a_bundle_without_a_prior_is_refused(contract: Path) -> None:
    with pytest.raises(PahiError) as caught:
        pairs.draw(str(contract), ["red"])
    assert caught.value.fix == "export one with a prior: pahi-rt export MODEL --prior PRIOR_FILE -o BUNDLE"


def test_errors_are_two_lines(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere", "--recipe", "emoji", "-o", tmp_path / "pairs.png")
    assert result.exit_code == 1
    error = result.stderr
    assert error.startswith("error: ") and "\nfix: " in error
    assert not (tmp_path / "pairs.png").exists()


def test_a_place_that_cannot_be_written_is_told_of_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pairs, "draw", lambda *_: pytest.fail("drawn in vain"))
    result = run("-o", tmp_path / "nowhere" / "pairs.png")
    assert result.exit_code == 1
    assert "there is no folder" in result.stderr


def test_the_sheet_is_written_whole(
    contract_with_priors: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.png"
    path.write_bytes(b"an older one")
    monkeypatch.setattr(pairs, "held_out_prompts", lambda recipe: ("red",))
    result = run(contract_with_priors, "-o", path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{path}\n"
    with Image.open(path) as sheet:
        assert sheet.size == pairs.draw(str(contract_with_priors), ("red",)).size
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.png"]
