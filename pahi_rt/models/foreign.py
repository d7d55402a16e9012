"""The boundary around other libraries: whatever they raise over a file becomes one line that names the file.

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
"""Makes the error that says `what`; `fix=` replaces its usual fix. Such as partial(ModelError, fix=...)."""
LONGEST = 200
"""Characters of a reason."""


@contextmanager
def foreign(place: object, refuse: Refuse) -> Iterator[None]:
    """Read the file or folder `place` with another library, silently. Whatever that raises becomes `refuse(...)`."""
    try:
        with quiet_libraries():
            yield
    except PahiError:
        raise
    except Exception as error:
        raise refuse(f"cannot read {place}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The first line of a message that says something, cut."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    # Headings, and pointers to a log that is silenced here, say nothing.
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
    """The JSON object in a file. Raises `refuse(...)` if there is none."""
    with foreign(path, refuse):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise refuse(f"cannot read {path}: it is not a JSON object")
    return content


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No bars and no warnings about harmless details; what matters is checked by those who read."""
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
    """The schedulers of diffusers hand tensors to np.array, which numpy 2 deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
