from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pahi_rt import FakeRuntime, Pipeline
from pahi_rt.bulk.artist import Artist
from pahi_rt.bulk.crew import Job
from pahi_rt.bulk.store import open_store
from pahi_rt.bundle import open_bundle
from tests.bulk.conftest import InlineCrew
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """One worker in this process, but for the test that looks for real ones."""
    if "without" in request.fixturenames:
        return

    def open_crew(job: Job, *rest: Any) -> InlineCrew:
        pipeline = Pipeline(open_bundle(job.bundle), FakeRuntime(32, 32))
        return InlineCrew(Artist(pipeline, open_store(job.output), job.settings, job.additional))

    monkeypatch.setattr("pahi_rt.cli.bulk.open_crew", open_crew)
    monkeypatch.setattr(
        "pahi_rt.bulk.crew.open_pipeline", lambda job: Pipeline(open_bundle(job.bundle), FakeRuntime(32, 32))
    )


@pytest.fixture(autouse=True)
def prompts(here: Path) -> Path:
    path = here / "prompts.txt"
    path.write_text("a cat\n\na dog\n")
    return path


def test_it_draws_and_verifies(run: Run, here: Path) -> None:
    result = run("bulk", "prompts.txt", "out")
    assert (result.exit_code, result.stdout) == (0, f"{here / 'out'}  2 pictures in 1 shard, 1 failed\n")
    assert f"next: pahi-rt bulk verify {here / 'out'}" in result.stderr
    assert (here / "out" / "00000" / "00000000.png").exists()
    again = run("bulk", "run", "prompts.txt", "out")
    assert "going on with 1 whole shard" in again.stderr
    verified = run("bulk", "verify", "out", "-k", "5")
    assert verified.exit_code == 0
    assert "2 equal" in verified.stdout


def test_events_for_machines(run: Run, here: Path) -> None:
    result = run("bulk", "prompts.txt", "out", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["begin", "shard", "end"]
    assert events[-1] == {
        "event": "end",
        "reason": "finished",
        "output": str(here / "out"),
        "shards": 1,
        "successes": 2,
        "failed": 1,
    }


def test_verify_says_what_is_wrong(run: Run, here: Path) -> None:
    run("bulk", "prompts.txt", "out")
    picture = here / "out" / "00000" / "00000002.png"
    picture.write_bytes(bytes(picture.stat().st_size))
    result = run("bulk", "verify", "out", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["failed"] == [{"shard": 0, "key": "00000002", "verdict": "damaged"}]
    assert found["verdicts"] == {"equal": 1, "damaged": 1}


@pytest.mark.parametrize(
    "words",
    [
        ("missing.txt", "out"),
        ("prompts.txt", "out", "--bundle", "nowhere"),
        ("prompts.txt", "out", "--prior-strength", "2"),
        ("prompts.txt", "s4://x"),
        ("verify", "out"),
    ],
)
def test_errors_have_a_fix(run: Run, words: Sequence[str]) -> None:
    result = run("bulk", *words)
    assert result.exit_code == 1
    assert "\nfix: " in result.stderr


@pytest.mark.parametrize("words", [(), ("prompts.txt",), ("prompts.txt", "out", "--output-format", "zip")])
def test_wrong_usage(run: Run, words: Sequence[str]) -> None:
    assert run("bulk", *words).exit_code == 2


@pytest.mark.parametrize("overwrite", [(), ("--incremental-mode", "overwrite"), ("--incremental-mode=overwrite",)])
def test_an_interrupt_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch, overwrite: Sequence[str]) -> None:
    def interrupt(*anything: object) -> None:
        raise KeyboardInterrupt

    words = ["bulk", "prompts.txt", "out", *overwrite, "-n", "1"]
    monkeypatch.setattr(InlineCrew, "give", interrupt)
    monkeypatch.setattr("sys.argv", ["pahi-rt", *words])
    result = run(*words)
    assert result.exit_code == 130
    assert "stopped with 0 whole shards" in result.stderr
    assert "next: pahi-rt bulk prompts.txt out -n 1\n" in result.stderr


@pytest.mark.parametrize("word", ["run", "verify"])
def test_both_verbs_have_help(run: Run, word: str) -> None:
    assert f"Usage: pahi-rt bulk {word}" in run("bulk", word, "--help").stdout
    assert "verify OUT -k 100" in run("bulk", "--help").stdout


@pytest.mark.parametrize("package", ["pyarrow", "ray"])
def test_a_missing_extra_is_named(run: Run, without: Callable[[str], None], package: str) -> None:
    without(package)
    words = ["--distributor", "ray"] if package == "ray" else []
    extra = "bulk-ray" if package == "ray" else "bulk"
    result = run("bulk", "prompts.txt", "out", *words)
    assert result.exit_code == 1
    assert f"fix: pip install 'pahi-rt[{extra}]'" in result.stderr
