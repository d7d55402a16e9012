"""The cache: where pahi-rt keeps what it can download or make again.

It holds downloads, unpacked bundles, optimised graphs, and compiled plans and kernels.

A container may have neither a home nor an entry in passwd, or a home that cannot be written. The cache is then a
private folder among the temporary files, which nobody else can read.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
import tempfile
from pathlib import Path

from pahi_rt.errors import OutputError

_CACHE = "XDG_CACHE_HOME"

_logger = logging.getLogger(__name__)


def cache_folder(*names: str) -> Path:
    """The folder for one kind of things, such as cache_folder("bundles"). It need not be there yet.

    It is below $XDG_CACHE_HOME, else ~/.cache, else a private temporary folder, which is logged. Raises OutputError.
    """
    return _cache_home().joinpath("pahi-rt", *names)


def make_private(folder: Path) -> None:
    """Make `folder`, and the missing folders above it, accessible to the user only (0700). Raises OSError."""
    for place in (*reversed(folder.parents), folder):
        if not place.is_dir():
            place.mkdir(mode=0o700, exist_ok=True)


def lend_cache() -> None:
    """Let other libraries in this process use our cache, if there is none in a home. Raises OutputError.

    If there is no home at all, it also becomes $HOME: some libraries cannot be imported without one.
    """
    if not os.environ.get(_CACHE) and _home_cache() is None:
        os.environ[_CACHE] = str(_cache_home())
    if _home() is None:
        os.environ["HOME"] = str(_private_folder())


def _cache_home() -> Path:
    given = os.environ.get(_CACHE)
    return Path(given) if given else _home_cache() or _private_folder()


def _home_cache() -> Path | None:
    home = _home()
    if home is None:
        return None
    folder = home / ".cache"
    nearest = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    return folder if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) else None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry in passwd
        return None


def _private_folder() -> Path:
    prefix = f"pahi-rt-{os.getuid()}-"
    try:
        known = sorted(Path(tempfile.gettempdir()).glob(f"{prefix}*"))
        folder = next((place for place in known if is_private(place)), None) or Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise OutputError(f"no folder can be written for a cache: {error}", fix=f"set {_CACHE} to one") from error
    tell(folder)
    return folder


def is_private(folder: Path) -> bool:
    """Whether it is a real folder, belongs to the user, and is closed to others (0700). Raises OSError.

    Below a folder with the bit setgid, new ones have that bit too.
    """
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and found.st_mode & 0o777 == 0o700


@functools.cache  # once in a process
def tell(folder: Path) -> None:
    """Warn, once for each folder, that the cache is in a place for temporary files."""
    _logger.warning("there is no home to keep a cache in: it is %s; set %s to have it elsewhere", folder, _CACHE)
