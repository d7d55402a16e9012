"""deploy/systemd/pahi-rt.service, as systemd's own checks see it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from pahi_rt.serve.limits import GRACE, MOST_CONNECTIONS
from tests.cli.verbs import parse
from tests.deploy.conftest import DEPLOY, check, tool

UNIT = DEPLOY / "systemd" / "pahi-rt.service"
EXPOSED = 1.5
"""Of 10; systemd-analyze calls up to 2 good."""


def settings(name: str) -> list[str]:
    return re.findall(rf"^#? *{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def words(arguments: str) -> list[str]:
    (line,) = settings("ExecStart")
    return shlex.split(line.replace("$PAHI_RT_ARGS", arguments))[1:]


def test_systemd_takes_it(tmp_path: Path) -> None:
    """With a program that exists here."""
    program = shlex.split(settings("ExecStart")[0])[0]
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(program, "/bin/true"))
    said = check(tool("systemd-analyze"), "verify", "--man=no", unit)
    assert UNIT.name not in said, said


def test_it_is_hardened() -> None:
    said = check(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", UNIT)
    found = re.search(r"Overall exposure level .*: ([\d.]+)", said)
    assert found and float(found[1]) <= EXPOSED, said


def test_it_starts_the_service_for_this_machine_alone() -> None:
    assert parse(words("")).params["host"] == "127.0.0.1"


def test_the_example_of_more_options_can_be_typed() -> None:
    (example,) = settings(" PAHI_RT_ARGS")
    assert parse(words(example)).params["workers"] == 2


def test_it_waits_for_accepted_work_and_has_a_file_for_each_connection() -> None:
    assert int(settings("TimeoutStopSec")[0]) > GRACE
    assert int(settings("LimitNOFILE")[0]) > 2 * MOST_CONNECTIONS


def test_threads_may_choose_their_core() -> None:
    """ONNX Runtime does, and prints errors in red where it may not."""
    assert not any("@resources" in line for line in settings("SystemCallFilter"))
