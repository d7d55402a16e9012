"""What was checked is what is used: files that are swapped, linked or written to between the two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pahi_rt import runtimes
from pahi_rt.bundle import file_record, open_bundle
from pahi_rt.errors import BundleError
from pahi_rt.listed import open_listed, read_bounded
from pahi_rt.manifest import FileRecord
from pahi_rt.pipeline import Pipeline

FIX = "mend it"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"content" * 1000)
    return tmp_path / "file"


@pytest.fixture
def record(path: Path) -> FileRecord:
    return file_record(path)


def test_what_is_read_and_copied(path: Path, record: FileRecord, tmp_path: Path) -> None:
    with open_listed(path, record, FIX) as file:
        file.check()
        assert file.read() == b"content" * 1000
        file.copy(tmp_path / "copy")
        file.confirm()
    assert (tmp_path / "copy").read_bytes() == b"content" * 1000


def test_the_file_that_was_opened_is_read(path: Path, record: FileRecord, tmp_path: Path) -> None:
    """Whatever has been put in its place."""
    with open_listed(path, record, FIX) as file:
        (tmp_path / "evil").write_bytes(b"evil!!!" * 1000)
        os.replace(tmp_path / "evil", path)
        assert file.read() == b"content" * 1000
        with pytest.raises(BundleError, match="has been changed while it was loaded") as caught:
            file.confirm()
    assert "leave the bundle alone" in caught.value.fix


def swap(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.write_bytes(b"evil!!!" * 1000)


def swap_there_and_back(path: Path) -> None:
    swap(path)
    os.replace(path.with_name("aside"), path)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"evil")


CHANGES = [
    swap,
    swap_there_and_back,
    overwrite,
    lambda path: os.truncate(path, 0),
    lambda path: os.truncate(path, 7000),  # its own size, which the system takes for a write
    lambda path: path.unlink(),
    lambda path: path.chmod(0o600),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(path: Path, record: FileRecord, change: Callable[[Path], object]) -> None:
    with open_listed(path, record, FIX) as file:
        file.check()
        change(path)
        with pytest.raises(BundleError, match="has been changed while it was loaded"):
            file.confirm()


def test_a_link_that_is_led_elsewhere_and_back(path: Path, record: FileRecord, tmp_path: Path) -> None:
    link, evil = tmp_path / "link", tmp_path / "evil"
    evil.write_bytes(b"evil!!!" * 1000)
    link.symlink_to("file")
    with open_listed(link, record, FIX) as file:
        file.confirm()
        link.unlink()
        link.symlink_to("evil")
        link.unlink()
        link.symlink_to("file")
        with pytest.raises(BundleError, match="has been changed while it was loaded"):
            file.confirm()


def test_what_is_no_file(tmp_path: Path, record: FileRecord) -> None:
    """A FIFO, which nobody writes to, is not waited for."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "fifo", tmp_path / "folder", Path("/dev/zero")):
        with pytest.raises(BundleError, match=f"{path} is not a file"), open_listed(path, record, FIX):
            pass
        with pytest.raises(BundleError, match=f"{path} is not a file"):
            read_bounded(path, 10, FIX)
    for missing in (tmp_path / "missing", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(BundleError, match="cannot be read"):
            read_bounded(missing, 10, FIX)


def test_bounded(path: Path) -> None:
    assert read_bounded(path, 7000, FIX) == b"content" * 1000
    with pytest.raises(BundleError, match="has more than 6999 bytes"):
        read_bounded(path, 6999, FIX)


@pytest.mark.parametrize("name", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.openvino)])
@pytest.mark.parametrize("file", ["weights.bin", "one-step.onnx"])
def test_a_swap_between_check_and_load(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str) -> None:
    """At the worst moment: when all has been checked, and nothing has been loaded."""
    evil = folder.with_name("evil")
    evil.write_bytes((folder / ("two-step.onnx" if file.endswith("onnx") else file)).read_bytes())
    place = "onnxruntime.InferenceSession" if name == "onnxruntime" else "pahi_rt.runtimes.openvino.compile_graph"
    module, _, function = place.rpartition(".")
    original = getattr(import_module(module), function)

    def swapped(*given: object, **named: object) -> object:
        os.replace(evil, folder / file)
        return original(*given, **named)

    monkeypatch.setattr(place, swapped)
    with pytest.raises(BundleError, match=f"{file} has been changed while it was loaded"):
        runtimes.load(open_bundle(folder), name=name)


