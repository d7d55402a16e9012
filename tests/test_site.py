"""The documentation as a site: its pages are all in the navigation, and it quotes messages that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pahi_rt
from pahi_rt import errors
from tests.messages import DATA

ROOT = Path(__file__).parents[1]
FOREIGN = re.compile(r"!\[[^\]]*\]\(https?:|<(script|img|iframe)[^>]*\ssrc=.https?:|^```mermaid", re.MULTILINE)
PLACE = re.compile(r"\{[^{}]*\}")


def pages(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from pages(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_once() -> None:
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(pages(config["nav"])) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_page_on_python_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    assert {name for name in pahi_rt.__all__ if not name.startswith("__")} - set(dir(errors)) == shown - {"errors"}


def test_no_page_shows_what_another_host_has() -> None:
    """No page asks for others' pictures, scripts or frames, or has a diagram that Material would fetch a script for."""
    for path in (ROOT / "docs").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"!\[[^\]]*\]\(https?:|<(script|img|iframe)[^>]*\ssrc=.https?:|^```mermaid", text, re.M), (
            path
        )


@pytest.mark.parametrize("page", ["errors.md"])
def test_a_message_that_is_quoted_can_be_met(page: str) -> None:
    """Each line `error: ...` of a page fits a message of the source, whatever stands in its places."""
    known = [
        re.compile(".*".join(map(re.escape, PLACE.split(line.partition(": ")[2]))))
        for line in (DATA / "errors.txt").read_text(encoding="utf-8").split("\n")
        if re.match(r"\w+: ", line)
    ]
    known = [pattern for pattern in known if len(pattern.pattern.replace(".*", "")) > 12]
    quoted = re.findall(r"^error: (.+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M)
    assert quoted
    assert [text for text in quoted if not any(pattern.fullmatch(text) for pattern in known)] == []
