from __future__ import annotations

from pathlib import Path

from pahi_rt.train.metrics_log import flatten, forget_after, read_metrics


def test_half_a_line_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    forget_after(path, 2, 0)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    forget_after(tmp_path / "none", 0, 0)
    assert read_metrics(tmp_path / "none") == []


def test_an_evaluation_that_no_checkpoint_knows_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = ['{"step": 4, "validation": {}}', '{"step": 8, "training": {}}', '{"step": 8, "validation": {}}']
    path.write_text("\n".join(rows))
    forget_after(path, 8, 8)
    assert path.read_text().splitlines() == rows
    forget_after(path, 8, 4)
    assert path.read_text().splitlines() == rows[:2]


def test_names_for_tensorboard() -> None:
    nested = {"loss": 0.5, "scorers": {"pickscore:/m/x.pt": {"wins": 3, "effect": None, "unit": "cosine"}}}
    assert dict(flatten("validation", nested)) == {
        "validation/loss": 0.5,
        "validation/scorers/pickscore__m_x.pt/wins": 3,
    }
