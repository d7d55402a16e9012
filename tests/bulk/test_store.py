"""The same run in object stores: one in memory, one that fails, and a disk that is full."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pahi_rt.bulk import store as stores
from pahi_rt.bulk.crew import Job, open_artist
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.store import open_store
from pahi_rt.errors import OutputError, PahiError
from tests.bulk.conftest import Bulk, contents


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def memory() -> Iterator[Any]:
    place = fsspec.filesystem("memory")
    yield place
    place.rm("/", recursive=True)


def download(place: Any, path: str, folder: Path) -> Path:
    place.get(path.rstrip("/") + "/", str(folder), recursive=True)
    return folder


class Failing(MemoryFileSystem):  # type: ignore[misc]  # fsspec counts as untyped
    """Every transfer fails as long as `left` is not 0."""

    protocol = "failing"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    left = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("failing://", "memory://")))

    def put_file(self, lpath: str, rpath: str, **rest: Any) -> None:
        if Failing.left:
            Failing.left -= 1
            if not rpath.endswith(".json"):
                self.pipe_file(rpath, b"half")  # a store that shows uploads in several parts before their end
            raise ConnectionResetError(errno.ECONNRESET, "the store went away")
        super().put_file(lpath, rpath, **rest)


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_an_object_store_gets_the_bytes_of_a_folder(
    bulk: Bulk, prompts: Path, tmp_path: Path, memory: Any, output_format: str
) -> None:
    bulk(prompts, tmp_path / "out", output_format=output_format)
    bulk(prompts, "memory://bucket/out", output_format=output_format)
    bulk(prompts, "memory://bucket/out", output_format=output_format)
    assert bulk.drawn == []  # type: ignore[attr-defined]
    assert contents(download(memory, "/bucket/out", tmp_path / "got")) == contents(tmp_path / "out")
    bulk(prompts, "memory://bucket/out", mode="overwrite", output_format=output_format)
    assert len(bulk.drawn) == 3  # type: ignore[attr-defined]


def test_a_store_that_fails_for_a_while_costs_nothing(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)
    Failing.left = 2
    assert bulk(prompts, "failing://out").successes == 10
    assert Failing.left == 0


def test_a_store_that_keeps_failing_ends_the_run_which_goes_on_later(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)
    place = Failing()
    bulk(prompts, tmp_path / "out")
    Failing.left = 1000
    for _ in range(3):
        with pytest.raises(OutputError) as caught:
            bulk(prompts, "failing://again")
        assert "same command" in caught.value.fix
    Failing.left = 0
    bulk(prompts, "failing://again")
    assert contents(download(place, "/again", tmp_path / "got")) == contents(tmp_path / "out")


@pytest.mark.parametrize("who", ["driver", "worker"])
def test_what_a_killed_upload_has_left_here_is_removed(
    bulk: Bulk,
    prompts: Path,
    tmp_path: Path,
    contract: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    script = f"""
import os, tempfile
from pahi_rt.bulk.store import open_store
tempfile.tempdir = {str(tmp_path / "tmp")!r}
with open_store("memory://out").workshop("00000"):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    if who == "driver":
        bulk(prompts, "memory://other")
    else:
        open_artist(Job(str(contract), "onnxruntime", 1, "memory://other", settings, {}))
    assert not list((tmp_path / "tmp").iterdir())


class Buckets(MemoryFileSystem):  # type: ignore[misc]  # fsspec counts as untyped
    """An object store, whose makedirs would make a bucket."""

    protocol = ("s3", "buckets")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("buckets://", "memory://")))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise AssertionError(path)


def test_no_bucket_is_made() -> None:
    fsspec.register_implementation("buckets", Buckets, clobber=True)
    open_store("buckets://mistyped/out").prepare()


def test_a_url_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(PahiError) as caught:
        open_store("s3://bucket/out")
    assert "s3fs" in caught.value.fix


def test_a_full_disk_leaves_no_half_shard(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    """No file may become larger than the tar: a disk that is full, as the process sees it."""
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
        with pytest.raises(OutputError) as caught:
            bulk(prompts, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "same command" in caught.value.fix
    assert sorted(path.name for path in out.iterdir()) == ["bulk.json"]
    bulk(prompts, out)
    bulk(prompts, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_pictures_are_on_the_disk_before_their_names(
    bulk: Bulk, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[list[str]] = []
    monkeypatch.setattr(os, "sync", lambda: names.append(sorted(path.name for path in (tmp_path / "out").glob("0*"))))
    bulk(prompts, tmp_path / "out", output_format="files", number_sample_per_shard=5)
    assert names == [[], ["00000", "00000.parquet", "00000_stats.json"]]


def test_a_folder_that_two_runs_put_into_place_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, target, move = open_store(str(tmp_path / "out")), tmp_path / "out" / "00000", os.replace
    target.mkdir(parents=True)
    (target / "000000.png").write_bytes(b"picture")

    def move_and_put_another(one: Path, two: Any) -> None:
        move(one, two)
        if one == target:
            monkeypatch.setattr(os, "replace", move)
            shutil.copytree(two, target)

    monkeypatch.setattr(os, "replace", move_and_put_another)
    with store.workshop("00000_stats.json") as folder:
        store.publish(Path(shutil.copytree(target, folder / "00000")))
    assert store.read("00000/000000.png") == b"picture"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00000"]


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    store.prepare()
    with pytest.raises(OutputError, match="out/00000.tar cannot be read"):
        store.open("00000.tar")
    with pytest.raises(OutputError) as caught, store.workshop("00000_stats.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert f"free some space in {tmp_path / 'out'}" in caught.value.fix


@pytest.mark.slow
def test_a_real_full_disk(prompts: Path, tmp_path: Path, contract: Path) -> None:
    """A file system of its own, too small for the second shard; then a larger one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        words = ["bulk", prompts, disk / "out", "--bundle", contract, "--number-sample-per-shard", "4"]
        run = [sys.executable, "-c", "from pahi_rt.cli import main; main()", *map(str, words)]
        run += ["--output-format", "webdataset", "--processes-count", "1"]
        first = subprocess.run(run, capture_output=True, text=True, check=False)
        assert first.returncode == 1
        assert "fix: free some space" in first.stderr
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        subprocess.run(run, check=True, capture_output=True)
        stats = [json.loads(path.read_text()) for path in (disk / "out").glob("*_stats.json")]
        assert sum(one["successes"] for one in stats) == 10
    finally:
        subprocess.run(["umount", str(disk)], check=True)
