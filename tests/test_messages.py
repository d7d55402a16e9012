from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.messages import GOLDEN


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python and click write it differently")
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_what_users_read_is_what_was_read_aloud(path: Path) -> None:
    """`python -m tests.messages` writes it anew: read the difference aloud before you commit it."""
    assert GOLDEN[path]() == path.read_text(encoding="utf-8")
