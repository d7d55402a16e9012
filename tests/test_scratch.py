"""Scratch folders: found by their marker alone, one claim for a target, and nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pahi_rt.errors import OutputError
from pahi_rt.files import writing_whole
from pahi_rt.marker import MARKER, PREFIX
from pahi_rt.scratch import claim, is_scratch, scratch, sweep

KILLED = """
import os, signal, sys
from pathlib import Path
from pahi_rt.scratch import claim, scratch
with {} as made:
    folder = getattr(made, "path", made)
    (folder / "work").mkdir()
    (folder / "work" / "file").write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill(call: str, target: Path) -> Path:
    """The folder that a run leaves which was killed in the middle of `call`."""
    before = set(target.parent.iterdir())
    done = subprocess.run([sys.executable, "-c", KILLED.format(call.format(f"Path({str(target)!r})"))], timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = set(target.parent.iterdir()) - before
    return left


CLAIM, SCRATCH = "claim({}, 'export')", "scratch({}, 'write')"


def test_nothing_stays(tmp_path: Path) -> None:
    with scratch(tmp_path / "a", "write") as folder, claim(tmp_path / "b", "embed") as claimed:
        assert folder.parent == claimed.path.parent == tmp_path
        assert is_scratch(folder) and is_scratch(claimed.path)
        (folder / "sub").mkdir()
        (claimed.path / "file").touch()
    assert not list(tmp_path.iterdir())


def test_what_a_kill_has_left_is_removed_by_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = kill(SCRATCH, tmp_path / "a")
    with writing_whole(tmp_path / "b") as new:
        new.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert caplog.messages == [f"removed what a run that was cut off has left: {left}"]


def test_a_claim_is_left_to_its_target(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = kill(CLAIM, tmp_path / "a")
    sweep(tmp_path)
    with claim(tmp_path / "b", "export", resume=True) as made:
        assert not made.is_resumed
    assert (left / "work" / "file").is_file() and not caplog.messages
    with claim(tmp_path / "a", "export") as made:
        assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_a_claim_goes_on(tmp_path: Path) -> None:
    left = kill(CLAIM, tmp_path / "a")
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), claim(tmp_path / "a", "export", resume=True) as made:
            raise error
        assert (made.path, made.is_resumed) == (left, True)
        assert (left / "work" / "file").read_text() == "half of it"
    with claim(tmp_path / "a", "export", resume=True) as made:
        assert made.path == left
    assert not list(tmp_path.iterdir())


def test_only_the_same_kind_of_run_goes_on(tmp_path: Path) -> None:
    left = kill(CLAIM, tmp_path / "a")
    with claim(tmp_path / "a", "embed", resume=True) as made:
        assert made.path != left and not left.exists()


@pytest.mark.parametrize(("error", "stays"), [(ZeroDivisionError, False), (KeyboardInterrupt, True)])
def test_what_an_error_leaves(error: type[BaseException], stays: bool, tmp_path: Path) -> None:
    with pytest.raises(error), claim(tmp_path / "a", "export", resume=True):
        raise error
    assert bool(list(tmp_path.iterdir())) == stays


def test_one_claim_for_a_target(tmp_path: Path) -> None:
    with claim(tmp_path / "a", "export"):
        with pytest.raises(OutputError, match=rf"another export is writing .*/a \(process {os.getpid()} on"):
            claim(tmp_path / "a", "embed").__enter__()
        with claim(tmp_path / "b", "export"), scratch(tmp_path / "a", "write"):
            sweep(tmp_path)
            assert len(list(tmp_path.iterdir())) == 3


def test_a_patient_claim_waits(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with claim(tmp_path / "a", "build"):
            later = pool.submit(write_claimed, tmp_path / "a")
            time.sleep(0.1)  # as far as it comes
            assert not (tmp_path / "a").exists()
        later.result(timeout=60)
    assert (tmp_path / "a").exists()
    with claim(tmp_path / "a", "build"), pytest.raises(OutputError, match="another build is writing"):
        write_claimed(tmp_path / "a", patience=0.02)


def write_claimed(target: Path, patience: float = 60.0) -> None:
    with claim(target, "qualify", patience=patience):
        target.touch()


def test_claims_at_once(tmp_path: Path) -> None:
    """Of runs that start together one has it, and the others are told."""
    code = """
import sys, time
from pathlib import Path
from pahi_rt.errors import OutputError
from pahi_rt.scratch import claim
sys.stdin.readline()
try:
    with claim(Path(sys.argv[1]), "export"):
        print("mine", flush=True)
        sys.stdin.readline()
except OutputError:
    print("refused", flush=True)
"""
    pipe = subprocess.PIPE
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdin=pipe, stdout=pipe, text=True)
        for _ in range(4)
    ]
    for run in runs:
        assert run.stdin
        run.stdin.write("go\n")
        run.stdin.flush()
    said = [run.stdout.readline() for run in runs if run.stdout]
    for run in runs:
        run.communicate("end\n", timeout=60)
    assert sorted(said) == ["mine\n", *["refused\n"] * 3]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("marker", [False, True])
