"""Which graphs are exported, what their files are called, and how near to PyTorch they must come."""

from __future__ import annotations

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.export.parity import SAME_ARITHMETIC
from pahi_rt.export.settings import ExportSettings, Variant


def test_files_are_named_after_steps_prior_and_precision() -> None:
    assert Variant(1, "gaussian", "fp32").file == "one-step.onnx"
    assert Variant(2, "pahi", "fp16").file == "two-step-pahi-fp16.onnx"


def test_how_near_a_graph_must_come_can_be_said_but_for_fp32() -> None:
    settings = ExportSettings(min_psnr=25.0)
    assert [settings.near(name).psnr_db for name in ("w8", "int8", "fp16")] == [25, 25, 25]
    assert settings.near("fp32") == ExportSettings().near("fp32") == SAME_ARITHMETIC
    with pytest.raises(PahiError, match="-3 dB"):
        ExportSettings(min_psnr=-3.0)
