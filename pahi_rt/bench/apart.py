"""Work in a process of its own, with a time limit: a crash or a hang becomes a reason, and the others go on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pahi_rt.bench.reports.cuda import Failure

LONGEST_REASON = 2000
"""Characters."""


def run_apart(work: Callable[..., Any], arguments: Sequence[Any], limit_s: float, preload: str) -> Any | Failure:
    """What `work` returns in a new process, or why there is nothing. Everything that it needs must be picklable.

    `preload` is a module that all such processes share, so that it is imported once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stderr"
        process = context.Process(target=_answer, args=(theirs, str(log), work, tuple(arguments)))
        process.start()
        theirs.close()
        try:
            if not ours.poll(limit_s):
                return Failure("failed", f"it took more than {limit_s:g} s{_last_line(log)}")
            return ours.recv()
        except EOFError:
            process.join()
            return Failure("failed", f"its process ended{_how(process.exitcode)}{_last_line(log)}")
        finally:
            ours.close()
            process.kill()
            process.join()


def attempt(work: Callable[..., Any], *arguments: Any) -> Any | Failure:
    """What `work` returns, or why it failed: the one place where failures become part of the report."""
    try:
        return work(*arguments)
    except Exception as error:  # compilers, drivers and runtimes raise classes of their own
        return Failure("failed", f"{type(error).__name__}: {error}"[:LONGEST_REASON])


def _answer(connection: Connection, log: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 2)
    # What a library prints would be taken for the report.
    os.dup2(2, 1)
    connection.send(attempt(work, *arguments))


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return f" by {signal.Signals(-exit_code).name}"
    return f" with exit code {exit_code}"


def _last_line(log: Path) -> str:
    try:
        last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    except OSError:
        return ""
    return f": {last}"[:LONGEST_REASON] if last else ""
