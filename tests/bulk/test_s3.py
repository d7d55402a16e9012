"""A real S3 server process on loopback: moto's, which answers S3's requests from memory.

It does not cover what moto does not imitate: throttling, permissions, eventual failures and the speed of a network.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pahi_rt.errors import OutputError
from tests.bulk.conftest import Bulk, contents

pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of botocore's clients


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """The file system of a server that holds a bucket. One for all tests: fsspec keeps the first one's address."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield from serve(monkeypatch)


def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        place = fsspec.filesystem("s3")
        place.mkdir("pictures")
        yield place
    finally:
        server.kill()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the server does not answer")


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_input_and_output_in_a_bucket(
    bulk: Bulk, bucket: Any, prompts: Path, tmp_path: Path, output_format: str
) -> None:
    bucket.put_file(str(prompts), "pictures/prompts.txt")
    source, out = "s3://pictures/prompts.txt", f"s3://pictures/{output_format}"
    bulk(prompts, tmp_path / "out", output_format=output_format)
    bulk(source, out, output_format=output_format)
    bulk(source, out, output_format=output_format)
    assert bulk.drawn == []  # type: ignore[attr-defined]
    bucket.rm(f"{out}/00001_stats.json")
    bulk(source, out, output_format=output_format)
    assert bulk.drawn == [1]  # type: ignore[attr-defined]
    bucket.get(f"{out}/", str(tmp_path / "got"), recursive=True)
    assert contents(tmp_path / "got") == contents(tmp_path / "out")
    bulk(source, out, mode="overwrite", output_format="webdataset")
    assert not [name for name in bucket.find(out) if name.endswith("metadata.jsonl")]


def test_a_bucket_that_is_not_there_is_not_made(
    bulk: Bulk, bucket: Any, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pahi_rt.bulk.store._PAUSES", (0.0,))
    with pytest.raises(OutputError):
        bulk(prompts, "s3://mistyped/out")
    assert [name for name in bucket.ls("") if "mistyped" in name] == []
