from __future__ import annotations

import json
import re
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

import pahi_rt
from pahi_rt import Pipeline, __version__
from pahi_rt.bundle import open_bundle
from pahi_rt.choice import choose
from pahi_rt.cli.written import StandardOutput
from pahi_rt.drawing import read_drawing
from pahi_rt.errors import OutputError
from pahi_rt.output import contact_sheet
from pahi_rt.runtimes.costs import recall
from tests.cli.conftest import Run

LINE = re.compile(r"(?P<path>.+)  (?P<size>\d+x\d+), \d+\.\d kB, \d+ ms, seeds? (?P<seed>.+)")


def lines(text: str) -> list[tuple[str, str, str]]:
    """(path, size, seed) of each line of results."""
    matches = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(matches), text
    return [(match["path"], match["size"], match["seed"]) for match in matches if match]


def pixels(path: Path | str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_a_picture(run: Run, here: Path, contract: Path) -> None:
    result = run("generate", "a red apple", "--seed", "7")
    assert result.exit_code == 0, result.stderr
    assert lines(result.stdout) == [("a-red-apple.png", "32x32", "7")]
    assert result.stderr == "next: pahi-rt generate 'a red apple' -n 8 --grid\n"
    assert [path.name for path in here.iterdir()] == ["a-red-apple.png"]
    assert pixels("a-red-apple.png") == Pipeline.load(contract)("a red apple", seed=7).tobytes()


def test_it_records_how_it_was_made(run: Run, contract: Path) -> None:
    run("generate", "a red apple", "--seed", "7", "--steps", "2", "--bundle", str(contract))
    with Image.open("a-red-apple.png") as image:
        assert isinstance(image, PngImageFile)
        text = dict(image.text)
    sha256 = text.pop("bundle-sha256")
    assert text == {
        "prompt": "a red apple",
        "seed": "7",
        "count": "1",
        "steps": "2",
        "bundle": "contract",
        "pahi-rt": __version__,
        "precision": "fp32",
    }
    assert len(sha256) == 64


def test_a_random_seed_is_told_and_repeats_the_picture(run: Run) -> None:
    first, second = (lines(run("generate", "a cat").stdout)[0] for _ in range(2))
    assert first[2] != second[2]
    assert 0 <= int(first[2]) < 2**32
    run("generate", "a cat", "--seed", first[2], "-o", "again.png")
    assert pixels("again.png") == pixels(first[0]) != pixels(second[0])


def test_prompts_times_seeds(run: Run) -> None:
    result = run("generate", "a cat", "red apple", "-n", "2", "--seed", "3")
    names = ["a-cat.png", "a-cat-2.png", "red-apple.png", "red-apple-2.png"]
    assert lines(result.stdout) == [(name, "32x32", seed) for name, seed in zip(names, "3434", strict=True)]
    assert result.stderr == "next: pahi-rt generate --like a-cat.png\n"
    assert [read_drawing(Path(name)).seed for name in names] == [3, 4, 3, 4]


def test_existing_files_are_numbered_or_overwritten(run: Run, here: Path) -> None:
    (here / "a-cat.png").write_bytes(b"mine")
    assert lines(run("generate", "a cat").stdout)[0][0] == "a-cat-2.png"
    assert (here / "a-cat.png").read_bytes() == b"mine"
    assert lines(run("generate", "a cat", "--force").stdout)[0][0] == "a-cat.png"
    assert (here / "a-cat.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("target", "paths"),
    [
        ("x.png", ["x.png", "x-2.png"]),
        ("out", ["out/a-cat.png", "out/a-cat-2.png"]),
        ("deep/er/", ["deep/er/a-cat.png", "deep/er/a-cat-2.png"]),
    ],
)
def test_output(run: Run, target: str, paths: list[str]) -> None:
    result = run("generate", "a cat", "-n", "2", "--seed", "0", "-o", target)
    assert [line[0] for line in lines(result.stdout)] == paths
    assert all(Path(path).is_file() for path in paths)


def test_grid(run: Run, here: Path, contract: Path) -> None:
    result = run("generate", "a cat", "a red apple", "-n", "3", "--seed", "5", "--grid")
    assert lines(result.stdout) == [("a-cat-grid.png", "104x68", "5 to 7")]
    assert [path.name for path in here.iterdir()] == ["a-cat-grid.png"]
    expected = contact_sheet(Pipeline.load(contract)(["a cat", "a red apple"], seed=5, count=3), 3)
    assert pixels("a-cat-grid.png") == expected.tobytes()


@pytest.mark.parametrize(
    ("words", "size"),
    [(["a cat", "-n", "9"], "284x68"), (["-n", "1", *"abcdefghij"], "284x68"), (["a", "b", "-n", "9"], "320x68")],
)
def test_one_prompt_or_one_seed_does_not_make_a_strip(run: Run, here: Path, words: list[str], size: str) -> None:
    assert lines(run("generate", *words, "--grid", "-o", "sheet.png").stdout)[0][1] == size


@pytest.mark.parametrize("options", [["--seed", "9"], ["-n", "3"], ["--steps", "2"], ["-n", "2", "--grid"]])
def test_like_repeats_a_file_exactly(run: Run, options: list[str]) -> None:
    run("generate", "a red 猫", "-o", "first.png", *options)
    result = run("generate", "--like", "first.png", "-o", "again.png")
    assert result.exit_code == 0, result.stderr
    assert "differ" not in result.stderr
    assert Path("again.png").read_bytes() == Path("first.png").read_bytes()


def test_like_of_one_of_several_repeats_that_one(run: Run) -> None:
    run("generate", "a cat", "-n", "3", "--seed", "1")
    run("generate", "--like", "a-cat-3.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("a-cat-3.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "prior", "strength"),
    [
        ([], "pahi", 1.0),
        (["--prior", "hi"], "hi", 1.0),
        (["--prior-strength", "0.3"], "pahi", 0.3),
        (["--prior", "hi", "--prior-strength", "0"], "hi", 0.0),
        (["--prior", "gaussian"], "gaussian", 0.0),
    ],
)
def test_priors_are_drawn_told_recorded_and_repeated(
    run: Run, contract_with_priors: Path, options: list[str], prior: str, strength: float
) -> None:
    words = ["generate", "a cat", "--seed", "7", "--bundle", str(contract_with_priors), "-o"]
    document = json.loads(run(*words, "first.png", *options, "--json").stdout)
    assert (document["prior"], document["prior_strength"]) == (prior, strength)
    expected = Pipeline.load(contract_with_priors, prior=prior)("a cat", seed=7, prior_strength=strength)
    assert pixels("first.png") == expected.tobytes()
    drawing = read_drawing(Path("first.png"))
    assert (drawing.prior, drawing.prior_strength) == (prior, strength)
    result = run("generate", "--like", "first.png", "--bundle", str(contract_with_priors), "-o", "again.png")
    assert result.exit_code == 0, result.stderr
    assert Path("again.png").read_bytes() == Path("first.png").read_bytes()


