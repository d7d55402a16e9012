"""The page's modules in Node, and the site of the embedded model."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pahi_rt.export.web.contents import playground
from pahi_rt.export.web.packages import PACKAGES
from pahi_rt.export.web.site import write_site

SCRIPTS = Path(__file__).parent / "node"
ROOT = Path(__file__).parents[2]
NPM = ROOT / ".venv" / "npm"

Node = Callable[[str, Path, Any], Any]


@pytest.fixture(scope="session")
def node() -> Node:
    """Run a script of node/ on a folder of modules: JSON in, JSON out."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("there is no node")

    def run(script: str, folder: Path, data: Any) -> Any:
        command = [program, str(SCRIPTS / f"{script}.mjs"), str(folder)]
        done = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's own modules, where Node takes them for modules."""
    folder = tmp_path_factory.mktemp("modules") / "page"
    shutil.copytree(playground(), folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder of npm's tarballs."""
    missing = [package.tarball for package in PACKAGES if not (NPM / package.tarball).is_file()]
    if missing:
        pytest.skip(f"there is no {NPM / missing[0]}: run make .venv/.npm")
    return NPM


@pytest.fixture(scope="session")
def site(npm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the embedded model."""
    folder = write_site("emoji", tmp_path_factory.mktemp("site") / "emoji", packages=npm).path
    (folder / "package.json").write_text('{"type": "module"}')
    return folder
