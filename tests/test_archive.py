from __future__ import annotations

import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle, verify
from pahi_rt.errors import BundleError


def zip_folder(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    return target


def add_entry(archive: Path, entry: zipfile.ZipInfo | str, content: bytes) -> Path:
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(entry, content)
    return archive


def leftovers(cache: Path) -> list[str]:
    return os.listdir(cache) if cache.exists() else []


@pytest.mark.parametrize("prefix", ["", "contract/"])
def test_a_zip_is_unpacked_once(contract: Path, tmp_path: Path, cache: Path, prefix: str) -> None:
    archive = zip_folder(contract, tmp_path / "contract.zip", prefix)
    bundle = open_bundle(archive)
    assert bundle.path.parent == cache
    assert leftovers(cache) == [bundle.path.name]
    verify(bundle)
    before = bundle.path.stat().st_mtime_ns
    assert open_bundle(str(archive)).path.stat().st_mtime_ns == before


def test_files_that_are_not_listed_stay_in_the_zip(contract: Path, tmp_path: Path) -> None:
    archive = add_entry(zip_folder(contract, tmp_path / "c.zip"), "README.md", b"x")
    assert sorted(os.listdir(open_bundle(archive).path)) == sorted(os.listdir(contract))


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt"])
def test_a_zip_that_would_write_outside(contract: Path, tmp_path: Path, cache: Path, name: str) -> None:
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = entry.orig_filename = name
    archive = add_entry(zip_folder(contract, tmp_path / "c.zip"), entry, b"evil")
    with pytest.raises(BundleError, match="outside the bundle"):
        open_bundle(archive)
    assert leftovers(cache) == []
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_zip_with_a_link(contract: Path, tmp_path: Path, cache: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = add_entry(zip_folder(contract, tmp_path / "c.zip"), entry, b"/etc/passwd")
    with pytest.raises(BundleError, match="is a link"):
        open_bundle(archive)
    assert leftovers(cache) == []


def test_a_zip_with_a_pickle(contract: Path, tmp_path: Path) -> None:
    archive = add_entry(zip_folder(contract, tmp_path / "c.zip"), "model.pt", b"x")
    with pytest.raises(BundleError, match="pickle"):
        open_bundle(archive)


def test_a_zip_bomb_stops_at_the_listed_size(folder: Path, tmp_path: Path, cache: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(32 << 20))
    archive = zip_folder(folder, tmp_path / "c.zip")
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="weights.bin is not what the manifest says"):
        open_bundle(archive)
    assert leftovers(cache) == []


def test_a_tampered_or_short_zip_leaves_nothing(folder: Path, tmp_path: Path, cache: Path) -> None:
    content = bytearray((folder / "weights.bin").read_bytes())
    content[0] ^= 1
    (folder / "weights.bin").write_bytes(content)
    with pytest.raises(BundleError, match="not what the manifest says"):
        open_bundle(zip_folder(folder, tmp_path / "tampered.zip"))
    (folder / "weights.bin").unlink()
    with pytest.raises(BundleError, match="lacks weights.bin"):
        open_bundle(zip_folder(folder, tmp_path / "short.zip"))
    assert leftovers(cache) == []


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_zip(contract: Path, tmp_path: Path, keep: float) -> None:
    archive = zip_folder(contract, tmp_path / "c.zip")
    os.truncate(archive, int(keep * archive.stat().st_size) if keep < 1 else int(keep))
    with pytest.raises(BundleError, match="not a readable .zip"):
        open_bundle(archive)


def test_a_damaged_zip(contract: Path, tmp_path: Path, cache: Path) -> None:
    archive = zip_folder(contract, tmp_path / "c.zip")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo("weights.bin").header_offset
    content[start + 500] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(BundleError, match=r"c\.zip"):
        open_bundle(archive)
    assert leftovers(cache) == []


def test_a_zip_without_manifest(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("deep/er/pahi.json", "{}")
    with pytest.raises(BundleError, match="no pahi.json at its top"):
        open_bundle(tmp_path / "c.zip")


def test_a_cache_that_cannot_be_written(contract: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("a file where the cache should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "occupied"))
    with pytest.raises(BundleError, match="cannot be unpacked") as caught:
        open_bundle(zip_folder(contract, tmp_path / "c.zip"))
    assert "XDG_CACHE_HOME" in caught.value.fix


def test_a_hub_repository(contract: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    asked: list[list[str]] = []

    def snapshot_download(repository: str, *, allow_patterns: list[str], local_dir: Path) -> str:
        assert repository == "someone/contract"
        asked.append(allow_patterns)
        local_dir.mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            shutil.copy(contract / name, local_dir / name)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    bundle = open_bundle("someone/contract")
    verify(bundle)
    assert bundle.path == cache / "hub" / "someone--contract"
    assert asked == [["pahi.json"], list(bundle.manifest.files)]


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(BundleError, match="no bundle 'someone/contract' here or on the hub: Name") as caught:
        open_bundle("someone/contract")
    assert "\n" not in caught.value.what


def test_a_hub_repository_that_is_no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: "")
    with pytest.raises(BundleError, match="has no pahi.json"):
        open_bundle("someone/something-else")
