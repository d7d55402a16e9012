"""The page's modules against Python: the same noise, unknown words and text chunks."""

from __future__ import annotations

import base64
import difflib
import io
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image

from pahi_rt.bundle import open_bundle
from pahi_rt.drawing import Drawing
from pahi_rt.vocabulary import Vocabulary
from tests.playground.conftest import Node

NOISE = json.loads((Path(__file__).parents[1] / "data" / "noise.json").read_text())
PROMPTS = (
    *(
        "a grinning cat",
        "a blue frogg",
        "PANDA!! 🐼",
        "🦖 and 🦕",
        "👩‍🚀 astronaut",
        "gitar, it's octopuss-like",
        "snake_case",
    ),
    *("naïve ÄÖÜ 猫", "ΣΑΣ İstanbul", "a\x1cb\x85c\ufeffd", "½ ⅷ 12345", "e\u0301clair", "don’t", "$ € ©", "x" * 300),
    *(
        " ".join(f"zq{number}" for number in range(14)),
        "",
        "❤️‍🔥",
        "hambruger w/ rokcet",
        "a lorry",
        "constructor __proto__ toString",
    ),
)


def test_noise_is_the_recorded_noise(node: Node, modules: Path) -> None:
    draws = [{"seed": draw["seed"], "shape": draw["shape"]} for draw in NOISE["draws"]]
    answer = node("noise", modules, {"draws": draws, "requests": []})
    for draw, found in zip(NOISE["draws"], answer["draws"], strict=True):
        assert found == [int(bits, 16) for bits in draw["float32_bits"].split()]
    assert [f"{word:08x}" for word in answer["philox"]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_seeds_never_wrap_around(node: Node, modules: Path) -> None:
    last = 2**64 - 1
    asked = [("7", 3), (str(last), 1), (str(last), 2), ("-1", 1)]
    data = {"draws": [], "requests": [{"seed": seed, "count": count} for seed, count in asked]}
    good, at_the_end, over, negative = node("noise", modules, data)["seeds"]
    assert (good, at_the_end) == (["7", "8", "9"], [str(last)])
    assert over["fix"] and negative["fix"] and over["status"] == negative["status"] == 400


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    found = Vocabulary.load(open_bundle("emoji"))
    assert found is not None
    return found


def test_unknown_words_are_those_of_python(node: Node, modules: Path, vocabulary: Vocabulary) -> None:
    bundle = open_bundle("emoji")
    chance, words = random.Random(0), sorted(vocabulary.words)
    misspelt = [_misspell(chance.choice(words), chance) for _ in range(60)]
    prompts = [*PROMPTS, *(f"a {word}" for word in misspelt)]
    data = {"vocabulary": json.loads(bundle.read("vocabulary.json")), "prompts": prompts, "pairs": []}
    for prompt, found in zip(prompts, node("vocabulary", modules, data)["unknown"], strict=True):
        assert dict(found) == vocabulary.unknown(prompt), prompt


def test_close_matches_are_those_of_difflib(node: Node, modules: Path) -> None:
    chance = random.Random(1)
    words = ["".join(chance.choices("abc", k=chance.randint(1, 9))) for _ in range(60)]
    long = ["".join(chance.choices("abcdefgh", k=230)) for _ in range(6)]
    pairs = [(word, sorted(words)) for word in words[:40]] + [(one, sorted({*long, one[5:]})) for one in long]
    answer = node("vocabulary", modules, {"vocabulary": {"words": [], "concepts": []}, "prompts": [], "pairs": pairs})
    assert answer["close"] == [difflib.get_close_matches(word, choices, n=3) for word, choices in pairs]


def test_words_are_replaced_as_python_replaces_them(node: Node, modules: Path, vocabulary: Vocabulary) -> None:
    chance, words = random.Random(2), sorted(vocabulary.words)
    pairs = [(_misspell(word, chance), chance.choice(words)) for word in chance.choices(words, k=60)]
    cases = [(f"A {word} of an\t{word.upper()}, pan{word} {word}s {word}'s {word}", word, near) for word, near in pairs]
    cases += [("a happy app", "app", "happy"), ("naïve猫, an 猫", "猫", "cat"), ("snake_app", "app", "$& ball")]
    asked = [{"prompt": prompt, "word": word, "near": near} for prompt, word, near in cases]
    for (prompt, word, near), found in zip(cases, node("replace", modules, asked), strict=True):
        assert prompt != Vocabulary(frozenset(), (), (), {word: (near,)}).in_known_words(prompt) == found


def test_signs_are_replaced_beside_letters_too(node: Node, modules: Path) -> None:
    asked = [{"prompt": "an 🦖, two🦖s", "word": "🦖", "near": "T-Rex"}]
    assert node("replace", modules, asked) == ["a T-Rex, twoT-Rexs"]


def test_a_button_that_is_clicked_twice_gets_its_label_back(node: Node, modules: Path) -> None:
    found = node("copy", modules, {})
    assert found["copied"] == "z"
    assert found["said"] == [["Copied", "Copied"], ["Copied", "Copy link"], ["Copy", "Copy link"]]


def _misspell(word: str, chance: random.Random) -> str:
    place = chance.randrange(len(word))
    return chance.choice(
        [word[:place] + word[place + 1 :] or "q", word[:place] + "x" + word[place:], word[::-1], word + "s"]
    )


@pytest.mark.parametrize("prompt", ["a red apple", "naïve", "猫 🐱"])
def test_a_downloaded_png_says_how_it_was_drawn(node: Node, modules: Path, prompt: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    drawing = Drawing((prompt,), 2**64 - 1, 1, 2, "emoji", "0" * 64, "0.1.0", "pahi", 0.5)
    data = {"rgb": pixels.reshape(-1).tolist(), "width": 7, "height": 5, "texts": drawing.to_text()}
    image = Image.open(io.BytesIO(bytes(node("png", modules, data))))
    image.load()
    assert np.array_equal(np.asarray(image), pixels)
    assert Drawing.from_text({str(key): str(text) for key, text in image.info.items()}) == drawing


def test_the_page_asks_for_a_key_and_learns_that_the_server_is_another(node: Node, modules: Path) -> None:
    found = node("server", modules, {})
    key = "0123456789-key??>>"
    first = found["first"]
    assert first["events"][:5] == [
        "/v1/models no key",
        "asked",
        "/v1/models Bearer  wrong",
        "wrong",
        f"/v1/models Bearer {key}",
    ]
    assert first["events"][5:] == [f"/v1/models/{name}/vocabulary Bearer {key}" for name in ("a%2Fb", "c")]
    assert (first["kept"], first["hasKey"]) == (key, True)
    assert first["protocols"] == [
        "pahi-live",
        f"pahi-key.{base64.urlsafe_b64encode(key.encode()).decode().rstrip('=')}",
    ]
    assert (found["problem"]["title"], found["problem"]["fix"]) == ("the prompt is empty", "write")
    assert [event.partition(" Bearer ")[0] for event in found["again"]["events"]] == [
        "lost",
        "/v1/models",
        "wrong",
        "/v1/models",
    ]
    assert found["again"]["sockets"] == 2
    assert found["changed"]["events"][-1] == "reload" and found["changed"]["sockets"] == 2


@pytest.fixture(scope="module")
def live(node: Node, modules: Path) -> Any:
    """What the page makes of a WebSocket that closes within a reply, and then opens no more."""
    return node("live", modules, {})


def test_a_reply_that_was_cut_off_begins_anew(live: Any) -> None:
    assert live["shown"] == [[place, str(7 + place // 2)] for place in (0, 1, 2, 0, 1, 2, 3)]
    assert live["pictures"] == [["7", 0], ["7", 1], ["8", 0], ["8", 1]]


def test_a_websocket_that_never_opens_is_explained_once(live: Any) -> None:
    lost, failed = live["closed"]
    assert lost == {"lost": True}
    assert "WebSocket" in failed["failed"]["title"] and "proxy" in failed["failed"]["fix"]
    assert live["opened"] == [{"ready": {"engine": "server"}}]


def test_an_address_that_no_request_can_hold(node: Node, modules: Path) -> None:
    long, half = node(
        "commands", modules, {"addresses": [f"prompt={'x' * 70_000}", f"prompt={'x' * 1999}%F0%9F%90%B1"]}
    )
    assert parse_qs(long["address"])["prompt"] == ["x" * 2000]
    assert parse_qs(half["address"])["prompt"] == ["x" * 1999 + "\ufffd"]
