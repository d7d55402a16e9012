"""Pages of mapped files: given back, read again, and never taken from a mapping that was written."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pahi_rt import Pipeline
from pahi_rt.bundle import open_bundle
from pahi_rt.runtimes import mapped
from pahi_rt.runtimes.mapped import find_mappings, release_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
SIZE = 2**22


def resident(path: Path) -> int:
    """Bytes of a file that are in this process's memory."""
    lines, inside, total = Path("/proc/self/smaps").read_text().splitlines(), False, 0
    for line in lines:
        if "-" in line.split()[0]:
            inside = line.endswith(str(path.resolve()))
        elif inside and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


@contextmanager
def mapping(path: Path, access: int) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=access) as content:
        yield content


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "the weights.bin"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def test_pages_are_given_back_and_read_again(weights: Path) -> None:
    with mapping(weights, mmap.ACCESS_READ) as content:
        assert content[:] and resident(weights) == SIZE
        release_pages([weights])
        assert resident(weights) == 0
        assert content[SIZE - 1] == 255 and content[:256] == bytes(range(256))


def test_other_files_are_left_alone(weights: Path, tmp_path: Path) -> None:
    with mapping(weights, mmap.ACCESS_READ) as content:
        assert content[:]
        release_pages([tmp_path / "another.bin"])
        assert resident(weights) == SIZE


def test_what_was_written_is_kept(weights: Path) -> None:
    with mapping(weights, mmap.ACCESS_COPY) as content:
        content[0] = 7
        release_pages([weights])
        assert content[0] == 7 and not list(find_mappings([weights]))


def test_a_system_without_proc(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mapped, "_MAPS", tmp_path / "none")
    release_pages([weights])


@pytest.mark.openvino
def test_openvino_keeps_its_own_copy_of_the_weights_alone() -> None:
    bundle = open_bundle("emoji")
    (path,) = (bundle.path / name for name in bundle.graph(1).weights if name.startswith("weights"))
    pipeline = Pipeline.load("emoji", runtime="openvino", threads=1)
    first = pipeline("a red apple", seed=1)
    assert resident(path) < path.stat().st_size / 10
    np.testing.assert_array_equal(first, pipeline("a red apple", seed=1))
