from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.bench.bulk import measure
from pahi_rt.errors import PahiError


@pytest.mark.slow
def test_one_process_and_several(contract: Path) -> None:
    report = measure(str(contract), pictures=24, processes=2, rounds=1, force=True)
    assert (report.processes, report.one_process_per_s.n) == (2, 1)
    ratio = report.several_per_s.median / report.one_process_per_s.median
    assert report.several_over_one == pytest.approx(ratio, abs=0.01)  # it has two decimals


def test_too_few_pictures(contract: Path) -> None:
    with pytest.raises(PahiError) as caught:
        measure(str(contract), pictures=3, processes=2, rounds=1, force=True)
    assert "--pictures" in caught.value.fix
