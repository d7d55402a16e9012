"""The log of the service, on standard error. It never holds prompts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pahi_rt.serve.settings import Settings

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"


_LEVELS = {"pahi_rt.serve": logging.INFO, "uvicorn.error": logging.WARNING}


@contextmanager
def logging_to_stderr(settings: Settings) -> Iterator[None]:
    """Inside this context, what the service and uvicorn log goes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
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
