"""Documents and plots that are made from reports: fresh in this checkout, and caught when they are not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pahi_rt.bench import plots
from pahi_rt.bench.documents import fill, find_documents, find_stale, refresh
from pahi_rt.bench.markdown import TABLES
from pahi_rt.cli import app
from pahi_rt.comparison import Comparison
from pahi_rt.errors import PahiError
from pahi_rt.evaluate.report import Group, Ratio, Row, ScorerNote
from pahi_rt.evaluate.report import Report as Evaluation

ROOT = Path(__file__).parents[2]
MACHINE = {"cpu": "AMD EPYC", "cores": 2, "load_average_1min": 0.1, "system": "Linux x86_64", "python": "3.11"}
MACHINE |= {"onnxruntime": None, "commit": None}
LIMITS = {"gemm": "", "fp32_gflop_per_s": 100.0, "int8_gop_per_s": 400.0, "copy_gb_per_s": 10.0, "threads": 2}
TIMES = {"median": 0.5, "low": 0.4, "high": 0.6}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "p10": median, "p90": median, "n": 5}


PEERS: dict[str, Any] = {
    "command": "python -m pahi_rt.bench.peers MODEL BUNDLE",
    "machine": MACHINE,
    "limits": LIMITS,
    "reference": {"name": "diffusers eager", "version": "diffusers 0.39", "decoder": "AutoencoderTiny"},
    "rows": [
        {"name": "slow", "version": "1", "decoder": "kl", "ms": spread(4000.0)}
        | {"reference_ms": spread(2000.0), "time_over_reference": {"median": 2.0, "low": 1.9, "high": 2.1}},
        {"name": "pahi-rt", "version": "2", "decoder": "taesd", "ms": spread(1000.0)}
        | {"reference_ms": spread(2000.0), "time_over_reference": TIMES},
        {"name": "absent", "reason": "cannot be installed"},
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A README that shows the table and the plot of one report."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "turbo-peers.json").write_text(json.dumps(PEERS))
    blocks = [f"<!-- bench: {kind} results/turbo-peers.json -->\nold\n<!-- end -->" for kind in ("peers", "plot")]
    (tmp_path / "README.md").write_text("# Title\n\n" + "\n\nbetween\n\n".join(blocks) + "\n\nafter\n")
    return tmp_path


def test_this_checkout_shows_what_was_measured() -> None:
    assert list(find_stale(ROOT)) == []
    assert sum("<!-- bench: " in path.read_text() for path in find_documents(ROOT)) >= 2


def test_documents_are_written_once(root: Path) -> None:
    readme, plot = root / "README.md", root / "results" / "turbo-peers.png"
    assert list(find_stale(root)) == [readme, plot]
    assert list(refresh(root)) == [readme, plot]
    text = readme.read_text()
    assert "old" not in text and text.startswith("# Title\n") and text.endswith("\n\nafter\n")
    assert "![turbo peers](results/turbo-peers.png)" in text
    assert list(find_stale(root)) == []
    with Image.open(plot) as image:
        assert min(image.size) > 300 and len(image.convert("RGB").getcolors(1 << 24) or ()) > 10


def test_another_report_makes_both_stale(root: Path) -> None:
    list(refresh(root))
    changed = PEERS | {"machine": MACHINE | {"cores": 4}}
    (root / "results" / "turbo-peers.json").write_text(json.dumps(changed))
    assert [path.name for path in find_stale(root)] == ["README.md", "turbo-peers.png"]


def test_peers_are_sorted_and_what_failed_says_why() -> None:
    lines = TABLES["peers"](PEERS).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| pahi-rt", "| diffusers eager", "| slow"]
    assert lines[2].endswith("| 1000 | 5 | 0.500 (0.400-0.600) |")
    assert "- absent: cannot be installed" in lines
    assert lines[-1] == "On AMD EPYC, 2 cores: `python -m pahi_rt.bench.peers MODEL BUNDLE`."


DRAWN = [path for kind in ("table2", "cuda") for path in sorted((ROOT / "bench" / "results").glob(f"*/*-{kind}*.json"))]


@pytest.mark.parametrize("report", DRAWN, ids=lambda p: p.stem)
def test_every_panel_can_be_drawn(report: Path, tmp_path: Path) -> None:
    plots.draw(json.loads(report.read_text()), tmp_path / "plot.png", "digest")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.info[plots.REPORT] == "digest"
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_a_plot_of_nothing_is_named(root: Path) -> None:
    (root / "results" / "turbo-peers.json").unlink()
    (root / "README.md").write_text("<!-- bench: plot results/turbo-peers.json -->\n<!-- end -->\n")
    with pytest.raises(PahiError, match=r"turbo-peers\.png is a plot of .*No such file"):
        list(refresh(root))


def test_a_block_without_an_end_keeps_what_follows(root: Path) -> None:
    text = "<!-- bench: peers results/turbo-peers.json -->\nprose\n" + (root / "README.md").read_text()
    assert fill(text, root / "README.md", root).startswith(text[:60])


@pytest.mark.parametrize(
    "block", ["nothing results/turbo-peers.json", "table2 results/turbo-peers.json", "cuda no.json"]
)
def test_what_no_report_holds_is_named(root: Path, block: str) -> None:
    with pytest.raises(PahiError, match=f"README.md asks for {block.split()[0]}"):
        fill(f"<!-- bench: {block} -->\n<!-- end -->", root / "README.md", root)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", "documents", *map(str, words)])


def test_check_writes_nothing(root: Path) -> None:
    before = (root / "README.md").read_text()
    result = run("--check", "--root", root)
    assert result.exit_code == 1
    assert result.stdout == "stale: README.md\nstale: results/turbo-peers.png\n"
    assert (root / "README.md").read_text() == before
    assert run("--root", root).exit_code == 0
    assert run("--check", "--root", root).exit_code == 0


def test_plots_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PahiError) as caught:
        plots.draw(PEERS, tmp_path / "plot.png", "")
    assert caught.value.fix == "pip install 'pahi-rt[bench]'"


def test_table_1_has_independent_noise_first_and_the_papers_rates_beside_it() -> None:
    def score(independent: float, same: float) -> Comparison:
        return Comparison(
            independent_win_rate_percent=independent,
            independent_win_rate_std_percent=1,
            independent_win_rate_interval_percent=(independent - 3, independent + 3),
            same_noise_win_rate_percent=same,
            same_noise_win_rate_std_percent=1,
            same_noise_win_rate_interval_percent=(same - 3, same + 3),
            margin_win_rate_percent=same,
            effect_size=0.38,
            effect_size_interval=None,
            mean_score=0.2,
            gaussian_mean_score=0.1,
            seed_std=0.1,
        )

    def row(name: str, drawn: int = 1) -> Row:
        return Row(name, drawn, 1.36, Ratio(0.85, None), Ratio(0.99, None), scores)

    scores = {"a": score(61.94, 72.2), "b": score(61.4, 70.5)}
    notes = {"a": ScorerNote("cosine", True), "b": ScorerNote("cosine", False)}
    rows = (row("Gaussian"), row("pahi-0.1"), row("best", drawn=4))
    groups = Group("seen", 9, 9, 9, ()), Group("all", 9, 9, 9, rows)
    report = Evaluation("runs", 1, 5, 16, "filters", "float32", "a", notes, groups)
    text = TABLES["table1"](report.to_dict())
    wins, rest = (block.splitlines() for block in text.split("\n\n"))
    head, _, pahi, _, *paper = wins
    assert head == "|  | wins, a | wins, b | wins, same noise, a | wins, same noise, b |"
    expected = ["pahi-0.1", "61.9 % (58.9-64.9)", "61.4 % (58.4-64.4)", "72.2 %", "70.5 %"]
    assert pahi.strip("| ").split(" | ") == expected
    assert [line.split(" | ")[1:3] for line in paper] == [["94.0 %", "75.5 %"], ["64.7 %", "64.1 %"]]
    assert rest[2].strip("| ").split(" | ") == ["pahi-0.1", "0.38", "0.38", "0.85", "0.99", "1.4 nats"]
    assert "nats" not in rest[3]
    assert [len({line.count("|") for line in block}) for block in (wins, rest)] == [1, 1]
