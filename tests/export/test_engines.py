"""Plans in a bundle: listed, checked, replaced; and a bundle that stays as it was if one cannot be built."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pahi_rt.bundle import Bundle, open_bundle, verify
from pahi_rt.errors import BundleError, OutputError, PahiError
from pahi_rt.export import engines
from pahi_rt.export.engines import add_engines
from pahi_rt.export.tensorrt import PlanSettings
from pahi_rt.scratch import claim

trt = pytest.importorskip("tensorrt_rtx")

SETTINGS = PlanSettings(compute_capabilities=("86", "120"), batch=(1, 1, 2))
PLANS = [f"engines/{steps}-step-tensorrt-rtx-sm86-sm120.plan" for steps in ("one", "two")]


@pytest.fixture
def built(folder: Path) -> Bundle:
    return add_engines(str(folder), SETTINGS)


def test_every_graph_has_its_plan(built: Bundle) -> None:
    verify(built)
    for engine, file, graph in zip(built.manifest.engines, PLANS, built.manifest.graphs, strict=True):
        assert (engine.file, engine.graph) == (file, graph.file)
        assert engine.graph_sha256 == built.manifest.files[graph.file].sha256
        assert (engine.runtime, engine.runtime_version) == ("tensorrt-rtx", trt.__version__)
        assert (engine.compute_capabilities, engine.batch) == (("86", "120"), (1, 1, 2))
    assert not [name for name in os.listdir(built.path) if name.startswith(".")]


def test_the_same_plan_is_replaced_and_another_added(built: Bundle) -> None:
    stages: list[str] = []
    again = add_engines(built, SETTINGS, on_stage=lambda name, seconds, size: stages.append(name))
    assert [engine.file for engine in again.manifest.engines] == PLANS
    assert stages == [f"build {file}" for file in PLANS]
    more = add_engines(again, PlanSettings(), precision="fp32")
    assert len(more.manifest.engines) == 4
    verify(more)


def test_a_bundle_stays_as_it_was(folder: Path) -> None:
    before = sorted(os.listdir(folder)), (folder / "pahi.json").read_bytes()
    for settings, precision in ((PlanSettings(compute_capabilities=("1",)), None), (SETTINGS, "int3")):
        with pytest.raises(PahiError):
            add_engines(str(folder), settings, precision=precision)
    assert (sorted(os.listdir(folder)), (folder / "pahi.json").read_bytes()) == before


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engines, "build_plan", fail)
    with pytest.raises(OutputError, match="engines cannot be written: No space left"):
        add_engines(open_bundle(folder), SETTINGS)


def test_two_builds_of_one_bundle(folder: Path) -> None:
    for target, verb in ((folder / "engines", "build"), (folder, "export")):
        with claim(target, verb), pytest.raises(OutputError, match=f"another {verb} is writing"):
            add_engines(str(folder), SETTINGS)


@pytest.mark.parametrize("by_path", [False, True])
def test_the_built_in_bundle_is_left_alone(by_path: bool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(open_bundle("emoji").path)
    with pytest.raises(BundleError, match="is part of the package") as caught:
        add_engines(str(tmp_path / "link") if by_path else "emoji", SETTINGS)
    assert caught.value.fix.startswith("build in a copy: cp -r ")


def test_a_bundle_in_the_cache_is_left_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = tmp_path / "pahi-rt" / "bundles" / "hub" / "owner--name"
    shutil.copytree(folder, cached)
    with pytest.raises(BundleError, match="or of a cache"):
        add_engines(str(cached), SETTINGS)