def test_like_needs_the_prior(run: Run, contract: Path, contract_with_priors: Path) -> None:
    run("generate", "a cat", "--bundle", str(contract_with_priors), "-o", "cat.png")
    result = run("generate", "--like", "cat.png", "--bundle", str(contract))
    assert result.exit_code == 1
    assert result.stderr.endswith("error: bundle 'contract' has no prior 'pahi'\nfix: use --prior gaussian\n")


def test_a_picture_without_a_prior_is_repeated_without_one(
    run: Run, contract: Path, contract_with_priors: Path
) -> None:
    run("generate", "a cat", "--seed", "7", "--bundle", str(contract), "-o", "old.png")
    result = run("generate", "--like", "old.png", "--bundle", str(contract_with_priors), "-o", "new.png")
    assert "the picture may differ" in result.stderr
    assert pixels("new.png") == pixels("old.png")


def test_like_says_when_the_bundle_is_another(run: Run, edit: Callable[..., Path]) -> None:
    other = edit(lambda data: data["tools"].update(other="2"))
    run("generate", "a cat", "-o", "cat.png")
    result = run("generate", "--like", "cat.png", "--bundle", str(other), "-o", "again.png")
    assert result.exit_code == 0
    assert "note: cat.png was drawn by another bundle 'emoji'; the picture may differ\n" in result.stderr
    assert pixels("again.png") == pixels("cat.png")


def test_like_needs_the_bundle_where_it_is_not_built_in(run: Run, contract: Path) -> None:
    run("generate", "a cat", "--bundle", str(contract), "-o", "cat.png")
    result = run("generate", "--like", "cat.png")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: cat.png was drawn by bundle 'contract', which is not built in\n"
        "fix: pahi-rt generate --like cat.png --bundle FOLDER\n"
    )


@pytest.mark.parametrize(
    "extra",
    [
        ["a cat"],
        ["--seed", "0"],
        ["-n", "1"],
        ["--steps", "1"],
        ["--prompts", "-"],
        ["--prior", "gaussian"],
        ["--prior-strength", "0"],
        ["--precision", "fp32"],
    ],
)
def test_like_stands_alone(run: Run, extra: list[str]) -> None:
    run("generate", "a cat", "-o", "cat.png")
    result = run("generate", "--like", "cat.png", *extra)
    assert result.exit_code == 2
    assert "--like brings its own prompts, seed, steps, count, prior, precision and choice" in result.stderr


