from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pahi_rt.archive import origin
from pahi_rt.bundle import file_record, open_bundle, verify
from pahi_rt.errors import BundleError
from pahi_rt.hub import HubId


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
    with pytest.raises(BundleError) as caught:
        open_bundle(archive)
    assert caught.value.fix == "zip real files, without --symlinks"
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


def zeros(folder: Path, size: int) -> Path:
    """The bundle with weights.bin of so many zeros, honestly listed."""
    (folder / "weights.bin").write_bytes(bytes(size))
    data = json.loads((folder / "pahi.json").read_text())
    data["files"]["weights.bin"] = file_record(folder / "weights.bin").to_dict()
    (folder / "pahi.json").write_text(json.dumps(data))
    return folder


def test_a_zip_that_claims_more_than_weights_compress_to(folder: Path, tmp_path: Path, cache: Path) -> None:
    archive = zip_folder(zeros(folder, 64 << 20), tmp_path / "c.zip")
    with pytest.raises(BundleError, match=r"claims to hold 67\d{6}, more than 100 times as many"):
        open_bundle(archive)
    assert leftovers(cache) == []


def test_a_zip_that_does_not_fit_on_the_disk(
    contract: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zip_folder(contract, tmp_path / "c.zip")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(BundleError, match="has room for 1000") as caught:
        open_bundle(archive)
    assert "XDG_CACHE_HOME" in caught.value.fix
    assert leftovers(cache) == []


def test_a_zip_with_very_many_entries(contract: Path, tmp_path: Path) -> None:
    archive = zip_folder(contract, tmp_path / "c.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        for number in range(20_000):
            opened.writestr(f"{number:08}.txt", b"")
    with pytest.raises(BundleError, match="its list of files is too long"):
        open_bundle(archive)


def test_a_zip_with_a_number_that_no_file_reaches(contract: Path, tmp_path: Path) -> None:
    archive = zip_folder(contract, tmp_path / "c.zip")
    content = bytearray(archive.read_bytes())
    content[-6:-2] = b"\xff" * 4  # where the list of files begins
    archive.write_bytes(content)
    with pytest.raises(BundleError, match="readable .zip"):
        open_bundle(archive)


@pytest.mark.parametrize("damage", ["missing", "short", "no manifest"])
def test_a_half_made_folder_in_the_cache_is_made_again(
    contract: Path, tmp_path: Path, cache: Path, damage: str
) -> None:
    archive = zip_folder(contract, tmp_path / "c.zip")
    made = open_bundle(archive).path
    if damage == "short":
        (made / "weights.bin").chmod(0o600)
        os.truncate(made / "weights.bin", 10)
    else:
        (made / ("weights.bin" if damage == "missing" else "pahi.json")).unlink()
    verify(open_bundle(archive))
    assert leftovers(cache) == [made.name]


def test_the_cache_is_private_and_read_only(contract: Path, tmp_path: Path, cache: Path) -> None:
    made = open_bundle(zip_folder(contract, tmp_path / "c.zip")).path
    modes = {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    assert modes == {0o444}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made, cache, cache.parent)} == {0o700}


@pytest.mark.parametrize("calls", ["kill()", "replace(*paths), kill()"])
def test_what_a_killed_unpacking_left_is_removed(calls: str, contract: Path, tmp_path: Path, cache: Path) -> None:
    archive = zip_folder(contract, tmp_path / "c.zip")
    script = f"""
import os, pahi_rt.archive
from pahi_rt.bundle import open_bundle
replace, kill = pahi_rt.archive._replace, lambda: os.kill(os.getpid(), 9)
pahi_rt.archive._replace = lambda *paths: ({calls})
open_bundle({str(archive)!r})
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert done.returncode == -9
    assert any(name.startswith(".pahi-rt-unpack-") for name in leftovers(cache))
    made = open_bundle(archive).path
    assert leftovers(cache) == [made.name]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Stands in for huggingface_hub's snapshot_download: a repository of one bundle."""

    def __init__(self, bundle: Path, cache: Path) -> None:
        self.bundle, self.cache = bundle, cache
        self.asked: list[tuple[str, str | None, list[str]]] = []
        self.lacks: set[str] = set()
        self.fails_at: str | None = None

    def snapshot_download(
        self,
        repository: str,
        *,
        revision: str | None = None,
        allow_patterns: list[str],
        ignore_patterns: list[str],
        local_dir: Path | None,
    ) -> str:
        self.asked.append((repository, revision, allow_patterns))
        folder = local_dir or self.cache / "snapshots" / COMMIT
        folder.mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            if name == self.fails_at:
                raise ConnectionError("Name or service not known\nand more")
            if name not in self.lacks:
                shutil.copy(self.bundle / name, folder / name)
        return str(folder)


@pytest.fixture
def repository(contract: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(contract, tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", found.snapshot_download)
    return found


def test_a_hub_repository(repository: Hub, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = open_bundle("someone/contract")
    verify(bundle)
    assert bundle.path == cache / "hub" / "someone--contract" / COMMIT
    files = list(bundle.manifest.files)
    # The files are those of the commit that the manifest came from.
    expected = [("someone/contract", None, ["pahi.json"]), ("someone/contract", COMMIT, ["pahi.json", *files])]
    assert repository.asked == expected
    assert caplog.messages == [
        f"hub:someone/contract is commit {COMMIT} now; hub:someone/contract@{COMMIT} stays the same"
    ]
    assert origin(bundle.path) == HubId("someone/contract", COMMIT)
    assert {stat.S_IMODE((bundle.path / name).stat().st_mode) for name in files} == {0o444}
    repository.asked.clear()
    open_bundle("someone/contract")
    assert repository.asked == expected[:1]


def test_a_hub_repository_at_a_commit(
    repository: Hub, here: Path, contract: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A folder of that name is passed over.
    shutil.copytree(contract, here / "someone" / "contract")
    bundle = open_bundle(f"hub:someone/contract@{COMMIT}")
    assert bundle.path.name == COMMIT
    assert [revision for _, revision, _ in repository.asked] == [COMMIT, COMMIT]
    assert caplog.messages == []
    assert open_bundle("someone/contract").path == Path("someone/contract")
    assert origin(Path("someone/contract")) is None


def test_a_hub_that_does_not_answer(repository: Hub) -> None:
    repository.fails_at = "pahi.json"
    with pytest.raises(BundleError) as caught:
        open_bundle("someone/contract")
    assert caught.value.fix == "check the name, the network and `hf auth login`"
    assert "\n" not in caught.value.what


def test_an_unfinished_download_says_so_and_goes_on(repository: Hub) -> None:
    repository.fails_at = "weights.bin"
    with pytest.raises(BundleError, match=r"is not finished, \d of \d files are there: .*Name or service"):
        open_bundle("someone/contract")
    repository.fails_at = None
    verify(open_bundle("someone/contract"))


def test_a_hub_repository_that_lacks_a_file(repository: Hub) -> None:
    # Without a network the hub gives what it has, and says nothing.
    repository.lacks = {"weights.bin"}
    with pytest.raises(BundleError) as caught:
        open_bundle("someone/contract")
    assert caught.value.fix == "check the network and run this again, or name another repository or revision"


def test_a_hub_repository_that_is_no_bundle(repository: Hub) -> None:
    repository.lacks = {"pahi.json"}
    with pytest.raises(BundleError) as caught:
        open_bundle("someone/something-else")
    assert caught.value.fix == "name a repository of a bundle"


def test_something_that_is_no_id_after_hub() -> None:
    with pytest.raises(BundleError, match="there is no bundle 'hub:emoji'"):
        open_bundle("hub:emoji")
