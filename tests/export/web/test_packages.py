"""npm's packages: from a folder, from the cache, from a registry that lies here; and only those that are pinned."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.export.web.packages import Package, fetch


def make_tarball(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


CONTENT = make_tarball({"dist/a.js": b"a", "dist/b.js": b"bb"})
PACKAGE = Package("@scope/thing", "1.2.3", hashlib.sha256(CONTENT).hexdigest(), "MIT")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a registry."""
    folder = tmp_path / "registry"
    place = folder / "@scope" / "thing" / "-" / "thing-1.2.3.tgz"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", folder.as_uri())
    return place


def test_a_package_is_downloaded_once(registry: Path) -> None:
    assert fetch(PACKAGE).read("dist/b.js", "dist/a.js") == [b"bb", b"a"]
    registry.unlink()
    assert fetch(PACKAGE).read("dist/a.js") == [b"a"]


def test_without_a_network_the_fix_says_what_to_carry(registry: Path) -> None:
    registry.unlink()
    with pytest.raises(PahiError) as caught:
        fetch(PACKAGE)
    assert "npm pack" in caught.value.fix and "--packages" in caught.value.fix


@pytest.mark.parametrize("name", ["http://localhost:port", "http://local host", "nothing"])
def test_what_is_no_registry(registry: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", name)
    with pytest.raises(PahiError) as caught:
        fetch(PACKAGE)
    assert "--packages" in caught.value.fix


def test_another_tarball_is_refused_and_not_kept(registry: Path, tmp_path: Path) -> None:
    registry.write_bytes(CONTENT + b"\0")
    with pytest.raises(PahiError) as caught:
        fetch(PACKAGE)
    assert "NPM_CONFIG_REGISTRY" in caught.value.fix
    registry.write_bytes(CONTENT)
    assert fetch(PACKAGE).read("dist/a.js") == [b"a"]


def test_another_tarball_in_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scope-thing-1.2.3.tgz").write_bytes(CONTENT + b"\0")
    with pytest.raises(PahiError) as caught:
        fetch(PACKAGE, tmp_path)
    assert caught.value.fix.startswith("rm ")


def test_a_folder_must_hold_the_package(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(PahiError) as caught:
        fetch(PACKAGE, tmp_path)
    assert "npm pack" in caught.value.fix
    (tmp_path / "scope-thing-1.2.3.tgz").write_bytes(CONTENT)
    assert fetch(PACKAGE, tmp_path).read("dist/a.js") == [b"a"]
