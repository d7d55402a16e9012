"""Logs what a training measures, as JSON Lines and as TensorBoard events.

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
"""Characters that TensorBoard refuses in a name, such as the colon and the slashes of "pickscore:/models/pickscore"."""


class MetricsLog:
    """The two logs of a run, opened by one process.

    Raises RunError if another process writes them, and OutputError if they cannot be written.
    """

    def __init__(self, run: Run, step: int, evaluated: int) -> None:
        """Continue the logs after step `step` and after the evaluation at step `evaluated`, as in `State`.

        Later rows are dropped, because those steps are taken again.
        """
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
        """Log the numbers of a step; `values` may be nested."""
        with writing(self._path):
            self._file.write(json.dumps({"step": step, group: values}) + "\n")
            self._file.flush()
            for name, value in flatten(group, values):
                self._writer.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete rows of a metrics file; none if it does not exist."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # a kill can leave an incomplete line
            break
    return rows


def forget_after(path: Path, step: int, evaluated: int) -> None:
    """Drop the rows of steps after `step`, and of evaluations after step `evaluated`."""
    if path.exists():
        kept = [row for row in read_metrics(path) if row["step"] <= (evaluated if "validation" in row else step)]
        write_whole(path, "".join(json.dumps(row) + "\n" for row in kept))


def flatten(name: str, value: object) -> Iterator[tuple[str, float]]:
    """Nested numbers with TensorBoard's names, such as "validation/pickscore/loss". Other values are left out."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from flatten(f"{name}/{_NOT_IN_A_NAME.sub('_', str(key))}", part)
    elif isinstance(value, int | float):
        yield name, value
