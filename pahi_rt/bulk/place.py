"""Paths and URLs, by fsspec: the file system, and what goes wrong there in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pahi_rt.errors import OutputError, PahiError, PromptError
from pahi_rt.terminal import printable


def open_place(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it. Raises PahiError if a package for it is missing."""
    from fsspec.core import url_to_fs

    try:
        place, path = url_to_fs(url)
    except ImportError as error:
        raise PahiError(f"{url} needs a package that is not installed", fix=printable(str(error))) from error
    except ValueError as error:
        raise PahiError(f"{url} cannot be opened: {error}", fix="check how the URL begins") from error
    return place, str(path)


def speaks(place: Any, protocol: str) -> bool:
    """Whether a file system is that of a protocol, such as "file" or "https"."""
    return protocol in ((place.protocol,) if isinstance(place.protocol, str) else place.protocol)


@contextmanager
def described(url: str, fix: str, error: type[PromptError] | type[OutputError] = PromptError) -> Iterator[None]:
    """Inside this context, whatever a file system or a library raises over a file becomes one error that names it."""
    try:
        yield
    except (PahiError, MemoryError, GeneratorExit, KeyboardInterrupt):
        raise
    except Exception as problem:  # botocore, aiohttp, pyarrow and others have no base in common
        reason = (str(problem).splitlines() or [""])[0] or type(problem).__name__
        raise error(f"{url} cannot be used: {reason}", fix=fix) from problem
