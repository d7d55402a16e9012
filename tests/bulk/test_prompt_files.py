from __future__ import annotations

import gzip
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from fsspec.compression import compr

from pahi_rt.bulk.prompt_files import FORMATS, find_files, opened
from pahi_rt.bulk.sources import READERS
from pahi_rt.errors import PahiError


def read(prompts: object) -> dict[str, bytes]:
    """Name -> content, unpacked."""
    found = {}
    for file in find_files(str(prompts)):
        with opened(file) as content:
            found[file.name] = content.read()
    return found


def test_each_format_has_a_reader() -> None:
    assert tuple(READERS) == FORMATS


def test_files_of_a_folder_and_of_a_pattern_are_named_from_there(tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / "b" / "2.txt").write_text("b\n")
    (tmp_path / "in" / "1.txt.gz").write_bytes(gzip.compress(b"a\n"))
    (tmp_path / "in" / "_SUCCESS").write_text("")
    found = {"1.txt.gz": b"a\n", "b/2.txt": b"b\n"}
    assert read(tmp_path / "in") == found
    assert read(tmp_path / "in" / "**" / "*.txt*") == found


def test_hidden_files_and_the_output_are_not_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.txt", ".git/b.txt", "c/_old/d.txt", "out/00000/00000.txt", "outer/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    expected = {
        "c/_old": ["d.txt"],
        "": ["a.txt", "outer/e.txt"],
        "*/*.txt": ["outer/e.txt"],
        ".g*/*.txt": [".git/b.txt"],
        "c/_old/*": ["d.txt"],
        "out/00000/00000.txt": ["00000.txt"],
    }
    for prompts, names in expected.items():
        found = find_files(str(tmp_path / prompts), str(tmp_path / "out"))
        assert [file.name for file in found] == names


def test_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "prompts [v1]?.txt").write_text("a\n")
    assert read(tmp_path / "prompts [v1]?.txt") == {"prompts [v1]?.txt": b"a\n"}


def test_a_file_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a.txt", "a\n")
    assert read(f"zip://in/a.txt::{tmp_path / 'x.zip'}") == {"a.txt": b"a\n"}


@pytest.mark.parametrize("query", ["", "?download=true", "?path=in/b.csv#c"])
def test_a_file_of_the_web_has_the_name_that_it_has_on_a_disk(tmp_path: Path, query: str) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "my prompts.txt").write_text("a\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/my%20prompts.txt{query}"
            assert read(url) == {"my prompts.txt": b"a\n"}
        finally:
            server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *words: object) -> None: ...


def test_a_compression_without_its_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(compr, "zstd", raising=False)
    (tmp_path / "p.txt.zst").write_bytes(b"")
    with pytest.raises(PahiError) as caught:
        find_files(str(tmp_path / "p.txt.zst"))
    assert caught.value.fix == "pip install zstandard"


def test_a_url_of_fsspec(tmp_path: Path) -> None:
    with fsspec.open("memory://in/p.txt", "w") as file:
        file.write("a\nb\n")
    assert read("memory://in/p.txt") == {"p.txt": b"a\nb\n"}


def test_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.txt").write_text("a\n")
    assert read(tmp_path) == {"caf\\udce9.txt": b"a\n"}


@pytest.mark.parametrize("name", ["missing.txt", "p.doc", "s4://bucket/p.txt"])
def test_no_prompts_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "p.doc").write_text("a")
    with pytest.raises(PahiError) as caught:
        find_files(name if "://" in name else str(tmp_path / name))
    assert caught.value.fix
