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


def test_what_was_not_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "install", "--work", str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert "is not there" in error and "fix: python -m emoji_model bundle" in error
