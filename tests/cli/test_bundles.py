from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Run


def test_list(run: Run) -> None:
    result = run("bundles")
    assert result.exit_code == 0
    assert result.stdout == (
        "name   picture  steps   size     summary\nemoji  32x32    1 or 2  21.9 kB  Trivial arithmetic for tests.\n"
    )
    assert result.stderr == "next: pahi-rt bundles show emoji\n"


def test_list_as_json(run: Run) -> None:
    (entry,) = json.loads(run("bundles", "--json").stdout)
    assert (entry["name"], entry["width"], entry["steps"], entry["priors"]) == ("emoji", 32, [1, 2], [])
    assert entry["card"]["summary"] == "Trivial arithmetic for tests."


def test_without_any(run: Run, assets: Path) -> None:
    shutil.rmtree(assets / "emoji")
    result = run("bundles")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("note: no bundle is built in")
    assert json.loads(run("bundles", "--json").stdout) == []


def test_show(run: Run) -> None:
    result = run("bundles", "show", "emoji")
    assert result.exit_code == 0
    assert result.stdout == (
        "emoji: Trivial arithmetic for tests.\n"
        "\n"
        "draws         32x32 pixels, 1 or 2 steps, 21.9 kB\n"
        "noise         standard Gaussian; no learned prior\n"
        "trained on    nothing\n"
        "licence       Apache-2.0\n"
        "limits        it draws noise\n"
        "measured\n"
        "  parameters  12\n"
        "\n"
        "knows 3 concepts, in the styles noto\n"
        "  faces       grinning cat\n"
        "  food        red apple, green apple\n"
    )
    assert result.stderr == "next: pahi-rt generate 'red apple'\n"


def test_show_wraps_long_lists(run: Run, edit: Callable[..., Path]) -> None:
    limits = ["first " * 40, "second"]
    folder = edit(lambda data: data["card"].update(limits=limits))
    text = run("bundles", "show", str(folder)).stdout.splitlines()
    assert max(map(len, text)) <= 100
    assert text[text.index("              second") - 1].startswith("              first")


def test_show_without_card_and_vocabulary(run: Run, edit: Callable[..., Path]) -> None:
    folder = edit(lambda data: data.update(card=None, vocabulary=None))
    result = run("bundles", "show", str(folder))
    assert result.stdout == (
        "contract: a bundle without a card\n"
        "\n"
        "draws         32x32 pixels, 1 or 2 steps, 21.9 kB\n"
        "noise         standard Gaussian; no learned prior\n"
        "licence       Apache-2.0\n"
    )
    assert result.stderr == f"next: pahi-rt generate 'a red apple' --bundle {folder}\n"
    assert json.loads(run("bundles", "show", str(folder), "--json").stdout)["concepts"] is None


def test_show_as_json(run: Run) -> None:
    document = json.loads(run("bundles", "show", "emoji", "--json").stdout)
    assert document["concepts"] == {"faces": ["grinning cat"], "food": ["red apple", "green apple"]}
    assert document["styles"] == ["noto"]


def test_show_names_the_priors(run: Run, contract_with_priors: Path) -> None:
    text = run("bundles", "show", str(contract_with_priors)).stdout.splitlines()
    assert text[2].startswith("draws         32x32 pixels, 1 or 2 steps, ")
    assert text[3] == "noise         prior pahi by default; --prior hi or gaussian"
    document = json.loads(run("bundles", "show", str(contract_with_priors), "--json").stdout)
    assert (document["steps"], document["priors"]) == ([1, 2], ["pahi", "hi"])
