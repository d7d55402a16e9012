from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import pahi_rt
from pahi_rt.bench import machine


def git(folder: Path, *words: str) -> str:
    known = ["-c", "user.name=x", "-c", "user.email=x@y"]
    done = subprocess.run(["git", "-C", str(folder), *known, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pahi_rt, in a folder of a repository that has one commit and does not hold it yet."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    folder = tmp_path / "venv" / "pahi_rt"
    folder.mkdir(parents=True)
    shutil.copy(pahi_rt.__file__, folder / "__init__.py")
    monkeypatch.setattr(pahi_rt, "__file__", str(folder / "__init__.py"))
    return folder


def test_a_checkout_is_named_by_its_commit(package: Path) -> None:
    git(package, "add", ".")
    git(package, "commit", "-q", "-m", "y")
    assert machine.describe().commit == git(package, "rev-parse", "--short", "HEAD")


def test_the_repository_around_an_environment_is_not_named(package: Path) -> None:
    """An installed pahi_rt is named by its version alone."""
    described = machine.describe()
    assert (described.commit, described.pahi_rt) == (None, pahi_rt.__version__)
