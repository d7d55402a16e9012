from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def models() -> dict[str, Any]:
    """What the report says of the model."""
    return {"generator": "org/model", "decoder": "org/taesd", "variant": "fp16", "steps": 1}


@pytest.fixture
def request_made(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the verb asks of pahi_rt.train, whose place a fake takes."""
    made: dict[str, Any] = {}

    def evaluate_targets(targets: list[str], *, watch: Any, track: Callable[..., Any], **options: Any) -> Any:
        made.update(targets=targets, **options)
        watch.end("load generator", 1.25)
        made["batches"] = list(track([["a"], ["b"]], "scores"))
        priors = {name: f"{name}/prior.safetensors" for name in targets}
        return SimpleNamespace(to_dict=lambda: {"seeds": options["seeds"]}, priors=priors, **models)

    evaluation, table = ModuleType("pahi_rt.evaluate.table1"), ModuleType("pahi_rt.evaluate.text")
    evaluation.evaluate_targets = evaluate_targets  # type: ignore[attr-defined]
    table.format_report = lambda report: "the table"  # type: ignore[attr-defined]
    for module in (evaluation, table):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def test_defaults(run: Run, request_made: dict[str, Any]) -> None:
    result = run("evaluate", "runs/pahi")
    assert (result.exit_code, result.stdout) == (0, "the table\n")
    lines = result.stderr.splitlines()
    assert lines[0] == "load generator  1.2 s"
    assert re.fullmatch(r"scores  \d+\.\d s", lines[1])
    export = (
        "pahi-rt export org/model --variant fp16 --decoder org/taesd --prior runs/pahi/prior.safetensors -o my-bundle"
    )
    assert lines[2].endswith(export) and not lines[3:]
    assert request_made == {
        "targets": ["runs/pahi"],
        "seeds": 5,
        "limit": None,
        "recipe": None,
        "encoder": None,
        "scorers": (),
        "judge": None,
        "batches": [["a"], ["b"]],
    }


def test_the_prior_is_exported_for_the_steps_that_it_was_trained_with(
    run: Run, request_made: dict[str, Any], models: dict[str, Any]
) -> None:
    models["steps"] = 4
    assert " --steps 4 --prior " in run("evaluate", "runs/pahi").stderr


def test_options(run: Run, request_made: dict[str, Any]) -> None:
    words = ["--seeds", "3", "--limit", "7", "--recipe", "emoji", "--encoder", "clip", "--json"]
    words += ["--scorer", "emoji-a", "--scorer", "emoji-b", "--judge", "emoji-b"]
    result = run("evaluate", "emoji", *words)
    assert json.loads(result.stdout) == {"seeds": 3}
    assert [request_made[key] for key in ("seeds", "limit", "recipe", "encoder")] == [3, 7, "emoji", "clip"]
    assert (request_made["scorers"], request_made["judge"]) == (["emoji-a", "emoji-b"], "emoji-b")


def test_several_runs(run: Run, request_made: dict[str, Any]) -> None:
    result = run("evaluate", "runs/hi", "runs/pahi")
    assert request_made["targets"] == ["runs/hi", "runs/pahi"]
    assert "next:" not in result.stderr


@pytest.mark.parametrize("wrong", [["--seeds", "1"], ["--limit", "0"], ["--seeds", "five"], []])
def test_wrong_usage(run: Run, request_made: dict[str, Any], wrong: Sequence[str]) -> None:
    result = run("evaluate", *(["runs/pahi"] if wrong else []), *wrong)
    assert result.exit_code == 2
    assert request_made == {}


def test_a_bundle_without_a_prior(run: Run, contract: Path) -> None:
    pytest.importorskip("torch")
    result = run("evaluate", str(contract), "--recipe", "emoji")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: " in result.stderr
    assert "fix: " in result.stderr


@pytest.fixture
def ceiling_asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`measure_ceiling` without models; tells what it was asked for."""
    asked: dict[str, Any] = {}

    def measure_ceiling(target: str, watch: Any, track: Any, **options: Any) -> SimpleNamespace:
        asked.update(target=target, prompts=list(track([["a"], ["b"]], "scores")), **options)
        return SimpleNamespace(to_dict=lambda: {"target": target})

    ceiling, text = ModuleType("pahi_rt.evaluate.ceiling"), ModuleType("pahi_rt.evaluate.ceiling_text")
    ceiling.measure_ceiling = measure_ceiling  # type: ignore[attr-defined]
    text.format_ceiling = lambda report: "two\nlines"  # type: ignore[attr-defined]
    for module in (ceiling, text):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def test_the_ceiling_of_a_recipe(run: Run, ceiling_asked: dict[str, Any]) -> None:
    result = run("evaluate", "--ceiling", "sd-turbo")
    assert (result.exit_code, result.stdout) == (0, "two\nlines\n")
    assert "next:" not in result.stderr
    asked = {"target": "sd-turbo", "prompts": [["a"], ["b"]], "pictures": None, "limit": None, "scorers": ()}
    assert ceiling_asked == asked


def test_options_of_the_ceiling(run: Run, ceiling_asked: dict[str, Any]) -> None:
    result = run("evaluate", "emoji", "--ceiling", "--seeds", "64", "--limit", "3", "--scorer", "redness", "--json")
    assert json.loads(result.stdout) == {"target": "emoji"}
    assert [ceiling_asked[key] for key in ("pictures", "limit", "scorers")] == [64, 3, ["redness"]]


@pytest.mark.parametrize("wrong", [["--recipe", "emoji"], ["--encoder", "clip"], ["--judge", "emoji-a"], ["another"]])
def test_what_does_not_go_with_the_ceiling(run: Run, ceiling_asked: dict[str, Any], wrong: Sequence[str]) -> None:
    result = run("evaluate", "--ceiling", "emoji", *wrong)
    assert result.exit_code == 2
    assert ceiling_asked == {}
