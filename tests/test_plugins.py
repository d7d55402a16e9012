from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.plugins import SCORERS, find_plugins, load_plugin


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that brings one scorer whose module is there, and one whose module is not."""
    metadata = tmp_path / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{SCORERS}]\nnice = stranger:load\ngone = stranger.gone:load\n")
    (tmp_path / "stranger.py").write_text("def load(source):\n    return source\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return tmp_path


def test_what_another_package_brings_is_found_and_loaded(installed: Path) -> None:
    found = find_plugins(SCORERS)
    assert "stranger" not in sys.modules
    assert load_plugin(found["nice"])("x") == "x"


def test_a_package_that_cannot_be_imported_is_named(installed: Path) -> None:
    with pytest.raises(PahiError, match="gone of the package stranger cannot be loaded: .*stranger") as caught:
        load_plugin(find_plugins(SCORERS)["gone"])
    assert caught.value.fix == "install it again: pip install --force-reinstall --no-deps stranger"
