from __future__ import annotations

import sys

import pytest

from tests.messages import DATA, GOLDEN


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python and click write it differently")
@pytest.mark.parametrize("name", GOLDEN)
def test_what_users_read_is_what_was_read_aloud(name: str) -> None:
    """`python -m tests.messages` writes it anew: read the difference aloud before you commit it."""
    assert GOLDEN[name]() == (DATA / name).read_text(encoding="utf-8")
