from __future__ import annotations

import pytest

from pahi_rt.bench.markdown import TABLES
from pahi_rt.bench.reports.stages import DRIVER, WRITING
from pahi_rt.bench.stages import measure


@pytest.mark.slow
def test_larger_pictures_take_longer() -> None:
    report = measure(pictures=3, force=True)
    for name in ("png", "jpeg", "webp, lossless"):
        small, large = report.find(name, 128), report.find(name, 512)
        assert small.ms.median < large.ms.median and (small.bytes or 0) < (large.bytes or 0)
    assert report.find(DRIVER).ms.median < report.find(WRITING, 128).ms.median
    with pytest.raises(KeyError):
        report.find("png", 1024)
    assert "| png | " in TABLES["stages"](report.to_dict())
