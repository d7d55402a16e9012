from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The embedded bundle, to be changed."""
    return Path(shutil.copytree(open_bundle("emoji").path, tmp_path / "emoji"))
