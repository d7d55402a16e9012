"""How the service was started: what `pahi-rt serve` was told, in a form that workers can be handed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pahi_rt.serve import limits


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

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("127.0.0.1", "::1", "localhost")
