"""The boundary around other libraries: an error of theirs about a file becomes a one-line error that names the file.

with foreign(folder, partial(ModelError, fix="download it again")):
    model = kind.from_pretrained(folder)
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from pahi_rt.errors import PahiError

Refuse = Callable[..., PahiError]
"""Makes an error from its text `what`; `fix=` replaces the usual fix. Example: partial(ModelError, fix=...)."""
LONGEST = 200
"""Characters after which `reason` cuts a message."""


@contextmanager
def foreign(place: object, refuse: Refuse) -> Iterator[None]:
    """Read the file or folder `place` with another library, silently. Any exception becomes `refuse(...)`; a PahiError
    passes through."""
    try:
        with quiet_libraries():
            yield
    except PahiError:
        raise
    except Exception as error:
        raise refuse(f"cannot read {place}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The first informative line of an error's message, at most `LONGEST` characters of it."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    # Skip headings, and references to a log that is silenced here.
    said = next((line for line in lines if line and not line.endswith(":") and "above report" not in line), "")
    if isinstance(error, json.JSONDecodeError):
        said = f"it is not JSON: {said}"
    elif isinstance(error, KeyError):
        said = f"{said} is missing or not known"
    elif isinstance(error, OSError) and error.strerror:
        said = error.strerror
    elif not said:
        said = type(error).__name__
    return said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."


def read_json(path: Path, refuse: Refuse) -> dict[str, Any]:
    """Read the JSON object in a file. Raises `refuse(...)` if the file is missing, or holds something else."""
    with foreign(path, refuse):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise refuse(f"cannot read {path}: it is not a JSON object")
    return content


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the progress bars and warnings of diffusers and transformers. Callers check what matters themselves."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def quiet_schedulers() -> Iterator[None]:
    """Silence a DeprecationWarning: the schedulers of diffusers pass tensors to np.array, which numpy 2 deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
