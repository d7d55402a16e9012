"""Lines that libraries print from C."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, sys
from pahi_rt.cli.quiet import quiet_libraries
with quiet_libraries():
    os.write(2, b"from C\\n")
    print("from Python", file=sys.stderr)
os.write(2, b"after\\n")
print("the end", file=sys.stderr)
"""


def test_only_the_lines_of_c_are_dropped() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["from Python", "after", "the end"]


def test_without_a_standard_error() -> None:
    code = f"import os; os.close(2)\n{CODE.replace('os.write(2', 'os.write(1')}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "from C" in done.stdout
