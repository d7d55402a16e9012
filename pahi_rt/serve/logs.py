"""The log of the service, on standard error. It never holds prompts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pahi_rt.serve.settings import Settings
from pahi_rt.terminal import printable

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"


_LEVELS = {"pahi_rt.serve": logging.INFO, "uvicorn.error": logging.WARNING}


class _Printable(logging.Formatter):
    """What clients and bundles name cannot forge a line, nor control the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """One line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The lines of a traceback."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


@contextmanager
def logging_to_stderr(settings: Settings) -> Iterator[None]:
    """Inside this context, what the service and uvicorn log goes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable(_FORMAT))
    logging.getLogger("pahi_rt.serve.access").disabled = not settings.access_log
    loggers = [logging.getLogger(name) for name in _LEVELS]
    for logger, level in zip(loggers, _LEVELS.values(), strict=True):
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False  # the command line would show warnings a second time
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
