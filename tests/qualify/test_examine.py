"""What is measured is kept, whatever happens after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import RequestError, RuntimeUnavailable
from pahi_rt.qualify import qualification
from pahi_rt.qualify.qualification import Examined, Refused, Request, examine


@contextmanager
def untimed(name: str) -> Iterator[None]:
    yield


def test_layers_that_cannot_be_compared_cost_no_row(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeUnavailable("out of memory", fix="get some")

    monkeypatch.setattr(qualification, "compare_layers", fail)
    request = Request(("onnxruntime",), steps=(1,), pairs=4, layers=True)
    (found,) = examine(open_bundle(contract), request, untimed)
    assert isinstance(found, Examined)
    assert found.row.missing["layers"] == "out of memory" and found.row.layers is None
    assert len(found.row.measures) > 5


def test_a_scorer_that_tells_nothing_apart_is_missing(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pahi_rt.scorers.redness.Redness.score", lambda self, images, prompts: images.sum((1, 2, 3)) * 0
    )
    request = Request(("onnxruntime",), steps=(1,), pairs=4, scorers=("redness",))
    (found,) = examine(open_bundle(contract), request, untimed)
    assert isinstance(found, Examined)
    assert "alike" in found.row.missing["score_redness_change_sd"]
    assert "score_redness_change_sd" not in found.row.measures


def test_more_pictures_than_fit_into_memory_are_refused_first(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.qualify.pairs.free_memory", lambda: 7 * 2 * 32 * 32 * 3 + 1)
    monkeypatch.setattr(qualification, "make_pairs", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(RequestError, match="8 pairs of pictures take 0.0 GB of memory") as caught:
        next(examine(open_bundle(contract), Request(pairs=8), untimed))
    assert caught.value.fix == "use --pairs 7 or fewer, or free memory"
    monkeypatch.undo()
    assert next(examine(open_bundle(contract), Request(pairs=7), untimed))


def test_a_runtime_that_does_not_draw_here_is_an_error_only_if_it_is_named(contract: Path) -> None:
    found = list(examine(open_bundle(contract), Request(steps=(1,), pairs=2), untimed))
    assert [one.row.runtime for one in found if isinstance(one, Examined)][0] == "onnxruntime"
    assert "tensorrt" in [one.runtime for one in found if isinstance(one, Refused)]
    with pytest.raises(RuntimeUnavailable):
        list(examine(open_bundle(contract), Request(("tensorrt",), steps=(1,), pairs=2), untimed))
