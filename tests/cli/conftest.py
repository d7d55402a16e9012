"""The command line, run in a folder of its own with the contract bundle as the only built-in one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pahi_rt.cli import app

Run = Callable[..., Result]
ROOMS = ("models", "scorers", "train", "evaluate", "export", "bench", "bulk", "qualify")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a package one that is not installed, for what is imported from now on."""

    def forget(package: str) -> None:
        for name in [name for name in sys.modules if name.startswith(tuple(f"pahi_rt.{room}." for room in ROOMS))]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return forget


@pytest.fixture
def assets(contract: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The built-in bundles: the contract bundle, under the name of the default."""
    folder = tmp_path / "assets"
    shutil.copytree(contract, folder / "emoji")
    manifest = folder / "emoji" / "pahi.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "name": "emoji"}))
    monkeypatch.setattr("pahi_rt.locations.assets_folder", lambda: folder)
    return folder


@pytest.fixture
def run(here: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `pahi-rt` with the given words."""
    monkeypatch.delenv("PAHI_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def invoke(*words: str, stdin: bytes | str | None = None) -> Result:
        return CliRunner().invoke(app, list(words), prog_name="pahi-rt", input=stdin)

    return invoke
