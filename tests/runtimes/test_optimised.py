"""Optimised graphs in the user's cache: the same pictures with and without, and no entry is used that is not ours."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pahi_rt import runtimes
from pahi_rt.bundle import open_bundle
from pahi_rt.choice import choose
from pahi_rt.errors import BundleError
from pahi_rt.noise import draw_noise
from pahi_rt.runtimes import optimised
from pahi_rt.runtimes.onnxruntime import require_onnxruntime
from pahi_rt.runtimes.optimised import Shelf, find_shelf


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How each session was made: "kept" from an entry, or "optimised"."""
    onnxruntime, ways = require_onnxruntime(), []
    plain = onnxruntime.InferenceSession

    def make(model: bytes, options: Any, **others: Any) -> Any:
        is_kept = options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = plain(model, options, **others)
        ways.append("kept" if is_kept else "optimised")
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", make)
    return ways


def shelf(bundle: Path, prior: str | None = None) -> Shelf:
    found = find_shelf(choose(open_bundle(bundle), prior=prior), require_onnxruntime())
    assert found is not None
    return found


def draw(bundle: Path, prior: str | None = None, precision: str | None = None) -> NDArray[np.uint8]:
    """Three pictures at once, of a runtime that was loaded for them."""
    runtime = runtimes.load(open_bundle(bundle), name="onnxruntime", prior=prior, precision=precision)
    ids = np.arange(72, dtype=np.int64).reshape(3, 24)
    shape = open_bundle(bundle).manifest.image.latent_shape
    return runtime.run(ids, draw_noise([1, 2, 3], shape), np.full(3, 0.5, np.float32))


def test_the_second_start_draws_the_same_bytes(contract: Path, opened: list[str]) -> None:
    first, second, third = draw(contract), draw(contract), draw(contract)
    assert opened == ["optimised", "kept", "kept"]
    assert np.array_equal(first, second) and np.array_equal(first, third)


def test_the_built_in_bundle_draws_the_same_bytes(opened: list[str]) -> None:
    from pahi_rt.pipeline import Pipeline

    drawn = [Pipeline.load("emoji", runtime="onnxruntime")("a red apple", seed=3).tobytes() for _ in range(2)]
    assert opened == ["optimised", "kept"]
    assert drawn[0] == drawn[1]


def test_every_graph_has_an_entry_of_its_own(contract_with_priors: Path, opened: list[str]) -> None:
    kinds = ["pahi", "hi"]
    first = [draw(contract_with_priors, kind) for kind in kinds]
    second = [draw(contract_with_priors, kind) for kind in kinds]
    assert opened == ["optimised"] * 2 + ["kept"] * 2
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(first, second)


def _truncate(entry: Path) -> None:
    os.truncate(entry / "weights.bin", 100)


def _flip(name: str) -> Callable[[Path], None]:
    def damage(entry: Path) -> None:
        content = bytearray((entry / name).read_bytes())
        content[len(content) // 2] ^= 1
        (entry / name).write_bytes(content)

    return damage


def _recorded_elsewhere(entry: Path) -> None:
    record = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps({**record, "key": "0" * 64}))


def _no_json(entry: Path) -> None:
    (entry / "entry.json").write_text("{")


def _open_to_all(entry: Path) -> None:
    entry.chmod(0o777)


def _replace_with_old_times(entry: Path) -> None:
    shutil.copy2(entry / "weights.bin", entry / "new")
    os.replace(entry / "new", entry / "weights.bin")


OTHER_FILES = "entry.json is of other files"
DAMAGE = [
    (_open_to_all, "is open to others"),
    (_recorded_elsewhere, OTHER_FILES),
    *((written, OTHER_FILES) for written in (_truncate, _flip("weights.bin"), _flip("graph.onnx"))),
    (_replace_with_old_times, OTHER_FILES),
    (_no_json, "is not valid JSON"),
]


@pytest.mark.parametrize(("damage", "why"), DAMAGE)
def test_a_damaged_entry_is_refused_and_made_again(
    contract: Path, opened: list[str], damage: Callable[[Path], None], why: str
) -> None:
    first, entry = draw(contract), shelf(contract)
    damage(entry.folder)
    with pytest.raises(BundleError, match=why):
        entry.open()
    assert np.array_equal(draw(contract), first)
    assert np.array_equal(draw(contract), first)
    assert opened == ["optimised", "optimised", "kept"]


def test_another_graphs_entry_is_not_used(contract_with_priors: Path, opened: list[str]) -> None:
    first = draw(contract_with_priors, "pahi")
    draw(contract_with_priors, "hi")
    pahi, hi = (shelf(contract_with_priors, kind).folder for kind in ("pahi", "hi"))
    shutil.rmtree(pahi)
    shutil.copytree(hi, pahi)
    pahi.chmod(0o700)
    assert np.array_equal(draw(contract_with_priors, "pahi"), first)
    assert opened == ["optimised"] * 3


def test_damaged_weights_are_an_error_whatever_is_kept(folder: Path) -> None:
    draw(folder)
    content = bytearray((folder / "weights.bin").read_bytes())
    content[-1] ^= 1
    (folder / "weights.bin").write_bytes(content)
    with pytest.raises(BundleError, match="weights.bin has been changed: its sha256"):
        draw(folder)


@pytest.mark.parametrize("change", ["__version__", "get_build_info", "processor"])
def test_what_an_entry_depends_on(contract: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    onnxruntime, before = require_onnxruntime(), shelf(contract)
    if change == "processor":
        monkeypatch.setattr(optimised, "cpu_identity", lambda: "another")
    else:
        monkeypatch.setattr(onnxruntime, change, "9" if change == "__version__" else lambda: "another")
    assert shelf(contract).folder != before.folder


def test_a_large_model_is_not_kept(contract: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    monkeypatch.setattr(optimised, "MOST_WEIGHTS", 1000)
    draw(contract), draw(contract)
    assert opened == ["optimised"] * 2


def test_where_nothing_can_be_written(contract: Path, cache: Path, opened: list[str]) -> None:
    expected = draw(contract)
    shutil.rmtree(cache.parent)
    cache.parent.write_text("in the way")
    assert np.array_equal(draw(contract), expected)
    assert opened[-1] == "optimised"


def test_the_oldest_entries_go(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimised, "MOST_ENTRIES", 2)
    for number in range(4):
        monkeypatch.setattr(optimised, "cpu_identity", lambda number=number: f"processor {number}")
        draw(contract)
        os.utime(shelf(contract).folder, (number, number))
    assert len(list(shelf(contract).folder.parent.iterdir())) == 2
    assert shelf(contract).folder.is_dir()
