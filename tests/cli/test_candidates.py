"""`generate --candidates`, with the embedded model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pahi_rt import Judge, Pipeline, open_bundle
from pahi_rt.choice import choose
from pahi_rt.drawing import read_drawing
from pahi_rt.runtimes.costs import recall
from tests.cli.conftest import Run

EMOJI = Path(__file__).parents[2] / "pahi_rt" / "assets" / "emoji"
CHOOSE = ("--candidates", "3", "--seed", "5", "--bundle", str(EMOJI))


def test_the_best_is_written_with_how_it_was_chosen(run: Run, here: Path) -> None:
    result = run("generate", "a red apple", *CHOOSE)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in here.iterdir()] == ["a-red-apple.png"]
    with Image.open("a-red-apple.png") as image:
        assert isinstance(image, PngImageFile)
        text, picture = dict(image.text), image.copy()
    pictures = Pipeline.load(EMOJI)("a red apple", seed=5, count=3)
    scores = Judge.load(EMOJI).score(pictures, ["a red apple"] * 3)
    best = max(range(3), key=scores.__getitem__)
    assert picture.tobytes() == pictures[best].tobytes()
    assert (text["seed"], text["scorer"], text["candidates"]) == (str(5 + best), "emoji-a", "3")
    assert (text["candidates-seed"], json.loads(text["seeds"])) == ("5", [5 + best])
    assert json.loads(text["scores"]) == [scores[best]]
    assert f"seed {5 + best}, score {scores[best]:.3g}" in result.stdout


@pytest.mark.parametrize("words", [["a red apple"], ["a red apple", "a grinning cat", "--grid", "--keep", "2"]])
def test_like_repeats_it_to_the_byte(run: Run, here: Path, words: list[str]) -> None:
    run("generate", *words, *CHOOSE, "--scorer", "emoji-b", "-o", "one.png")
    again = run("generate", "--like", "one.png", "--bundle", str(EMOJI), "-o", "two.png")
    assert again.exit_code == 0, again.stderr
    assert Path("two.png").read_bytes() == Path("one.png").read_bytes()
    choice = read_drawing(Path("one.png")).choice
    assert choice is not None and choice.scorer == "emoji-b"


def test_times_with_candidates_in_them_are_not_remembered(run: Run) -> None:
    chosen = choose(open_bundle(EMOJI))
    run("generate", "a red apple", *CHOOSE)
    assert recall(chosen, "onnxruntime") is None
    run("generate", "a red apple", "--bundle", str(EMOJI))
    assert recall(chosen, "onnxruntime") is not None


def test_the_document_has_scores(run: Run) -> None:
    result = run("generate", "a red apple", *CHOOSE, "--keep", "2", "--json")
    data = json.loads(result.stdout)
    assert (data["scorer"], data["candidates"], data["keep"]) == ("emoji-a", 3, 2)
    first, second = (picture["score"] for picture in data["pictures"])
    assert first > second


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--candidates", "2"], 1, "has no scorer"),  # the contract bundle
        (["--keep", "2"], 1, "no candidates"),
        (["--candidates", "2", "-n", "2", "--bundle", str(EMOJI)], 1, "leave the count out"),
        (["--candidates", "2", "--scorer", "nobody", "--bundle", str(EMOJI)], 1, "emoji-a or emoji-b"),
        (["--candidates", "2000000", "--bundle", str(EMOJI)], 1, "too many"),
        (["--scorer", "emoji-a"], 2, "add --candidates"),
        (["--candidates", "0"], 2, "--candidates"),
    ],
)
def test_what_does_not_fit_is_refused(run: Run, here: Path, words: list[str], code: int, told: str) -> None:
    result = run("generate", "a red apple", *words)
    assert result.exit_code == code
    assert told in result.stderr
    assert not list(here.iterdir())


def test_chunks_that_make_no_sense_are_refused(run: Run) -> None:
    run("generate", "a red apple", *CHOOSE)
    with Image.open("a-red-apple.png") as image:
        assert isinstance(image, PngImageFile)
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for key, value in image.text.items():
            info.add_text(key, "[1, 2]" if key == "seeds" else value)
        image.save("bad.png", pnginfo=info)
    assert "does not say how it was made" in run("generate", "--like", "bad.png").stderr
