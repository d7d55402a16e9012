"""Real processes, and what happens when they are killed: the same command again, and every row is there once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from tests.bulk.conftest import contents

ROWS = 60
KILLS = 50


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Rows of which every seventh fails."""
    path = tmp_path / "many.txt"
    path.write_text("".join("\n" if number % 7 == 6 else f"a cat {number}\n" for number in range(ROWS)))
    return path


@pytest.fixture
def whole(many: Path, contract: Path, tmp_path: Path) -> dict[str, str]:
    """What an undisturbed run on one process makes."""
    finish(start(many, tmp_path / "whole", contract, processes=1))
    return contents(tmp_path / "whole")


def start(source: Path, out: Path, contract: Path, processes: int = 2, pictures: int = 1) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    words = ["bulk", source, out, "--bundle", contract, "--number-sample-per-shard", "5", "--json"]
    words += ["--output-format", "webdataset", "--processes-count", processes, "-n", pictures]
    script = [sys.executable, "-W", "error", "-c", "from pahi_rt.cli import main; main()", *map(str, words)]
    # The pipe is so small that a run waits until its events are read: it cannot end before the test wants it to.
    return subprocess.Popen(
        script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True, pipesize=4096
    )


def events(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    """All events until it ends."""
    return [json.loads(line) for line in process.communicate()[0].splitlines()]


def finish(process: subprocess.Popen[str]) -> None:
    """Let it end by itself."""
    assert events(process)[-1]["reason"] == "finished"
    assert process.returncode == 0


def wait_for_shards(process: subprocess.Popen[str], shards: int) -> bool:
    """Read events until this many shards have become whole. False if the run has ended before."""
    assert process.stdout is not None
    while shards and (line := process.stdout.readline()):
        shards -= json.loads(line)["event"] == "shard"
    return not shards


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that draw for it."""
    return [
        int(child)
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def check_once(out: Path, whole: dict[str, str]) -> None:
    """Every row once, bytes equal to an undisturbed run's, and nothing else in the folder."""
    assert contents(out) == whole
    rows = [row for path in out.glob("*.parquet") for row in parquet.read_table(path, columns=["id"]).to_pylist()]
    assert sorted(row["id"] for row in rows) == sorted(f"many.txt:{number}" for number in range(ROWS))
    assert not list(out.glob(".pahi-rt-*"))


def test_a_killed_worker_is_replaced(many: Path, contract: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    run = start(many, tmp_path / "out", contract)
    assert wait_for_shards(run, 1)
    os.kill(workers_of(run)[0], signal.SIGKILL)
    last = events(run)[-1]
    assert (run.returncode, last["event"], last["reason"]) == (0, "end", "finished")
    check_once(tmp_path / "out", whole)


def test_ctrl_c_ends_soon_and_the_same_command_goes_on(contract: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "many.txt", tmp_path / "out"
    source.write_text("".join(f"a cat {number}\n" for number in range(10 * ROWS)))
    run = start(source, out, contract)
    assert wait_for_shards(run, 1)
    began = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does it
    last = events(run)[-1]
    # Half a second on a machine that is free, which one that runs tests is not.
    assert time.monotonic() - began < 10
    assert (run.returncode, last["reason"]) == (130, "interrupted")
    assert not list(out.glob(".pahi-rt-*"))
    assert len(list(out.glob("*_stats.json"))) < 10 * ROWS // 5
    again = start(source, out, contract)
    assert events(again)[0]["shards"] == last["shards"]
    finish(start(source, tmp_path / "whole", contract, processes=1))
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("victim", ["driver", "group"])
def test_a_killed_run_goes_on(many: Path, contract: Path, tmp_path: Path, whole: dict[str, str], victim: str) -> None:
    run = start(many, tmp_path / "out", contract)
    assert wait_for_shards(run, 1)
    (os.killpg if victim == "group" else os.kill)(run.pid, signal.SIGKILL)
    run.communicate()
    finish(start(many, tmp_path / "out", contract))
    check_once(tmp_path / "out", whole)


@pytest.mark.slow
def test_fifty_kills_at_random_moments(many: Path, contract: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    """A worker, the driver or all of them, in folders that are left for a new one when they are whole."""
    chance, out, finished = random.Random(0), tmp_path / "out0", 0
    for _ in range(KILLS):
        run = start(many, out, contract)
        wait_for_shards(run, chance.randrange(4))
        time.sleep(chance.uniform(0, 0.3))
        kill(run, chance.choice(["worker", "driver", "group"]), chance)
        run.communicate()
        if run.returncode == 0:
            check_once(out, whole)
            finished += 1
            out = tmp_path / f"out{finished}"
    finish(start(many, out, contract))
    check_once(out, whole)


def kill(run: subprocess.Popen[str], victim: str, chance: random.Random) -> None:
    """Kill one of a run's workers, its driver alone, or all of it, if it is still there."""
    if run.poll() is not None:
        return
    workers = workers_of(run)
    if victim == "worker" and workers:
        os.kill(chance.choice(workers), signal.SIGKILL)
    elif victim == "driver":
        os.kill(run.pid, signal.SIGKILL)
    else:
        os.killpg(run.pid, signal.SIGKILL)
