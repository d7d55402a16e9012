"""Repositories of the Hugging Face hub: how their ids are written, and how files are downloaded.

owner/name                 the main branch as it is today
owner/name@revision        a commit, a tag or a branch
hub:owner/name@revision    the same, even where there is a folder of that name
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.cache import lend_cache
from pahi_rt.errors import HubError

PREFIX = "hub:"

_NAME = r"[A-Za-z0-9](?!\w*(?:--|\.\.))[\w.-]*"
_ID = re.compile(rf"({_NAME}/{_NAME})(?:@(\w[\w.+-]*(?:/\w[\w.+-]*)*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FIX = "check the name, the network and `hf auth login`"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubId:
    """A repository at one of its revisions. `parse` reads what `str` writes."""

    repository: str
    """"owner/name"."""
    revision: str | None = None
    """A commit, a tag or a branch; None is the main branch."""

    def __str__(self) -> str:
        return PREFIX + self.repository + ("" if self.revision is None else f"@{self.revision}")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which nobody can move."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


def parse(text: str) -> HubId | None:
    """Read an id; None if `text` is not one. Does not ask the hub whether there is such a repository."""
    match = _ID.fullmatch(text.removeprefix(PREFIX))
    return HubId(match[1], match[2]) if match else None


def download(hub_id: HubId, files: Sequence[str], *, without: Sequence[str] = (), folder: Path | None = None) -> Path:
    """Download the files that match one of the patterns `files` and none of `without`. Returns their folder.

    Files that are there already are not downloaded again. By default they go into the hub's own cache, and the folder,
    named by the commit, holds links into it. With `folder` they go there, as real files. Without a network, the files
    are those of an earlier download. For an id that is not a commit, the commit is logged. Raises HubError.
    """
    lend_cache()
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(
            hub_id.repository,
            revision=hub_id.revision,
            allow_patterns=list(files),
            ignore_patterns=list(without),
            local_dir=folder,
        )
    except Exception as error:  # the hub's releases raise requests', httpx's and their own exceptions
        raise HubError(f"{hub_id} cannot be had from the hub: {_reason(error)}", fix=_FIX) from error
    if folder is None and not hub_id.is_pinned:
        pinned = HubId(hub_id.repository, Path(path).name)
        _logger.warning("%s is commit %s now; %s stays the same", hub_id, pinned.revision, pinned)
    return Path(path)


def _reason(error: Exception) -> str:
    """The reason in one line. Common exceptions of the hub are put in words: theirs begin with the server's answer."""
    known = {
        "RepositoryNotFoundError": "there is no such repository, or it is private",
        "RevisionNotFoundError": "the repository has no such revision",
        "GatedRepoError": "its owner gives access on request only",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    }
    return known.get(type(error).__name__) or str(error).strip().split("\n")[0]
