"""A typing session in Chromium, with `pahi-rt serve` and with a site that draws in the browser."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pahi_rt import Pipeline
from pahi_rt.bench.playground import files_served
from pahi_rt.drawing import read_drawing
from tests.playground.conftest import NPM, ROOT, Node

pytestmark = pytest.mark.browser

TYPED = "a red heart"
KEY = "0123456789abcdef-key??>>"
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")


@contextlib.contextmanager
def drawing(*words: str) -> Iterator[str]:
    """The address of `pahi-rt serve`."""
    command = [sys.executable, "-c", "from pahi_rt.cli import main; main()", "serve", "emoji", "--port", "0", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(found[0] for line in process.stderr if (found := ADDRESS.search(line)))
        finally:
            process.terminate()
            process.stderr.read()


@pytest.fixture(scope="module")
def chromium() -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt install chromium")
    if not (NPM / "node_modules" / "playwright-core").is_dir():
        pytest.skip(f"there is no playwright-core in {NPM}: run make .venv/.npm")
    return program


@pytest.fixture(scope="module", params=["server", "browser"])
def session(
    request: pytest.FixtureRequest, chromium: str, node: Node, npm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    if request.param == "server":
        pytest.importorskip("starlette")
    place = drawing() if request.param == "server" else files_served(request.getfixturevalue("site"))
    with place as url:
        asked = {"url": url, "chromium": chromium, "typed": TYPED, "delay_ms": 300, "patience_s": 120}
        asked["looks"] = LOOKS if request.param == "server" else LOOKS[-1:]
        answer = node("session", NPM, asked | {"shots": os.environ.get("PAHI_SHOTS")})
    return answer | {"backend": request.param}


def test_every_key_brings_a_picture(session: Any) -> None:
    """Each has its own from a server; in the browser, those that come too fast for the machine are left out."""
    assert len(session["waits_ms"]) >= (len(TYPED) - 1 if session["backend"] == "server" else 1)
    assert ("browser" in session["engine"]) == (session["backend"] == "browser")


def test_a_download_is_pythons_picture_and_says_how_it_was_drawn(session: Any, tmp_path: Path) -> None:
    assert session["saved"]["name"] == "a-red-heart-seed-7.png"
    path = tmp_path / "saved.png"
    path.write_bytes(base64.b64decode(session["saved"]["png"]))
    drawn = read_drawing(path)
    assert (drawn.prompts, drawn.seed, drawn.count, drawn.prior) == ((TYPED,), 7, 1, "pahi")
    pipeline = Pipeline.load(drawn.bundle, steps=drawn.steps, prior=drawn.prior, runtime="onnxruntime")
    expected = np.asarray(pipeline(TYPED, seed=7, prior_strength=drawn.prior_strength), int)
    found = np.asarray(Image.open(io.BytesIO(path.read_bytes())), int)
    assert drawn.bundle_sha256 == pipeline.bundle.sha256
    assert np.abs(found - expected).max() <= 2


def test_seeds_of_64_bits_stay_whole(session: Any) -> None:
    seeds = [int(re.findall(r"seed (\d+)", alt)[0]) for alt in session["tiles"]]
    assert seeds == list(range(2**64 - 4, 2**64))


def test_unknown_words_are_mended_by_a_click(session: Any) -> None:
    assert session["mended"] == "a grinning cat"


def test_an_empty_prompt_is_explained(session: Any) -> None:
    assert "empty" in session["empty"].lower()


def test_the_address_holds_the_choices(session: Any) -> None:
    assert "prompt=rocket" in session["address"] and "seed=18446744073709551612" in session["address"]


def test_the_keyboard_reaches_the_settings(session: Any) -> None:
    assert {"seed", "dice", "strength", "compare", "count", "download"} <= set(session["focusable"])


def test_axe_finds_nothing(session: Any) -> None:
    assert {place: found for place, found in session["axe"].items() if found} == {}


def test_the_console_is_silent_and_nothing_is_too_wide(session: Any) -> None:
    assert session["complaints"] == []


@pytest.fixture(scope="module")
def visit(node: Node, chromium: str, contract: Path) -> Any:
    """What somebody finds who does more than type, with two models."""
    pytest.importorskip("starlette")
    with drawing(str(contract)) as url:
        return node("visit", NPM, {"url": url, "chromium": chromium, "patience_s": 120})


def test_a_link_opened_in_the_same_tab_brings_its_pictures(visit: Any) -> None:
    assert visit["linked"] == {"there": [True, True], "back": True}


def test_the_way_past_the_top_leaves_the_address_alone(visit: Any) -> None:
    assert visit["skipped"]["focus"] == "prompt"
    assert visit["skipped"]["address"].startswith("#prompt=an+octopus&")


def test_the_way_through_the_history_goes_on_after_a_pause(visit: Any) -> None:
    assert visit["past"]["seen"] == ["a rocket", "a red apple", "a rocket"]
    assert visit["past"]["kept"] == ["an octopus", "a rocket", "a red apple"]


def test_a_click_replaces_whole_words(visit: Any) -> None:
    assert visit["mended"] == "a happy happy"


def test_the_page_knows_what_the_chosen_model_knows(visit: Any) -> None:
    assert visit["vocabularies"]["later"] == visit["vocabularies"]["known"] != "3"


def test_the_slider_ends_where_the_server_does(visit: Any) -> None:
    assert visit["sideBySide"] == {"count": "8", "max": "8", "alone": "16", "filled": f"{7 / 15:.3f}"}


def test_contrast_themes_show_what_is_chosen(visit: Any) -> None:
    for place, pair in visit["contrasts"]["pairs"].items():
        chosen, other = map(main_colour, map(pixels, pair))
        assert chosen != other, place
    slider = pixels(visit["contrasts"]["slider"])
    line = slider[len(slider) // 2]
    assert (line[4] != line[-4]).any() and (slider[0, 4] != line[4]).any()


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


def main_colour(picture: np.ndarray) -> tuple[int, ...]:
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    return tuple(colours[counts.argmax()].tolist())


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_key_is_asked_for_where_the_server_wants_one(
    node: Node, chromium: str, tmp_path: Path, width: int, scheme: str
) -> None:
    pytest.importorskip("starlette")
    (tmp_path / "keys").write_text(KEY)
    with drawing("--api-key-file", str(tmp_path / "keys")) as url:
        asked = {"url": url, "chromium": chromium, "key": KEY, "width": width, "scheme": scheme, "patience_s": 120}
        found = node("key", NPM, asked | {"shots": os.environ.get("PAHI_SHOTS")})
    assert found["problem"] and found["isHidden"] and not found["isShown"]
    assert (found["axe"], found["errors"]) == ([], [])
    assert found["gallery"] > 0


def test_webgpu_draws_pythons_pictures(node: Node, chromium: str, site: Path) -> None:
    """On a GPU that is emulated, which the page takes only if it is told to; also while another is being drawn."""
    prompts = ["a grinning cat", "rocket"]
    with files_served(site) as url:
        asked = {"url": url, "chromium": chromium, "seed": 7, "prompts": prompts, "patience_s": 120}
        answer = node("webgpu", NPM, asked)
    if not answer["asked"]["has_gpu"]:
        pytest.skip("this Chromium has no WebGPU")
    assert [answer[kind]["said"].partition(",")[0] for kind in ("asked", "chosen")] == ["WebGPU", "WebAssembly"]
    assert answer["complaints"] == []
    assert answer["asked"]["hurried"].startswith(f"{prompts[0]}, seed 7")
    pipeline = Pipeline.load("emoji", runtime="onnxruntime")
    for prompt, picture in zip(prompts, answer["asked"]["pictures"], strict=True):
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))), int)
        assert np.abs(found - np.asarray(pipeline(prompt, seed=7), int)).max() <= 2
