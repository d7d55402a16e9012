"""API keys from a file: a key on each line. They are kept as hashes, and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from pahi_rt.errors import PahiError
from pahi_rt.terminal import command

LOG = logging.getLogger("pahi_rt.serve")
SHORTEST_KEY = 16
"""Characters that a key must have."""


class Keys:
    """The keys that open the service; without a file, everybody may use it. Raises PahiError for a bad file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._hashes = () if file is None else _read(file)

    @property
    def are_needed(self) -> bool:
        """Whether a client must bring a key."""
        return self._file is not None

    def open_with(self, key: str) -> bool:
        """Whether this is one of the keys. All are compared, however early one fits."""
        given = _hash(key)
        return any([hmac.compare_digest(given, known) for known in self._hashes])

    def reload(self) -> None:
        """Read the file again. A file that cannot be read, or holds no keys, leaves the old keys in force."""
        if self._file is None:
            return
        try:
            self._hashes = _read(self._file)
            LOG.info("%d API keys read again", len(self._hashes))
        except PahiError as error:
            LOG.warning("the old API keys stay: %s", error)


def _read(file: Path) -> tuple[bytes, ...]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PahiError(f"the API keys in {file} cannot be read: {reason}", fix="check the path") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        fix = f"write one on each line: {command('openssl', 'rand', '-hex', '24')} > {command(file)}"
        raise PahiError(f"{file} holds no API keys", fix=fix)
    if any(len(key) < SHORTEST_KEY for key in keys):
        fix = f"use keys of {SHORTEST_KEY} characters or more, such as those of `openssl rand -hex 24`"
        raise PahiError(f"{file} holds an API key that is too short", fix=fix)
    if not all(key.isascii() and key.isprintable() for key in keys):
        # A header holds bytes, and nothing says what other characters they stand for.
        what = f"{file} holds an API key that no header can carry"
        raise PahiError(what, fix="use letters, digits and signs of ASCII, such as those of `openssl rand -hex 24`")
    if any(" " in key for key in keys):
        what = f"{file} holds an API key with a space"
        raise PahiError(what, fix="put a comment on a line of its own, after `#`")
    return tuple(map(_hash, keys))


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
