"""deploy/Dockerfile and deploy/compose.yaml, as far as they can be tried without Docker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from typing import Any

import pytest

from pahi_rt.serve.limits import GRACE
from tests.cli.verbs import parse
from tests.deploy.conftest import DEPLOY, ROOT, check, documents, tool
from tests.serve.conftest import Running

TEXT = (DEPLOY / "Dockerfile").read_text()
BUILD, RUN = re.split(r"\n(?=FROM python:\S+\n)", TEXT)


def instruction(name: str) -> Any:
    """The value in the last stage, in its exec form if it has one."""
    (found,) = re.findall(rf"^{name} (.*)$", RUN.replace("\\\n", ""), re.MULTILINE)
    words = re.search(r"\[.*\]$", found)
    return json.loads(words[0]) if words else found


def compose() -> Any:
    (document,) = documents((DEPLOY / "compose.yaml").read_text())
    return document["services"]["pahi-rt"]


def test_hadolint_finds_nothing() -> None:
    check(tool("hadolint"), DEPLOY / "Dockerfile")


def test_the_last_stage_has_the_environment_and_not_the_sources() -> None:
    assert "AS build" in BUILD
    assert re.findall(r"^(?:COPY|ADD|RUN) (.*)$", RUN, re.MULTILINE) == ["--from=build /opt/pahi-rt /opt/pahi-rt"]


def test_it_runs_as_nobody_and_gets_its_signals_itself() -> None:
    assert int(instruction("USER").partition(":")[0]) > 0
    program, *words = instruction("ENTRYPOINT")
    assert program == "pahi-rt"
    assert parse(words).params["host"] == "0.0.0.0"


def test_the_context_holds_what_the_wheel_is_built_from() -> None:
    """And neither the checkout's environment nor its results."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    needed = ["LICENSE", "NOTICE", "README.md", "constraints.txt", "pahi_rt", "pyproject.toml"]
    assert lines[1] == "*" and kept == needed
    assert all((ROOT / name).exists() for name in kept)
    assert any(fnmatch("pahi_rt/bench/results", line) for line in lines)


def test_the_health_check(gated: Running) -> None:
    program, option, code = instruction("HEALTHCHECK")[-3:]
    assert (program, option) == ("python", "-c")
    words = [sys.executable, option, code.replace("8000", str(gated.client.port))]
    assert subprocess.run(words, check=False).returncode == 0
    gated.service.engine.is_draining = True
    assert subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode != 0
    gated.service.engine.is_draining = False


def test_compose_takes_away_what_is_not_needed() -> None:
    pytest.importorskip("yaml")
    service = compose()
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_waits_for_accepted_work_and_tells_the_cores() -> None:
    pytest.importorskip("yaml")
    service = compose()
    assert int(service["stop_grace_period"].removesuffix("s")) > GRACE
    settings = parse([*instruction("ENTRYPOINT")[1:], *service["command"]]).params
    assert settings["threads"] == service["cpus"]
