"""python -m tests.messages: write what users read of errors and help into tests/data, where a change of it is seen, and
the reference of the command line into docs/.

Errors are taken from the source: each call that makes one of our errors, by its class or as `self.error`, with its
`fix`. A name stands for the texts that the same function gives it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from pahi_rt import errors
from pahi_rt.cli import app
from tests.cli.verbs import list_verbs
from tools.commands import list_commands

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.PahiError)}
COLUMNS = "100"


def list_errors() -> str:
    """Every error of the source, file by file."""
    blocks = []
    for path in sorted([*(ROOT / "pahi_rt").rglob("*.py"), *(ROOT / "emoji_model").rglob("*.py")]):
        lines = list(dict.fromkeys(_errors_in(ast.parse(path.read_text(encoding="utf-8")))))
        if lines:
            blocks.append("\n".join([f"== {path.relative_to(ROOT)}", *lines]))
    return "\n\n".join(blocks) + "\n"


def _errors_in(tree: ast.Module) -> Iterator[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        known = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func).split(".")[-1]
            if name in {*ERRORS, "error"} and call.args:
                fixes = [*call.args[1:], *(word.value for word in call.keywords if word.arg == "fix")]
                yield f"{name}: {_text(call.args[0], known)}\n  fix: {_text(fixes[0], known) if fixes else '-'}"


def _text(node: ast.expr, known: dict[str, ast.expr]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, {}) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value).replace("'", '"') + "}"
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body, known)} | {_text(node.orelse, known)}"
    if isinstance(node, ast.Name) and node.id in known:
        return _text(known[node.id], {})
    return "{" + ast.unparse(node).replace("'", '"') + "}"


def list_help() -> str:
    """The help of every verb."""
    screens = []
    for verb in list_verbs():
        result = CliRunner().invoke(
            app, [*verb.split(), "--help"], prog_name="pahi-rt", env={"COLUMNS": COLUMNS, "TERMINAL_WIDTH": COLUMNS}
        )
        screens.append(result.stdout.rstrip())
    return "\n\n\n".join(screens) + "\n"


GOLDEN = {
    DATA / "errors.txt": list_errors,
    DATA / "help.txt": list_help,
    ROOT / "docs" / "commands.md": list_commands,
}

if __name__ == "__main__":
    for path, make in GOLDEN.items():
        path.write_text(make(), encoding="utf-8")