@pytest.mark.parametrize("moved", [".", "inner"])
def test_a_folder_that_is_moved_away_and_back(folder: Path, moved: str) -> None:
    """The bundle's own, and one inside it, whose files have been left alone."""
    (folder / "inner").mkdir()
    (folder / "weights.bin").rename(folder / "inner/weights.bin")
    (folder / "weights.bin").symlink_to("inner/weights.bin")
    bundle, place, aside = open_bundle(folder), folder / moved, folder.with_name("aside")
    with pytest.raises(BundleError, match="has been changed while it was loaded"), bundle.opened(bundle.graph(1)):
        place.resolve().rename(aside)
        aside.rename(place.resolve())


def test_other_bundles_beside_it_may_come_and_go(folder: Path) -> None:
    bundle = open_bundle(folder)
    with bundle.opened(bundle.graph(1)):
        folder.with_name("other").mkdir()


def test_a_swap_that_makes_loading_fail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The swap is the reason, not what the runtime says of what it found."""
    import onnxruntime

    original = onnxruntime.InferenceSession

    def cut_off(*given: object, **named: object) -> object:
        (folder / "new").write_bytes(b"")
        os.replace(folder / "new", folder / "weights.bin")
        return original(*given, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", cut_off)
    with pytest.raises(BundleError, match=r"weights\.bin has been changed while it was loaded"):
        runtimes.load(open_bundle(folder), name="onnxruntime")


def test_the_graph_that_was_checked_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime is given the bytes: no other graph is ever parsed."""
    import onnxruntime

    seen, session = [], onnxruntime.InferenceSession
    content = (folder / "one-step.onnx").read_bytes()

    def spy(model: object, *more: object, **named: object) -> object:
        seen.append(model)
        return session(model, *more, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    runtimes.load(open_bundle(folder), name="onnxruntime")
    assert seen == [content]


SWAPPING_WEIGHTS = """
import os, shutil, sys, time
place, evil = sys.argv[1] + "/weights-w16.bin", sys.argv[2] + "/weights-w16.bin"
good = place + ".good"
os.link(place, good)
while True:
    for content in (good, evil):
        shutil.copyfile(content, place + ".new")
        os.replace(place + ".new", place)
        time.sleep(0.02)
"""
SWAPPING_FOLDERS = """
import ctypes, os, sys, time
place, evil = map(os.fsencode, sys.argv[1:])
while True:
    ctypes.CDLL(None).renameat2(-100, place, -100, evil, 2)  # each takes the other's name
    time.sleep(0.005)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [SWAPPING_WEIGHTS, SWAPPING_FOLDERS])
def test_forty_loads_beside_a_process_that_swaps(tmp_path: Path, program: str) -> None:
    """Each draws the right picture, or none."""
    good, evil = copy_emoji(tmp_path / "good"), copy_emoji(tmp_path / "evil")
    with (evil / "weights-w16.bin").open("r+b") as weights:
        weights.write(bytes(2_000_000))
    expected = Pipeline.load("emoji", threads=1)("panda", seed=3).tobytes()
    found: Counter[str] = Counter()
    with subprocess.Popen([sys.executable, "-c", program, str(good), str(evil)]) as process:
        try:
            for _ in range(40):
                try:
                    drawn = Pipeline.load(good, threads=1)("panda", seed=3).tobytes()
                    found["right" if drawn == expected else "wrong"] += 1
                except BundleError as error:
                    assert "has been changed" in error.what
                    found["refused"] += 1
        finally:
            process.kill()
    assert found["wrong"] == 0
    assert found["refused"] > 0
    assert found.total() == 40


def copy_emoji(folder: Path) -> Path:
    source = open_bundle("emoji")
    folder.mkdir()
    for name in source.manifest.files:
        source.copy(name, folder / name)
    (folder / "pahi.json").write_bytes((source.path / "pahi.json").read_bytes())
    return folder


def test_a_file_that_is_replaced_right_after_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed is the open file, and a runtime would load the one that has come into its place."""
    path, other = tmp_path / "weights.bin", tmp_path / "other"
    path.write_bytes(b"good")
    other.write_bytes(b"evil")
    opened = os.open

    def swap(name: Any, *args: Any) -> int:
        descriptor = opened(name, *args)
        other.replace(path)
        monkeypatch.setattr(os, "open", opened)
        return descriptor

    record = file_record(path)
    monkeypatch.setattr(os, "open", swap)
    with open_listed(path, record, fix="") as file:
        file.check()
        with pytest.raises(BundleError, match="changed while it was loaded"):
            file.confirm()