@pytest.mark.parametrize(
    "content", ["a cat\na red apple\n", "\ufeffa cat\r\n\r\n  \r\na red apple", "a cat\n\na red apple\n\n"]
)
@pytest.mark.parametrize("source", ["-", "prompts.txt"])
def test_prompts_from_a_file(run: Run, here: Path, content: str, source: str) -> None:
    (here / "prompts.txt").write_bytes(content.encode())
    result = run("generate", "a dog", "--prompts", source, "--seed", "2", stdin=content.encode())
    assert [line[0] for line in lines(result.stdout)] == ["a-dog.png", "a-cat.png", "a-red-apple.png"]


def test_json(run: Run) -> None:
    result = run("generate", "a cat", "a zeppelin", "--seed", "3", "--threads", "1", "--json")
    document = json.loads(result.stdout)
    assert [document[key] for key in ("version", "steps")] == [__version__, 1]
    assert document["bundle"]["name"] == "emoji"
    assert document["runtime"]["runtime"] == "onnxruntime"
    assert document["runtime"]["threads"] == 1
    assert document["load_ms"] > 0
    first = document["pictures"][0]
    assert first["bytes"] == Path("a-cat.png").stat().st_size
    assert all(first.pop(f"{stage}_ms") > 0 for stage in ("tokenize", "run", "encode"))
    assert {key: value for key, value in first.items() if key != "bytes"} == {
        "path": "a-cat.png",
        "prompt": "a cat",
        "seed": 3,
        "width": 32,
        "height": 32,
        "truncated": False,
    }
    assert "zeppelin" in result.stderr


def test_json_of_a_grid_names_every_picture(run: Run) -> None:
    document = json.loads(run("generate", "a cat", "-n", "3", "--seed", "3", "--grid", "--json").stdout)
    assert [(picture["path"], picture["seed"]) for picture in document["pictures"]] == [
        ("a-cat-grid.png", seed) for seed in (3, 4, 5)
    ]


def test_unknown_words_are_named_with_their_neighbours(run: Run) -> None:
    result = run("generate", "a rad aple 😸", "zeppelin of two", "--seed", "1")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[:-1] == [
        "note: emoji does not know 'rad'; try red",
        "note: emoji does not know 'aple'; try apple",
        "note: emoji does not know '😸'; try grinning cat",
        "note: emoji does not know 'zeppelin'; see `pahi-rt bundles show emoji`",
    ]


def test_the_nearest_thing_is_drawn_and_said_before(run: Run) -> None:
    embedded = Path(pahi_rt.__file__).parent / "assets" / "emoji"
    result = run("generate", "an airfield", "--seed", "1", "--bundle", str(embedded))
    assert result.stderr.splitlines()[0] == (
        "note: emoji does not know 'an airfield'; drawing 'a helicopter', the nearest that it knows"
    )
    assert read_drawing(Path("a-helicopter.png")).prompts == ("a helicopter",)
    result = run("generate", "an airfield", "--seed", "1", "--literal", "--bundle", str(embedded))
    assert result.stderr.splitlines()[0] == "note: emoji does not know 'airfield'; try helicopter"
    assert read_drawing(Path("an-airfield.png")).prompts == ("an airfield",)


def test_a_long_prompt_is_cut_and_said_so(run: Run) -> None:
    result = run("generate", "red cat " * 1250, "-n", "2", "--seed", "1")
    assert result.exit_code == 0
    assert [line[2] for line in lines(result.stdout)] == ["1", "2"]
    cut = [line for line in result.stderr.splitlines() if "its end was cut" in line]
    assert len(cut) == 2 and all(len(line) < 150 for line in cut)


def test_a_prompt_without_quotes_is_suspected(run: Run) -> None:
    note = 'note: 3 prompts of one word each; quote a longer one, as in "a red apple"\n'
    assert note in run("generate", "a", "red", "cat").stderr
    assert note not in run("generate", "a red cat", "cat", "dog").stderr


def test_a_prompt_of_signs_is_named_picture(run: Run) -> None:
    assert lines(run("generate", "😸").stdout)[0][0] == "picture.png"


def test_file_names_need_not_be_unicode(run: Run) -> None:
    result = run("generate", "a cat", "-o", "c\udcfft.png")
    assert result.exit_code == 0
    assert result.stdout_bytes.startswith(b"c\xfft.png  32x32")


