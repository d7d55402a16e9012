"""The log of the service, on standard error. It never holds prompts."""

from __future__ import annotations

import logging
import sys

from pahi_rt.serve.settings import Settings

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"


def log_to_stderr(settings: Settings) -> None:
    """Send what the service and uvicorn log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    for name, level in (("pahi_rt.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers = [handler]
    logging.getLogger("pahi_rt.serve.access").disabled = not settings.access_log