def test_what_was_cut_off_at_its_birth(marker: bool, tmp_path: Path) -> None:
    """Before there was anything in the marker."""
    folder = tmp_path / f"{PREFIX}write-abcd1234"
    folder.mkdir()
    if marker:
        (folder / MARKER).touch()
    for name in ("home", f"{PREFIX}write-", f"{PREFIX}write-abcd1234-mine"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{PREFIX}write-abcd5678").symlink_to("home")
    before = set(os.listdir(tmp_path))
    sweep(tmp_path)
    assert before - set(os.listdir(tmp_path)) == {folder.name}


def no_marker(folder: Path) -> None:
    (folder / MARKER).unlink()


def other_name(folder: Path) -> None:
    (folder / MARKER).write_text((folder / MARKER).read_text().replace(folder.name, "another"))


def empty(folder: Path) -> None:
    (folder / MARKER).write_text("")


def deep(folder: Path) -> None:
    (folder / MARKER).write_text("[" * 4000)


def linked_marker(folder: Path) -> None:
    (folder / MARKER).rename(folder / "real")
    (folder / MARKER).symlink_to("real")


def fifo(folder: Path) -> None:
    (folder / MARKER).unlink()
    os.mkfifo(folder / MARKER)


def linked_folder(folder: Path) -> None:
    folder.rename(folder.with_name("mine"))
    folder.symlink_to("mine")


@pytest.mark.parametrize("change", [no_marker, other_name, empty, deep, linked_marker, fifo, linked_folder])
@pytest.mark.parametrize("call", [CLAIM, SCRATCH])
def test_what_is_not_ours_is_left_alone(call: str, change: Callable[[Path], None], tmp_path: Path) -> None:
    left = kill(call, tmp_path / "a")
    change(left)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    sweep(tmp_path)
    with claim(tmp_path / "a", "export", resume=True) as made:
        assert made.path != left
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_another_user_is_left_alone(tmp_path: Path) -> None:
    left = kill(CLAIM, tmp_path / "a")
    os.chown(left / MARKER, 12345, -1)
    with claim(tmp_path / "a", "export", resume=True) as made:
        assert made.path != left
    assert left.is_dir()


def test_links_in_it_are_not_followed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    left = kill(SCRATCH, tmp_path / "a")
    (left / "work" / "link").symlink_to(home)
    (left / "link").symlink_to(home)
    sweep(tmp_path)
    assert not left.exists() and (home / "thesis.txt").is_file()


def test_a_marker_says_whose_it_is(tmp_path: Path) -> None:
    with claim(tmp_path / "a", "export") as made:
        marker = json.loads((made.path / MARKER).read_text())
    assert (marker["target"], marker["purpose"], marker["process"]) == ("a", "export", os.getpid())


def test_a_folder_that_somebody_else_has_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `flock FOLDER pahi-rt export ...`."""
    monkeypatch.setattr("pahi_rt.scratch.PATIENCE", 0.05)
    with (
        subprocess.Popen(["flock", str(tmp_path), "cat"], stdin=subprocess.PIPE) as held,
        claim(tmp_path / "a", "export"),
    ):
        held.communicate(timeout=60)
    assert not list(tmp_path.iterdir())