def test_other_bundles_are_kept_in_the_next_command(run: Run, contract: Path) -> None:
    result = run("generate", "cat", "--bundle", str(contract))
    assert result.stderr == f"next: pahi-rt generate cat -n 8 --grid --bundle {contract}\n"


def test_show_needs_a_terminal(run: Run) -> None:
    result = run("generate", "a cat", "--show")
    assert result.exit_code == 0
    assert "note: --show needs a terminal\n" in result.stderr


@pytest.mark.parametrize("options", [[], ["-n", "2", "--grid"]])
def test_a_png_to_standard_output(run: Run, here: Path, options: list[str]) -> None:
    run("generate", "a cat", "--seed", "3", "-o", "cat.png", *options)
    result = run("generate", "a cat", "--seed", "3", "-o", "-", *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes == Path("cat.png").read_bytes()
    assert [path.name for path in here.iterdir()] == ["cat.png"]
    assert result.stderr.startswith("-  ")
    assert "--like -" not in result.stderr


@pytest.mark.parametrize("words", [["a cat", "-n", "2"], ["a cat", "a dog"]])
def test_several_pictures_do_not_go_to_standard_output(run: Run, here: Path, words: list[str]) -> None:
    result = run("generate", *words, "-o", "-")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: 2 files cannot go to standard output\nfix: use --grid, which makes one file of them, or -o FOLDER\n"
    )
    assert not list(here.iterdir())


def test_json_and_a_png_do_not_share_standard_output(run: Run) -> None:
    result = run("generate", "a cat", "-o", "-", "--json")
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_png_is_not_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(OutputError) as caught:
        StandardOutput(1)
    assert caught.value.fix == "send it on, as in `-o - > FILE.png`; --show shows a picture"


def test_a_file_named_dash(run: Run, here: Path) -> None:
    (here / "-").mkdir()
    assert lines(run("generate", "a cat", "-o", "./-").stdout)[0][0] == "-/a-cat.png"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_lines_of_every_system(run: Run, end: str) -> None:
    result = run("generate", "--prompts", "-", stdin=end.join(["a cat", "", "a\x0bdog", ""]).encode())
    assert [line[0] for line in lines(result.stdout)] == ["a-cat.png", "a-dog.png"]
    wrong = end.join(["a cat", "\udcff"]).encode("utf-8", "surrogateescape")
    assert "line 2 of standard input is not valid UTF-8" in run("generate", "--prompts", "-", stdin=wrong).stderr


def test_a_home_in_every_path(run: Run, here: Path, contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    shutil.copytree(contract, here / "bundle")
    (here / "prompts.txt").write_text("a cat")
    result = run("generate", "--prompts", "~/prompts.txt", "--bundle", "~/bundle", "-o", "~/cat.png")
    assert result.exit_code == 0, result.stderr
    assert run("generate", "--like", "~/cat.png", "--bundle", "~/bundle", "-o", "~/out").exit_code == 0
    assert (here / "out" / "a-cat.png").read_bytes() == (here / "cat.png").read_bytes()
    assert run("inspect", "~/bundle").exit_code == 0
    assert "there is no such home" in run("generate", "a cat", "-o", "~nobody-of-that-name/x.png").stderr


@pytest.mark.parametrize("options", [["-n", "1000001"], ["-n", "1000000", "--grid"]])
def test_absurdly_many_pictures(run: Run, here: Path, options: list[str]) -> None:
    result = run("generate", "a cat", *options)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 2
    assert not list(here.iterdir())


def test_pictures_are_not_kept_in_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[weakref.ref[Image.Image]] = []

    def convert(pictures: Any) -> list[Image.Image]:
        images = [Image.fromarray(picture) for picture in pictures]
        assert sum(ref() is not None for ref in drawn) <= 2, "only the last ones"
        drawn.extend(map(weakref.ref, images))
        return images

    monkeypatch.setattr("pahi_rt.pipeline.to_images", convert)
    assert run("generate", "a cat", "-n", "6", "--json").exit_code == 0
    assert len(drawn) == 6


@pytest.mark.parametrize(("count", "is_known"), [("1", False), ("3", True)])
def test_one_picture_is_no_measurement_of_the_next(
    run: Run, here: Path, contract: Path, count: str, is_known: bool
) -> None:
    run("generate", "a red apple", "-n", count, "--bundle", str(contract))
    found = recall(choose(open_bundle(contract)), "onnxruntime")
    assert found is not None and (found.picture_s is not None) == is_known
