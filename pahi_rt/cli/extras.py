"""The parts of pahi-rt that need more than its own dependencies."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from pahi_rt.cache import lend_cache
from pahi_rt.errors import PahiError


def load(module: str, extra: str) -> ModuleType:
    """Import a module of pahi-rt. Raises PahiError that names the extra whose packages it lacks."""
    lend_cache()  # what it imports looks for a cache too
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "pahi_rt").partition(".")[0]
        if package == "pahi_rt":
            raise
        what = f"this needs the package {package}, which is not installed"
        raise PahiError(what, fix=f"pip install 'pahi-rt[{extra}]'") from error
