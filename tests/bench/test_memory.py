"""The memory of a process that draws one picture."""

from __future__ import annotations

import pytest

from pahi_rt.bench.memory import own_peak, peak_memory
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError


def test_a_picture_takes_more_than_python_and_less_than_this_process() -> None:
    assert 60 < peak_memory(open_bundle("emoji"), 1, "pahi", "onnxruntime") < 1000


def test_own_peak_grows() -> None:
    before = own_peak()
    filled = bytearray(200 * 2**20)
    filled[::4096] = b"\1" * len(filled[::4096])
    assert own_peak() >= before


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(PahiError, match="a process that draws one picture failed: .*no runtime 'x'"):
        peak_memory(open_bundle("emoji"), 1, "pahi", "x")
