"""What the page offers to copy: it can be typed, sent and run, and asks for the picture that is shown."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pahi_rt.drawing import Drawing, read_drawing
from pahi_rt.files import slug
from tests.cli.verbs import parse
from tests.playground.conftest import Node
from tests.serve.conftest import serving

PROMPTS = ("a grinning cat", 'it\'s "quoted" $HOME `x` \\', "--help", "naïve 猫 🐱", "a&b=c#d %20", "x " * 40)
CHOICES: tuple[dict[str, object], ...] = (
    {},
    {"seed": 2**64 - 4, "count": 4, "steps": 2, "prior": "hi", "strength": 0.35, "compare": 1},
    {"prior": "gaussian", "count": 99, "steps": 7, "strength": -3, "model": "other bundle"},
)
CASES = [({"prompt": prompt, **choices}) for prompt in PROMPTS for choices in CHOICES]


@pytest.fixture(scope="module")
def written(node: Node, modules: Path) -> list[tuple[dict[str, object], dict[str, str]]]:
    answers = node("commands", modules, {"addresses": [urlencode(case) for case in CASES]})
    return list(zip(CASES, answers, strict=True))


def test_a_key_is_named_and_not_shown(written: list[tuple[dict[str, object], dict[str, str]]]) -> None:
    for _, ways in written:
        words = shlex.split(ways["locked"].replace("\\\n", ""))
        place = words.index("Authorization: Bearer $PAHI_KEY")
        assert words[place - 1] == "--header"
        assert words[: place - 1] + words[place + 1 :] == shlex.split(ways["curl"].replace("\\\n", ""))


def test_the_command_line_can_be_typed(written: list[tuple[dict[str, object], dict[str, str]]]) -> None:
    for case, ways in written:
        program, verb, *words = shlex.split(ways["shell"])
        asked = parse([verb, *words]).params
        assert (program, list(asked["prompts"]), asked["seed"]) == ("pahi-rt", [case["prompt"]], case.get("seed", 7))
        assert asked["bundle"] == ("other bundle" if "model" in case else None)
        assert asked["prior"] == (case["prior"] if case.get("prior", "pahi") != "pahi" else None)
        assert not asked["literal"]
        unknown = parse(shlex.split(ways["unknown"])[1:]).params
        assert unknown == asked | {"literal": True}


def test_curl_sends_whole_numbers(written: list[tuple[dict[str, object], dict[str, str]]]) -> None:
    for case, ways in written:
        words = shlex.split(ways["curl"].replace("\\\n", ""))
        body = json.loads(words[words.index("--data") + 1])
        assert (words[0], body["prompt"], body["seed"]) == ("curl", case["prompt"], case.get("seed", 7))
        assert 1 <= body["count"] <= 16 and body["steps"] in (1, 2)
        assert 0 <= body.get("prior_strength", 0) <= 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_saves_what_its_file_is_called(node: Node, modules: Path, tmp_path: Path) -> None:
    """One picture is a PNG that says how it was drawn, and several are JSON."""
    pytest.importorskip("starlette")
    cases = [{"prompt": prompt, "seed": 2**64 - 4, "count": count} for prompt in PROMPTS for count in (1, 2)]
    with serving("emoji") as service:
        asked = {"addresses": [urlencode(case) for case in cases], "server": service.client.url}
        for ways in node("commands", modules, asked):
            subprocess.run(["sh", "-c", ways["curl"]], cwd=tmp_path, check=True, capture_output=True)
    for prompt in PROMPTS:
        name = f"{slug(prompt)}-{2**64 - 4}"
        drawn = read_drawing(tmp_path / f"{name}.png")
        assert (drawn.prompts, drawn.seed) == ((prompt,), 2**64 - 4)
        several = json.loads((tmp_path / f"{name}.json").read_text())
        assert [picture["prompt"] for picture in several["pictures"]] == [prompt] * 2


def test_python_draws_the_same(written: list[tuple[dict[str, object], dict[str, str]]]) -> None:
    for case, ways in written:
        calls = [node for node in ast.walk(ast.parse(ways["python"])) if isinstance(node, ast.Call)]
        values = {word.arg: ast.literal_eval(word.value) for call in calls for word in call.keywords}
        assert [ast.literal_eval(argument) for call in calls for argument in call.args][-1] in (case["prompt"], "emoji")
        assert values["seed"] == case.get("seed", 7)


def test_the_address_brings_the_same_choices(
    node: Node, modules: Path, written: list[tuple[dict[str, object], dict[str, str]]]
) -> None:
    again = node("commands", modules, {"addresses": [ways["address"] for _, ways in written]})
    assert again == [ways for _, ways in written]


def test_names_and_text_chunks_are_those_of_python(written: list[tuple[dict[str, object], dict[str, str]]]) -> None:
    for case, ways in written:
        assert ways["slug"] == slug(str(case["prompt"]))
        drawing = Drawing.from_text(ways["texts"])  # type: ignore[arg-type]
        assert (drawing.prompts, drawing.seed, drawing.count) == ((case["prompt"],), case.get("seed", 7), 1)
