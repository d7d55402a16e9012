"""The stages as commands."""

import sys
from pathlib import Path

import pytest

from emoji_model import __main__ as commands
from emoji_model.workshop import Workshop


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["emoji_model", *arguments])
    return commands.main()


def test_all_is_every_stage_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, Path, int | None]] = []
    for stage in commands.STAGES:
        monkeypatch.setattr(Workshop, stage, lambda self, stage=stage: ran.append((stage, self.folder, self.steps)))
    assert run(monkeypatch, "all", "--work", str(tmp_path), "--steps", "3") == 0
    assert ran == [(stage, tmp_path, 3) for stage in commands.STAGES]


@pytest.mark.parametrize(
    ("stage", "before"), [("memory", "sketch"), ("words", "memory"), ("generator", "words"), ("decoder", "generator")]
)
def test_the_stage_before_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str, before: str
) -> None:
    assert run(monkeypatch, stage, "--work", str(tmp_path)) == 1
    assert f"fix: python -m emoji_model {before}\n" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--workers", "--steps"])
@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_counts_are_positive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "sketch", option, value)
    assert f"argument {option}: '{value}' is not an integer of 1 or more" in capsys.readouterr().err


def test_what_was_not_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "install", "--work", str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert "is not there" in error and "fix: python -m emoji_model bundle" in error
