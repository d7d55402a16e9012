"""How the service was started: what `pahi-rt serve` was told, in a form that workers can be handed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.choice import AUTO
from pahi_rt.errors import PahiError
from pahi_rt.machine import check_threads
from pahi_rt.runtimes.table import find
from pahi_rt.serve import limits
from pahi_rt.serve.keys import Keys

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d+)?")
_HOST = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """The options of `pahi-rt serve`."""

    bundles: tuple[str, ...]
    """Names, folders, zips or hub ids, as `open_bundle` takes them. The first is the default model."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    """Processes; each has its own queue and draws on its own."""
    runtime: str = "auto"
    threads: int | None = None
    """CPU cores that one process uses for a picture; None leaves it to the runtime."""
    precision: str | None = None
    queue: int | None = None
    """Pictures that one process has accepted and not drawn; None computes it from the speed and `patience`."""
    patience: float = limits.PATIENCE
    """Seconds."""
    deadline: float = limits.DEADLINE
    """Seconds."""
    grace: float = limits.GRACE
    """Seconds."""
    batch: int = limits.BATCH_SIZES[-1]
    """The largest batch that may form."""
    api_key_file: Path | None = None
    allow_origins: tuple[str, ...] = ()
    """Origins of other pages that browsers may let call the service; none by default."""
    allow_hosts: tuple[str, ...] = ()
    """Names, besides its own address, under which clients may call the service."""

    access_log: bool = False
    qualified: bool = False
    """Whether only what a report lets pass may draw."""
    reports: tuple[Path, ...] = ()
    """Reports of `pahi-rt qualify` besides those in the bundles."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def check_settings(settings: Settings) -> None:
    """Raises PahiError for settings that would fail later, or silently admit nobody."""
    if not settings.host:
        raise PahiError("the address to listen on is empty", fix="use --host 127.0.0.1, or 0.0.0.0 for all machines")
    Keys(settings.api_key_file)
    if settings.runtime != AUTO:
        find(settings.runtime)
    if settings.threads is not None:
        check_threads(settings.threads)
    if settings.reports and not settings.qualified:
        raise PahiError("a report has no effect by itself", fix="use --qualified too, or leave --report out")
    for origin in settings.allow_origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            fix = "name it as browsers do, such as https://pictures.example or http://localhost:3000, or use *"
            raise PahiError(f"{origin!r} is not an origin", fix=fix)
    for name in settings.allow_hosts:
        if not _HOST.fullmatch(name):
            raise PahiError(f"{name!r} is not a host name", fix="name it alone, such as pictures.example")
