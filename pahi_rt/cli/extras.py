"""Extras: the optional packages that parts of pahi-rt need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pahi_rt.cache import lend_cache
from pahi_rt.errors import PahiError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wrap the imports of a verb. A package that is not installed becomes a PahiError that names the extra.

    with needs("export"):
        from pahi_rt.export.exporter import export_bundle
    """
    lend_cache()  # the imported libraries look for a cache too
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "pahi_rt").partition(".")[0]
        if package == "pahi_rt":
            raise
        what = f"this needs the package {package}, which is not installed"
        raise PahiError(what, fix=f"pip install 'pahi-rt[{extra}]'") from error
