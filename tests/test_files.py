"""Files that are whole or not there, and what the system's errors become."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pahi_rt.errors import OutputError
from pahi_rt.files import explain, sha256, write_whole, writing_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_whole(path, "old")
    with writing_whole(path) as new:
        new.write_text("half of it")
        assert path.read_text() == "old"
        new.write_bytes(b"new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["report.json"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_whole(path, b"old")
    with pytest.raises(ZeroDivisionError), writing_whole(path) as new:
        new.write_text("half of it")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_names_of_the_users_are_not_taken(tmp_path: Path) -> None:
    """A name that can be guessed (`report.json.partial`) is somebody's file, or a link to it, sooner or later."""
    mine = {name: tmp_path / name for name in ("report.json.partial", "report.partial", ".report.json.new")}
    for path in mine.values():
        path.write_text("years of work")
    write_whole(tmp_path / "report.json", "{}")
    assert {path.read_text() for path in mine.values()} == {"years of work"}


def test_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_whole(tmp_path / "file", "")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.EBUSY, "mount point", "name a folder in it: 'my runs/b/NAME'"),
        (errno.EXDEV, "another file system", "name a folder in it"),
        (errno.ENOSPC, "No space left on device", "free some space"),
        (errno.EDQUOT, "quota exceeded", "free some space"),
        (errno.EACCES, "no permission", "permit it"),
        (errno.EPERM, "no permission", "permit it"),
        (errno.EROFS, "read-only", "mount it writable"),
        (errno.ENAMETOOLONG, "too long", "use a shorter name"),
        (errno.ENOENT, "does not exist", "mkdir -p '/"),
        (errno.ENOTDIR, "is not a folder", "check the path"),
        (errno.EISDIR, "is a folder", "name a file"),
        (errno.ENOTEMPTY, "is not empty", "move away"),
        (errno.ELOOP, "loop", "check the path"),
        (errno.EIO, "Input/output error", "check '/"),
    ],
)
def test_what_the_system_refuses_is_said(number: int, what: str, fix: str) -> None:
    place = Path("my runs/b")
    error = explain(OSError(number, os.strerror(number)), place)
    assert isinstance(error, OutputError)
    assert str(place) in error.what and what in error.what
    assert error.fix.startswith(fix) and error.fix.endswith(", or choose another output")


def test_the_caller_ends_the_fix() -> None:
    error = explain(OSError(errno.ENOSPC, ""), Path("/x/b"), "and go on with --resume")
    assert error.fix == "free some space in /x, and go on with --resume"


def test_numbers_that_are_told_in_words_alone() -> None:
    """As safetensors does."""
    error = explain(RuntimeError("I/O error: No space left on device (os error 28)"), Path("x"))
    assert error.what == "x cannot be written: No space left on device"
    assert explain(RuntimeError("nobody knows"), Path("x")).what == "x cannot be written: nobody knows"


def test_sha256_reads_several_files_as_one(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"ab")
    other.write_bytes(b"c")
    assert sha256(one, other) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
