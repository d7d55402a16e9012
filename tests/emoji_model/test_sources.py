import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emoji_model import sources
from emoji_model.sources import Package
from pahi_rt.errors import PahiError


def tarball(path: Path, members: dict[str, Any]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_wanted_concepts_are_many_and_unique() -> None:
    wanted = sources.wanted()
    assert len(wanted) >= 300
    assert "️" not in "".join(wanted)
    assert {"faces", "animals", "food", "travel", "hearts"} <= set(wanted.values())


def test_missing_npm_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PahiError, match="npm is not installed") as caught:
        sources.fetch(sources.LABELS, tmp_path / "packages")
    assert "install Node.js" in caught.value.fix


def test_another_tarball_is_refused(tmp_path: Path) -> None:
    package = Package("@set/x", "1.0.0", "0" * 64, "MIT")
    tarball(tmp_path / "set-x-1.0.0.tgz", {"chars.json": {}})
    with pytest.raises(PahiError, match="not the pinned @set/x"):
        sources.fetch(package, tmp_path)


def test_concepts_are_joined_from_the_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    icons = {"icons": {"cat": {"body": '<path d="M0 0h9v9z"/>'}}, "width": 9, "height": 9}
    # One set keys the character with its variation selector, the others without.
    sheets = {style: {"chars.json": {"1f431" if style != "noto" else "1f431-fe0f": "cat"}, "icons.json": icons}
              for style in sources.STYLES}  # fmt: skip
    entry = {"emoji": "🐱️", "hexcode": "1F431", "label": "Cat face", "tags": ["animal", "cat"]}
    labels = {"en/data.json": [entry]} | {
        f"en/shortcodes/{name}.json": {"1F431": ["cat_face", "kitty"]} for name in ("cldr", "github", "emojibase")
    }
    packages = {**sources.STYLES, "labels": sources.LABELS}
    contents: dict[str, dict[str, Any]] = {**sheets, "labels": labels}
    for name, members in contents.items():
        path = tmp_path / f"{packages[name].name.lstrip('@').replace('/', '-')}-{packages[name].version}.tgz"
        digest = hashlib.sha256(tarball(path, members).read_bytes()).hexdigest()
        packages[name] = replace(packages[name], sha256=digest)
    monkeypatch.setattr(sources, "LABELS", packages.pop("labels"))
    monkeypatch.setattr(sources, "STYLES", packages)
    monkeypatch.setattr(sources, "wanted", lambda: {"🐱": "animals"})
    (concept,) = sources.load_concepts(tmp_path)
    assert concept.label == "cat face"
    assert concept.synonyms == ("kitty",)
    assert all('viewBox="0 0 9 9"' in svg for svg in concept.svg.values())


def test_a_file_that_a_package_lacks_is_named(tmp_path: Path) -> None:
    path = tarball(tmp_path / "some.tgz", {"package.json": {}})
    with pytest.raises(PahiError, match="has no file data.json"):
        sources.read_member(path, "data.json")
