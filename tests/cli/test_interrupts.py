from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pahi_rt.cli.interrupts import each_ends_at_once, ends_at_once

ROOT = Path(__file__).parents[2]


def test_ctrl_c_ends_what_a_library_does_not_return_from() -> None:
    # re holds Python's own handler up for as long as it takes to match: half an hour here.
    script = """
import re, sys
from pahi_rt.cli.interrupts import ends_at_once
with ends_at_once():
    print("computing", flush=True)
    re.match("(a+)+$", "a" * 40 + "b")
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT


def test_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []
    for item in each_ends_at_once(iter("ab")):
        seen.append(item)
        assert signal.getsignal(signal.SIGINT) is before
    assert seen == ["a", "b"]
    with ends_at_once():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_no_signals() -> None:
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.extend(each_ends_at_once("ab")))
    thread.start()
    thread.join()
    assert results == ["a", "b"]
