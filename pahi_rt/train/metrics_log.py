"""What a training measures, as a JSON object on each line and as TensorBoard's events.

{"step": 1, "training": {"loss": 0.69, ...}}
{"step": 1000, "validation": {"loss": 0.61, "scorers": {"pickscore": {...}}, ...}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from pahi_rt.files import write_whole
from pahi_rt.train.run import Run, lock, writing

_NOT_IN_A_NAME = re.compile(r"[^-.\w]")
"""What TensorBoard does not take, such as the colon and the slashes of "pickscore:/models/pickscore"."""


class MetricsLog:
    """The two files of a run, open for one process. Raises PahiError if another one writes them, or they cannot be."""

    def __init__(self, run: Run, step: int, evaluated: int) -> None:
        """`step` is where the run goes on, `evaluated` the step of its last evaluation, as in `State`: what was written
        beyond them is dropped, for it is made again."""
        self._path = run.metrics
        self._lock = lock(run)
        with writing(run.path):
            forget_after(run.metrics, step, evaluated)
            self._file = run.metrics.open("a", encoding="utf-8")
            self._writer = SummaryWriter(str(run.tensorboard), purge_step=step + 1)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._file, self._writer, self._lock):
            file.close()

    def write(self, step: int, group: str, values: Mapping[str, Any]) -> None:
        """Numbers, which may be nested, that belong to `step`."""
        with writing(self._path):
            self._file.write(json.dumps({"step": step, group: values}) + "\n")
            self._file.flush()
            for name, value in flatten(group, values):
                self._writer.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a run that were written whole; none if there is no such file."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # a kill can leave half a line
            break
    return rows


def forget_after(path: Path, step: int, evaluated: int) -> None:
    """Drop the rows of steps after `step`, and of evaluations after that of step `evaluated`."""
    if path.exists():
        kept = [row for row in read_metrics(path) if row["step"] <= (evaluated if "validation" in row else step)]
        write_whole(path, "".join(json.dumps(row) + "\n" for row in kept))


def flatten(name: str, value: object) -> Iterator[tuple[str, float]]:
    """Nested numbers as TensorBoard names them: "validation/pickscore/loss". What is no number is left out."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from flatten(f"{name}/{_NOT_IN_A_NAME.sub('_', str(key))}", part)
    elif isinstance(value, int | float):
        yield name, value
