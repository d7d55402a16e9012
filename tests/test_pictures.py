"""Arithmetic of pictures that the export, training and the benchmarks share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pahi_rt.pictures import psnr, to_bytes


def test_bytes_are_rounded_half_to_even() -> None:
    values = np.array([0.0, 0.5, 1.5, 2.5, 254.5, 255.0]) / 255
    assert to_bytes(values).tolist() == [0, 0, 2, 2, 254, 255]
    assert to_bytes(values).dtype == np.uint8


def test_what_is_not_a_number_warns_nobody() -> None:
    to_bytes(np.array([np.nan, np.inf], np.float32))


def test_psnr_is_that_of_the_unit_range() -> None:
    assert psnr(0.01**2) == pytest.approx(40)
    assert psnr(0.0) == math.inf
