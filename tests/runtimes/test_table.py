"""The table of runtimes, and the document that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.runtimes.providers import PROVIDERS
from pahi_rt.runtimes.table import NAMES, TABLE, by_rank, find
from pahi_rt.runtimes.tensorrt import MODULES

ROOT = Path(__file__).parents[2]


def test_every_name_is_found() -> None:
    assert [find(name) for name in NAMES if name != "auto"] == list(TABLE)
    with pytest.raises(RuntimeUnavailable, match="there is no runtime 'auto'"):
        find("auto")


def test_auto_prefers_plans_then_cuda_then_the_cpu() -> None:
    assert [entry.name for entry in by_rank()] == ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime"]
    assert by_rank()[-1].device == "cpu"


def test_plans_are_of_tensorrt() -> None:
    assert [entry.name for entry in TABLE if entry.needs_plan] == list(MODULES)


def test_providers_are_of_onnxruntime() -> None:
    assert [name for name in NAMES if name.startswith("onnxruntime")] == list(PROVIDERS)


def test_where_they_run() -> None:
    """The benchmarks of a CPU, and of CUDA, take their lists from here."""
    on_a_cpu = {entry.name: entry.is_exact for entry in TABLE if entry.device == "cpu"}
    assert on_a_cpu == {"onnxruntime": True, "openvino": True, "openvino-bf16": False}
    on_a_gpu = {entry.title: entry.name for entry in TABLE if entry.device == "nvidia" and entry.rank}
    assert on_a_gpu == {
        "ONNX Runtime CUDA": "onnxruntime-cuda",
        "TensorRT": "tensorrt",
        "TensorRT for RTX": "tensorrt-rtx",
    }


def test_the_documents_table_is_this_one() -> None:
    rows = [("runtime", "runs on"), ("---", "---"), *((f"`{entry.name}`", entry.hardware) for entry in TABLE)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    document = (ROOT / "docs" / "runtimes.md").read_text(encoding="utf-8")
    assert f"\n\n{table}\n" in document, f"write this table into docs/runtimes.md:\n{table}"


def test_the_document_installs_each() -> None:
    """Each command stands under the names of its runtimes, on lines that fit a page."""
    names: dict[str, list[str]] = {}
    for entry in TABLE:
        names.setdefault(entry.install, []).append(entry.name)
    blocks = [f"# {', '.join(runtimes)}\n{_lines(install)}\n" for install, runtimes in names.items()]
    shown = "\n".join(blocks)
    document = (ROOT / "docs" / "runtimes.md").read_text(encoding="utf-8")
    assert f"\n```sh\n{shown}```\n" in document, f"write this block into docs/runtimes.md:\n{shown}"


def _lines(install: str) -> str:
    return install.replace(" && ", "\n").replace(" --extra-index-url", " \\\n    --extra-index-url")
