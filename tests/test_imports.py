"""Each in an interpreter of its own, for what another test has imported must not count."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pahi_rt.locations import built_in

ROOT = Path(__file__).parents[1]
CONTRACT = str(Path(__file__).parent / "data" / "contract")

DRAW = """
import sys
for name in ("torch", "torchvision", "diffusers", "transformers", "onnx"):
    sys.modules[name] = None
from pahi_rt import Pipeline
image = Pipeline.load(sys.argv[1])("a red apple", seed=1)
assert len(image.getcolors(1 << 20)) > 1, "an empty picture"
print(*image.size)
"""

REPORTS = """
import sys
for name in ("torch", "diffusers", "transformers", "onnx", "onnx_ir"):
    sys.modules[name] = None
from pahi_rt.cli import main
main()
"""

LIGHT = """
import sys
import pahi_rt
heavy = {"numpy", "PIL", "onnxruntime", "tokenizers", "huggingface_hub", "torch", "typer", "rich"}
print(*sorted(heavy & set(sys.modules)))
"""


ROOMS_WITHOUT_TORCH = ("*.py", "cli/*.py", "runtimes/*.py", "serve/*.py", "bulk/*.py", "assets/*.py")
HEAVY = {"torch", "diffusers", "transformers"}


def imported(path: Path) -> set[str]:
    """The packages that a file imports, also inside its functions."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("pattern", ROOMS_WITHOUT_TORCH)
def test_the_runtime_names_no_torch(pattern: str) -> None:
    files = list((ROOT / "pahi_rt").glob(pattern))
    assert files
    assert {path.name: found for path in files if (found := imported(path) & HEAVY)} == {}


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("bundle", [CONTRACT, *built_in()], ids=lambda bundle: Path(bundle).name)
def test_a_picture_is_drawn_without_torch(bundle: str) -> None:
    width, height = map(int, run(DRAW, bundle).split())
    assert min(width, height) >= 32


@pytest.mark.parametrize("words", [["scaling"], ["documents", "--check"]])
def test_reports_are_read_without_what_measures(words: list[str]) -> None:
    pytest.importorskip("matplotlib", reason="`make compat` has none")
    run(REPORTS, "bench", *words)


def test_runtimes_are_found_without_pillow() -> None:
    """A server that draws with TensorRT need not load it."""
    assert run("import sys, pahi_rt.runtimes; print('PIL' in sys.modules)") == "False"


def test_import_is_light() -> None:
    assert run(LIGHT) == ""


@pytest.mark.parametrize("package", ["pahi_rt", "emoji_model"])
def test_class_variables_name_their_type(package: str) -> None:
    """Python 3.10 cannot resolve the hints of a class that has a plain ClassVar, and schema.py resolves them."""
    for path in (ROOT / package).rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        plain = [n for n in nodes if isinstance(n, ast.AnnAssign) and ast.unparse(n.annotation) == "ClassVar"]
        assert not plain, f"{path}:{plain[0].lineno}"
