"""The time for a picture, by Node.js: measured where it is there, and told where it is not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.export.web.packages import PACKAGES
from pahi_rt.export.web.site import write_site
from pahi_rt.export.web.timing import time_picture
from tests.playground.conftest import NPM


@pytest.mark.browser
def test_a_picture_is_timed(contract: Path, tmp_path: Path) -> None:
    if not shutil.which("node") or not all((NPM / package.tarball).is_file() for package in PACKAGES):
        pytest.skip("there is no Node.js, or no packages of npm: run make .venv/.npm")
    site = write_site(contract, tmp_path / "page.html", single_file=True, packages=NPM)
    found = time_picture(site.files)
    assert found.load_ms > 0 and found.picture_ms > 0 and 1 <= found.pictures <= 5
    assert found.node.split(".")[0].isdigit()


def test_without_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeUnavailable) as caught:
        time_picture({})
    assert "Node.js" in caught.value.fix


TRACE = """file:///site/browser/model.js:42
    throw new RangeError("no memory");
    ^

RangeError: no memory
    at Model.open (file:///site/browser/model.js:42:11)

Node.js v20.20.2
"""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (subprocess.TimeoutExpired("node", 1), "nothing within"),
        (subprocess.CalledProcessError(1, "node", "", "no"), "cannot draw: no$"),
        (subprocess.CalledProcessError(1, "node", "", ""), "it says nothing"),
        (subprocess.CalledProcessError(1, "node", "", TRACE), "cannot draw: RangeError: no memory$"),
    ],
)
def test_a_node_that_cannot_draw(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(shutil, "which", lambda name: "/bin/node")
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeUnavailable) as caught:
        time_picture({"browser/model.js": b""})
    assert re.search(reason, caught.value.what)
    assert "page" in caught.value.fix
