"""What every benchmark does with its report: a table for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pahi_rt.cli import messages
from pahi_rt.errors import PahiError
from pahi_rt.files import write_whole


def add_options(parser: argparse.ArgumentParser) -> None:
    """--force and --output."""
    parser.add_argument("--force", action="store_true", help="measure although the machine is busy, and say so")
    parser.add_argument("--output", type=Path, help="also write the JSON to this file")


def run(measure: Callable[[], Any], print_table: Callable[[Any], None], output: Path | None) -> int:
    """Measure, print the table and the JSON in one line, and write it to `output`, if there is one: an exit status."""
    try:
        report = measure()
    except PahiError as error:
        messages.problem(error)
        return 1
    print_table(report)
    write(report, output)
    print(json.dumps(report, separators=(",", ":")))
    return 0


def write(report: Mapping[str, Any], path: Path | None) -> None:
    """Write the report to `path`, if there is one: the old file or the new one, whenever the run is cut off."""
    if path is None:
        return
    write_whole(path, json.dumps(report, indent=1) + "\n")
