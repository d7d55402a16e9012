from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pahi_rt import cache
from pahi_rt.cache import cache_folder, is_private, lend_cache, make_private


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of temporary files, and neither XDG_CACHE_HOME nor a home."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    cache.tell.cache_clear()
    return folder


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("bundles", "x") == tmp_path / "pahi-rt" / "bundles" / "x"


def test_in_the_home(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder("bundles") == tmp_path / ".cache" / "pahi-rt" / "bundles"
    assert not list(temporary.iterdir())
    monkeypatch.setenv("HOME", "unchanged")
    lend_cache()
    assert "XDG_CACHE_HOME" not in os.environ
    assert os.environ["HOME"] == "unchanged"


@pytest.mark.parametrize("home", ["none", "a file", "read-only"])
def test_without_a_home_it_is_a_private_temporary_folder(
    temporary: Path, tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if home == "a file":
        (tmp_path / "home").touch()
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    if home == "read-only":
        monkeypatch.setattr(Path, "home", lambda: Path("/"))
        monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    folder = cache_folder("bundles")
    (private,) = temporary.iterdir()
    assert folder == private / "pahi-rt" / "bundles"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert cache_folder("bundles") == folder, "one folder, found again"
    (message,) = caplog.messages
    assert str(private) in message
    assert "XDG_CACHE_HOME" in message


def test_other_libraries_use_it_too(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # so that it is put back afterwards
    monkeypatch.setenv("HOME", "")
    lend_cache()
    (private,) = temporary.iterdir()
    assert (os.environ["XDG_CACHE_HOME"], os.environ["HOME"]) == (str(private), str(private))


@pytest.mark.parametrize("trap", ["link", "open to others"])
def test_a_folder_that_somebody_else_prepared_is_passed_over(temporary: Path, tmp_path: Path, trap: str) -> None:
    name = temporary / f"pahi-rt-{os.getuid()}-0000"
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        name.symlink_to(tmp_path / "elsewhere")
    else:
        name.mkdir()
        name.chmod(0o777)
    assert not cache_folder().is_relative_to(name)
    assert cache_folder() == cache_folder()


def test_below_a_folder_that_hands_its_group_on(temporary: Path) -> None:
    temporary.chmod(0o2770)
    folder = cache_folder()
    assert cache_folder() == folder, "one folder, found again"


@pytest.mark.parametrize(
    ("mode", "private"),
    [(0o700, True), (0o2700, True), (0o750, False), (0o701, False), (0o720, False), (0o500, False)],
)
def test_what_is_private(tmp_path: Path, mode: int, private: bool) -> None:
    tmp_path.chmod(mode)
    assert is_private(tmp_path) is private
    tmp_path.chmod(0o700)


def test_what_is_somebody_elses_is_not_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    assert not is_private(tmp_path)


def test_folders_are_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path / "a" / "b")
    make_private(tmp_path / "a" / "b")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
