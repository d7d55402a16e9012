"""One folder takes another one's place: tried first, whole or not at all, and nothing of the user's is deleted."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle, verify
from pahi_rt.errors import OutputError, ParityError
from pahi_rt.export import reveal
from pahi_rt.export.reveal import BUNDLE, building
from pahi_rt.marker import MARKER, PREFIX
from pahi_rt.scratch import claim

CONTRACT = Path(__file__).parents[1] / "data" / "contract"


def write(folder: Path, source: Path = CONTRACT) -> None:
    for path in source.iterdir():
        shutil.copyfile(path, folder / path.name)


def build(output: Path, *, overwrite: bool = False) -> None:
    with building(output, BUNDLE, overwrite=overwrite, resume=True) as new:
        write(new)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A bundle, with a file that the new one has not."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write(folder, CONTRACT.with_name("contract-priors"))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def is_new(output: Path) -> bool:
    verify(open_bundle(output))
    return (output / "pahi.json").read_bytes() == (CONTRACT / "pahi.json").read_bytes()


@pytest.fixture(params=["one step", "two steps"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system swaps two folders in one step, or it cannot."""
    if request.param == "two steps":
        monkeypatch.setattr(reveal, "exchange", lambda *_: False)


@pytest.mark.usefixtures("exchange")
def test_a_bundle_is_replaced_as_a_whole(output: Path) -> None:
    before = names(output)
    with building(output, BUNDLE, overwrite=True) as new:
        write(new)
        assert names(output) == before
    assert names(output) == names(CONTRACT) and is_new(output)
    assert os.listdir(output.parent) == ["bundle"]
    assert output.stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_this_system_swaps_in_one_step(output: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert reveal.exchange(tmp_path / "other", output)
    assert not names(output) and len(names(tmp_path / "other")) > 5


@pytest.mark.parametrize("guess", [".bundle.old", ".bundle.partial", ".bundle.lock", ".bundle.tmp"])
@pytest.mark.parametrize("kind", ["folder", "link to a folder", "link to a file"])
def test_names_beside_it_are_the_users(guess: str, kind: str, tmp_path: Path) -> None:
    """They were emptied, renamed to the output, written through or removed."""
    (tmp_path / "home" / "photos").mkdir(parents=True)
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    targets = {"link to a folder": "home", "link to a file": "home/thesis.txt"}
    if kind == "folder":
        shutil.copytree(tmp_path / "home", tmp_path / guess)
    else:
        (tmp_path / guess).symlink_to(targets[kind])
    before = names(tmp_path)
    for _ in range(2):
        build(tmp_path / "bundle", overwrite=True)
    assert not (tmp_path / "bundle").is_symlink() and is_new(tmp_path / "bundle")
    shutil.rmtree(tmp_path / "bundle")
    assert names(tmp_path) == before
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def add_file(output: Path) -> str:
    (output / "thesis.txt").write_text("years of work")
    return "thesis.txt"


def add_plan(output: Path) -> str:
    (output / "engines").mkdir()
    (output / "engines" / "mine.plan").write_text("hours of work")
    return "engines/"


def add_folder(output: Path) -> str:
    (output / "empty").mkdir()
    return "empty/"


def add_link(output: Path) -> str:
    (output / "link").symlink_to("/")
    return "link/"


def list_folder(output: Path) -> str:
    (output / "weights.bin").unlink()
    (output / "weights.bin").mkdir()
    (output / "weights.bin" / "thesis.txt").write_text("years of work")
    return "weights.bin/"


@pytest.mark.parametrize("add", [add_file, add_plan, add_folder, add_link, list_folder])
def test_what_is_not_of_the_bundle_is_not_replaced(add: Callable[[Path], str], output: Path) -> None:
    name, before = add(output), names(output)
    with pytest.raises(OutputError, match=rf"holds what is not of the bundle: {name} \(fix"):
        build(output, overwrite=True)
    assert names(output) == before
    assert os.listdir(output.parent) == ["bundle"]


def test_only_bundles_are_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "nowhere").symlink_to("missing")
    before = names(tmp_path)
    for name in ("home", "file", "nowhere"):
        with pytest.raises(OutputError, match="is not a bundle"):
            build(tmp_path / name, overwrite=True)
        with pytest.raises(OutputError, match="exists already"):
            build(tmp_path / name)
    assert names(tmp_path) == before


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    build(tmp_path / "bundle", overwrite=True)
    assert is_new(tmp_path / "bundle")


