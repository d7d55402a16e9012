"""Measures the memory that a picture takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pahi_rt.bundle import Bundle
from pahi_rt.errors import PahiError
from pahi_rt.terminal import command

_PROGRAM = """
import sys
from pahi_rt import Pipeline
from pahi_rt.bench.memory import own_peak
bundle, steps, prior, runtime = sys.argv[1:]
Pipeline.load(bundle, steps=int(steps), prior=prior, runtime=runtime)("a grinning cat", seed=0)
print(own_peak())
"""


def peak_memory(bundle: Bundle, steps: int, prior: str, runtime: str) -> float:
    """Peak resident memory in MiB, mapped files included. Raises PahiError if nothing was drawn."""
    words = [sys.executable, "-c", _PROGRAM, str(bundle.path), str(steps), prior, runtime]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        fix = command("pahi-rt", "generate", "--runtime", runtime)
        raise PahiError(f"a process that draws one picture failed: {reason}", fix=fix)
    return round(float(done.stdout.split()[-1]), 1)


def own_peak() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss below starts with what the process had before `exec`
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
