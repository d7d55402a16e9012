"""What a graph is made of as Markdown: its operators by kind, and its layers by what they cost in 8 bits."""

from __future__ import annotations

from pahi_rt.bench.cells import hardware, table
from pahi_rt.bench.reports.operators import OperatorsReport
from pahi_rt.bench.reports.sensitivity import Choice, SensitivityReport

MOST_SENSITIVE = 20
"""Layers that the table of sensitivities lists."""


def operators(report: OperatorsReport) -> str:
    """What a graph's nodes are, compute and move, and what ONNX Runtime's kernels take for them."""
    head = ("", "nodes", "small on a GPU", "GFLOP", "MB moved", "kernels", "ms", "of all", "roofline ms")
    total = report.total
    rows = [
        (name, kind.nodes, kind.small, f"{kind.gflop:.2f}", f"{kind.megabytes:.1f}", kind.kernels, f"{kind.ms:.2f}")
        + (f"{100 * kind.ms / total.ms:.0f} %", f"{kind.roofline_ms:.2f}")
        for name, kind in {**report.kinds, "all": total}.items()
        if kind.nodes or kind.kernels
    ]
    return table(head, rows) + "\n\n" + hardware(report)


def sensitivity(report: SensitivityReport) -> str:
    """What choices of layers in 8 bits cost, and the layers that cost most for the operations that they do."""
    return _choices(report) + "\n\n" + _layers(report) + "\n\n" + hardware(report)


def _choices(report: SensitivityReport) -> str:
    choices = {
        "every layer": report.all_layers,
        "those that an export chooses": report.as_exported,
        f"those that the rule chooses, for {report.target_db:g} dB": report.by_rule,
    }
    head = ("layers in 8 bits", "GFLOP in 8 bits", "PSNR dB, all / worst picture", "by adding up errors")
    return table(head, [(name, *_choice(choice)) for name, choice in choices.items()])


def _choice(choice: Choice) -> tuple[str, ...]:
    all_pictures, worst, expected = map(_db, (choice.psnr_db, choice.worst_psnr_db, choice.expected_psnr_db))
    return f"{choice.gflop_in_8_bits:.2f}", f"{all_pictures} / {worst}", expected


def _layers(report: SensitivityReport) -> str:
    head = ("most sensitive layers", "GFLOP", "PSNR dB with it alone in 8 bits", "exported in", "by the rule in")
    rows = [
        (f"`{layer.name.rpartition('/')[0]}`", f"{layer.gflop:.3f}", _db(layer.psnr_db))
        + tuple(f"{8 if is_in else 32} bits" for is_in in (layer.is_exported, layer.is_by_rule))
        for layer in report.layers[:MOST_SENSITIVE]
    ]
    return table(head, rows)


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f}"
