"""Plans in a bundle: listed, checked, replaced; and a bundle that stays as it was if one cannot be built."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pahi_rt.bundle import Bundle, changing, open_bundle, verify, write_manifest
from pahi_rt.errors import BundleError, OutputError, PahiError
from pahi_rt.export import plans
from pahi_rt.export.plans import add_plans
from pahi_rt.export.tensorrt import PlanSettings
from pahi_rt.manifest import Manifest
from pahi_rt.scratch import claim

trt = pytest.importorskip("tensorrt_rtx")

SETTINGS = PlanSettings(compute_capabilities=("86", "120"), batch=(1, 1, 2))
PLANS = [f"engines/{steps}-step-tensorrt-rtx-sm86-sm120.plan" for steps in ("one", "two")]


@pytest.fixture
def built(folder: Path) -> Bundle:
    return add_plans(str(folder), SETTINGS)


def test_every_graph_has_its_plan(built: Bundle) -> None:
    verify(built)
    for plan, file, graph in zip(built.manifest.engines, PLANS, built.manifest.graphs, strict=True):
        assert (plan.file, plan.graph) == (file, graph.file)
        assert plan.graph_sha256 == built.manifest.files[graph.file].sha256
        assert (plan.runtime, plan.runtime_version) == ("tensorrt-rtx", trt.__version__)
        assert (plan.compute_capabilities, plan.batch) == (("86", "120"), (1, 1, 2))
    assert not [name for name in os.listdir(built.path) if name.startswith(".")]


def test_the_same_plan_is_replaced_and_another_added(built: Bundle) -> None:
    stages: list[str] = []
    again = add_plans(built, SETTINGS, on_stage=lambda name, seconds, size: stages.append(name))
    assert [plan.file for plan in again.manifest.engines] == PLANS
    assert stages == [f"build {file}" for file in PLANS]
    more = add_plans(again, PlanSettings(), precision="fp32")
    assert len(more.manifest.engines) == 4
    verify(more)


def test_a_bundle_stays_as_it_was(folder: Path) -> None:
    before = sorted(os.listdir(folder)), (folder / "pahi.json").read_bytes()
    for settings, precision in ((PlanSettings(compute_capabilities=("1",)), None), (SETTINGS, "int3")):
        with pytest.raises(PahiError):
            add_plans(str(folder), settings, precision=precision)
    assert (sorted(os.listdir(folder)), (folder / "pahi.json").read_bytes()) == before


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plans, "build_plan", fail)
    with pytest.raises(OutputError, match="engines cannot be written: No space left"):
        add_plans(open_bundle(folder), SETTINGS)


def test_two_builds_of_one_bundle(folder: Path) -> None:
    for target, verb in ((folder / "engines", "build"), (folder, "export")):
        with claim(target, verb), pytest.raises(OutputError, match=f"another {verb} is writing"):
            add_plans(str(folder), SETTINGS)


def test_what_another_run_lists_meanwhile_stays_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = threading.Event()

    def build(source: Path, output: Path, settings: PlanSettings) -> list[dict[str, str]]:
        output.write_bytes(b"a plan")
        if "two-step" in output.name:
            built.set()
        return []

    monkeypatch.setattr(plans, "build_plan", build)
    monkeypatch.setattr(plans, "check_types", lambda layers, precision: None)
    with ThreadPoolExecutor() as pool:
        with changing(folder, "qualify") as now:
            building = pool.submit(add_plans, folder, SETTINGS)
            assert built.wait(timeout=60)
            time.sleep(0.2)  # as far as it comes
            write_manifest(folder, replace(now.manifest, tools={**now.manifest.tools, "qualifier": "1"}))
        after = building.result(timeout=60)
    assert "qualifier" in after.manifest.tools
    assert [plan.file for plan in after.manifest.engines] == PLANS
    verify(after)


@pytest.mark.parametrize("by_path", [False, True])
def test_the_built_in_bundle_is_left_alone(by_path: bool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(open_bundle("emoji").path)
    with pytest.raises(BundleError, match="is part of the package") as caught:
        add_plans(str(tmp_path / "link") if by_path else "emoji", SETTINGS)
    assert caught.value.fix.startswith("build in a copy: cp -r ")


def test_a_bundle_in_the_cache_is_left_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = tmp_path / "pahi-rt" / "bundles" / "hub" / "owner--name"
    shutil.copytree(folder, cached)
    with pytest.raises(BundleError, match="or of a cache"):
        add_plans(str(cached), SETTINGS)


KILLED = """
import os, signal, sys
from pathlib import Path
from pahi_rt.export.plans import add_plans
from pahi_rt.export.tensorrt import PlanSettings
folder, moment, writes = sys.argv[1], int(sys.argv[2]), 0
def count(event, arguments):
    global writes
    written = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
    written |= event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    if written and folder in str(arguments[0]):
        writes += 1
        if writes == moment:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
add_plans(Path(folder), PlanSettings(compute_capabilities=("86", "120"), batch=(1, 1, 2)))
print(writes)
"""


def build_until(folder: Path, moment: int) -> subprocess.CompletedProcess[str]:
    """A build that is killed before its write number `moment`, or says how many there were."""
    words = [sys.executable, "-c", KILLED, str(folder), str(moment)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_bundle_is_whole_whenever_a_build_is_killed(again: bool, folder: Path, tmp_path: Path) -> None:
    """At ten moments, of the first build and of one that replaces its plans."""
    if again:
        add_plans(folder, SETTINGS)
    names = sorted(os.listdir(folder))
    shutil.copytree(folder, tmp_path / "whole")
    writes = int(build_until(tmp_path / "whole", 0).stdout)
    assert writes > 20
    for number in range(10):
        place = tmp_path / f"bundle-{number}"
        shutil.copytree(folder, place)
        done = build_until(place, 1 + number * (writes - 1) // 9)
        assert done.returncode == -signal.SIGKILL, done.stderr
        verify(open_bundle(place))
        built = add_plans(place, SETTINGS)
        verify(built)
        assert [plan.file for plan in built.manifest.engines] == PLANS
        assert sorted(os.listdir(place)) == sorted({*names, "engines"})
        assert sorted(f"engines/{name}" for name in os.listdir(place / "engines")) == sorted(PLANS)


@pytest.mark.parametrize("built_before", [False, True])
def test_a_build_that_fails_at_its_very_end(built_before: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plans are there, and the manifest that lists them cannot be written."""
    if built_before:
        add_plans(folder, SETTINGS)
    write, left = write_manifest, iter([True, False])

    def fill(place: Path, manifest: Manifest) -> None:
        if not next(left):
            raise OSError(28, "No space left on device")
        write(place, manifest)

    with monkeypatch.context() as patched:
        patched.setattr(plans, "write_manifest", fill)
        with pytest.raises(OutputError, match="No space left"):
            add_plans(folder, SETTINGS)
    verify(open_bundle(folder))
    assert not os.listdir(folder / "engines")
    verify(add_plans(folder, SETTINGS))


def test_a_plan_of_the_users_is_left_alone(folder: Path) -> None:
    (folder / "engines").mkdir()
    (folder / PLANS[0]).write_text("hours of work")
    with pytest.raises(OutputError, match="is there already, and the bundle does not list it"):
        add_plans(folder, SETTINGS)
    assert (folder / PLANS[0]).read_text() == "hours of work"
    assert os.listdir(folder / "engines") == [Path(PLANS[0]).name]
