from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.errors import HubError
from pahi_rt.hub import HubId, download, parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", HubId("owner/name")),
        ("hub:owner/name", HubId("owner/name")),
        ("stabilityai/sd-turbo@v1.0", HubId("stabilityai/sd-turbo", "v1.0")),
        (f"hub:owner/name.1@{COMMIT}", HubId("owner/name.1", COMMIT)),
        ("owner/name@refs/pr/3", HubId("owner/name", "refs/pr/3")),
    ],
)
def test_ids(text: str, expected: HubId) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hub:",
        "name",
        "hub:name",
        "a/b/c",
        "/owner/name",
        "owner/name@",
        "owner/name@@main",
        "owner/name@/main",
        "owner/name@../main",
        "../name",
        "owner/..",
        "owner/a--b",
        "owner/a..b",
        "owner/na me",
        "owner/name\n",
        "owner/näme",
        "hub:hub:owner/name",
    ],
)
def test_what_is_no_id(text: str) -> None:
    assert parse(text) is None


def test_a_commit_is_pinned_and_a_branch_is_not() -> None:
    assert HubId("owner/name", COMMIT).is_pinned
    assert not HubId("owner/name", "main").is_pinned
    assert not HubId("owner/name").is_pinned


@pytest.mark.parametrize(("revision", "notes"), [(None, 1), ("main", 1), (COMMIT, 0)])
def test_a_download_says_which_commit_it_was(
    revision: str | None, notes: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def snapshot_download(repository: str, **asked: object) -> str:
        assert (repository, asked["revision"], asked["allow_patterns"]) == ("owner/name", revision, ["*.json"])
        return f"/cache/snapshots/{COMMIT}"

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert download(HubId("owner/name", revision), ["*.json"]) == Path(f"/cache/snapshots/{COMMIT}")
    assert len(caplog.messages) == notes
    assert all(f"hub:owner/name@{COMMIT}" in message for message in caplog.messages)


def test_the_hub_is_asked_as_its_own_library_allows() -> None:
    """The real function takes every argument that we give it."""
    from inspect import signature

    from huggingface_hub import snapshot_download

    signature(snapshot_download).bind(
        "owner/name", revision="main", allow_patterns=["x"], ignore_patterns=[], local_dir=None
    )


def test_why_a_repository_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    class RevisionNotFoundError(Exception):
        """As huggingface_hub.errors names it."""

    def snapshot_download(*_: object, **__: object) -> str:
        raise RevisionNotFoundError("404 Client Error. (Request ID: 1)\n\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(HubError, match="hub:owner/name@v9 cannot be had from the hub: the repository has no such rev"):
        download(HubId("owner/name", "v9"), ["*"])
