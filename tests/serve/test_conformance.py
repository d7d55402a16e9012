"""Schemathesis against our own OpenAPI document."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.conftest import Running

# It stays out of the development tools: as a plugin of pytest it would slow every test down.
TOOL = ("tool", "run", "--quiet", "--from", "schemathesis==4.32.5", "schemathesis")


@pytest.fixture(scope="module")
def schemathesis() -> list[str]:
    """The command, which uv fetches."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    command = [uv, *TOOL]
    if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("schemathesis cannot be fetched here")
    return command


@pytest.mark.slow
def test_the_document_is_kept(bundles: tuple[Path, Path], schemathesis: list[str], tmp_path: Path) -> None:
    with Running(*bundles, real=True) as service:
        words = ["run", f"{service.client.url}/openapi.json", "--max-examples", "30", "--seed", "1"]
        # Some limits cannot be said in a schema, such as the number of prompts times the count.
        command = [*schemathesis, *words, "--exclude-checks", "positive_data_acceptance"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