@pytest.mark.usefixtures("exchange")
def test_of_a_link_the_link_is_replaced(output: Path, tmp_path: Path) -> None:
    add_file(output)
    before = names(output)
    (tmp_path / "link").symlink_to(output)
    build(tmp_path / "link", overwrite=True)
    assert not (tmp_path / "link").is_symlink() and is_new(tmp_path / "link")
    assert names(output) == before


@pytest.mark.usefixtures("exchange")
def test_what_comes_in_while_it_is_replaced_is_kept(
    output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    swap = reveal.swap

    def late(folder: Path, output: Path) -> None:
        add_file(output)
        add_plan(output)
        swap(folder, output)

    monkeypatch.setattr(reveal, "swap", late)
    build(output, overwrite=True)
    assert is_new(output)
    (left,) = (path for path in output.parent.iterdir() if path != output)
    assert names(left / "old") == ["engines", "engines/mine.plan", "thesis.txt"]
    assert caplog.messages == [f"kept what is not of the bundle that was replaced: {left / 'old'}"]
    build(output, overwrite=True)
    assert names(left) == ["old", *(f"old/{name}" for name in names(left / "old"))]  # it is the user's now


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_finished_bundle_is_never_deleted(
    overwrite: bool, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = output if overwrite else tmp_path / "other"
    with pytest.raises(OutputError) as caught, building(place, BUNDLE, overwrite=overwrite) as new:
        write(new)
        if overwrite:
            add_file(output)
        else:
            place.mkdir()
            add_file(place)
    expected = "not of the bundle: thesis.txt" if overwrite else "exists already"
    assert expected in caught.value.what and caught.value.what.endswith(f"the finished bundle lies in {new}")
    assert caught.value.fix == f"move it to another place: mv {new} NAME"
    assert is_new(new) and (place / "thesis.txt").is_file()
    if not overwrite:
        shutil.rmtree(place)
        build(place)
        assert is_new(new)  # it is the user's now


def test_the_last_rename_fails(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> bool:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(reveal, "exchange", busy)
    with pytest.raises(OutputError, match="mount point or in use.*; the finished bundle lies in") as caught:
        build(output, overwrite=True)
    assert is_new(Path(caught.value.what.split("lies in ")[1])) and not is_new(output)


@pytest.mark.parametrize("name", [".", "..", "../here", "/", "./.", ""])
def test_where_one_is_is_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="the folder that you are in") as caught:
            build(Path(name), overwrite=overwrite)
        assert caught.value.fix.startswith("name a folder in it: -o ")
    assert names(tmp_path) == ["here"]


def never(_: object) -> None:
    pytest.fail("it was refused after the work")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("n" * 300, "is too long"),
        ("missing/bundle", "does not exist"),
        ("file/bundle", "is not a folder"),
        ("loop/bundle", "loop of symbolic links"),
    ],
)
def test_places_that_cannot_be(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = names(tmp_path)
    with pytest.raises(OutputError, match=what), building(tmp_path / name, BUNDLE, overwrite=False) as new:
        never(new)
    assert names(tmp_path) == before


MOUNTED = """
import shutil, subprocess, sys
from pathlib import Path
from pahi_rt.errors import PahiError
from pahi_rt.export.reveal import BUNDLE, building
try:
    with building(Path(sys.argv[2]), BUNDLE, overwrite="--force" in sys.argv) as new:
        print("worked", flush=True)
        for path in Path(sys.argv[1]).iterdir():
            shutil.copyfile(path, new / path.name)
        if "--then" in sys.argv:
            subprocess.run(sys.argv[-1], shell=True, check=True)
except PahiError as error:
    print(error.what, error.fix, sep="\\n")
"""


def mounting(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell that may mount, in a namespace of its own; skip where that is not allowed."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    (tmp_path / "build.py").write_text(MOUNTED)
    environment = os.environ | {"BUILD": f"{sys.executable} {tmp_path / 'build.py'} {CONTRACT}"}
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("force", ["", "--force"])
@pytest.mark.parametrize("mount", ["mount -t tmpfs none out", "mkdir same && mount --bind same out"])
def test_a_mount_point_is_refused_before_the_work(mount: str, force: str, tmp_path: Path) -> None:
    """As with `docker run -v`; a bind mount on the same disk looks like any folder."""
    done = mounting(f"mkdir out; {mount}; $BUILD out {force}; ls -A out", tmp_path)
    assert done.stdout == (
        "out is a mount point or in use, so nothing can take its place\n"
        "name a folder in it: out/NAME, or choose another output\n"
    )
    done = mounting(f"mkdir -p out; {mount.replace('mkdir', 'mkdir -p')}; $BUILD out/NAME; ls out/NAME", tmp_path)
    assert done.stdout.split() == ["worked", *sorted(os.listdir(CONTRACT))]


def test_a_read_only_disk(tmp_path: Path) -> None:
    done = mounting("mkdir ro; mount -t tmpfs -o ro none ro; $BUILD ro/b", tmp_path)
    assert done.stdout == ("ro/b is on a file system that is read-only\nmount it writable, or choose another output\n")


def test_a_full_disk(tmp_path: Path) -> None:
    done = mounting("mkdir full; mount -t tmpfs -o size=16k none full; $BUILD full/b; ls -A full", tmp_path)
    assert done.stdout.startswith("worked\nfull/b cannot be written: No space left on device\nfree some space in ")
    assert len(done.stdout.splitlines()) == 3  # nothing is left


def test_a_place_that_becomes_a_mount_point_meanwhile(tmp_path: Path) -> None:
    script = "$BUILD out --then 'mkdir out && mount -t tmpfs none out'; cp -r $(ls -d .pahi-rt-*/new) saved"
    done = mounting(script, tmp_path)
    assert "out exists already; the finished bundle lies in" in done.stdout, done.stderr
    assert is_new(tmp_path / "saved")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        os.setuid(12345)
        try:
            with building(tmp_path / "b", BUNDLE, overwrite=False):
                os._exit(1)
        except OutputError as error:
            os._exit(0 if "you have no permission" in error.what else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


KILLED = """
import os, signal, sys
import shutil
from pathlib import Path
from pahi_rt.export import reveal
output, two_steps, moment = Path(sys.argv[2]), sys.argv[3] == "two steps", int(sys.argv[4])
if two_steps:
    reveal.exchange = lambda *_: False
calls = 0
def count(event, arguments):
    global calls
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (event == "open" and arguments[1] == "w"):
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
with reveal.building(output, reveal.BUNDLE, overwrite=True, resume=True) as new:
    shutil.copytree(sys.argv[1], new, dirs_exist_ok=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["one step", "two steps"])
def test_a_kill_at_any_moment(steps: str, output: Path) -> None:
    """The old bundle or the new one is there, whole, after the next run at the latest; and then nothing else is."""
    moment, finished, kept = 0, False, output.parent.with_name(f"kept-{output.parent.name}")
    shutil.copytree(output, kept)
    while not finished:
        moment += 1
        shutil.rmtree(output)
        shutil.copytree(kept, output)
        words = [str(CONTRACT), str(output), steps, str(moment)]
        done = subprocess.run([sys.executable, "-c", KILLED, *words], timeout=60, capture_output=True, text=True)
        finished = done.returncode == 0
        assert finished or done.returncode == -signal.SIGKILL, done.stderr
        if steps == "one step":
            verify(open_bundle(output))
        with pytest.raises(ParityError), building(output, BUNDLE, overwrite=True):
            verify(open_bundle(output))
            raise ParityError("one-step.onnx is not PyTorch", fix="none")
        verify(open_bundle(output))
        assert os.listdir(output.parent) == ["bundle"], moment
    assert moment > 20


def test_a_build_at_work_in_it(output: Path) -> None:
    before = names(output)
    with claim(output / "engines", "build"), pytest.raises(OutputError, match="another build is writing"):
        build(output, overwrite=True)
    assert names(output) == before


@pytest.fixture
def left(output: Path) -> Iterator[Path]:
    with building(output, BUNDLE, overwrite=True) as new:
        yield new.parent


def test_what_is_ours_can_be_recognised(left: Path) -> None:
    assert left.name.startswith(f"{PREFIX}export-") and (left / MARKER).is_file()
