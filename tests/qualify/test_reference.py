"""The reference is PyTorch with exactly the model that the bundle was made of, or the bundle's most precise graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pahi_rt.bundle import Bundle
from pahi_rt.errors import ModelError
from pahi_rt.export.provenance import find_source
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.pictures import squared_errors
from pahi_rt.qualify.pairs import Pairs, make_pairs
from pahi_rt.qualify.qualification import Examined, Request, examine
from pahi_rt.qualify.reference import open_reference
from tests.export.conftest import model, priors, with_priors  # noqa: F401  # fixtures


@pytest.fixture
def pairs(with_priors: Bundle) -> Pairs:  # noqa: F811
    return make_pairs(with_priors, ["a cat", "a red apple", "two birds"], 6)


@contextmanager
def untimed(name: str) -> Iterator[None]:
    yield


def test_pytorch_draws_what_the_graph_draws(
    with_priors: Bundle,  # noqa: F811
    model: Path,  # noqa: F811
    priors: dict[str, Path],  # noqa: F811
    pairs: Pairs,
) -> None:
    pytorch = open_reference(with_priors, pairs, find_source(model, priors=list(priors.values())))
    own = open_reference(with_priors, pairs, None)
    assert (pytorch.name, pytorch.precision, own.name, own.precision) == (
        "PyTorch fp32, weights as trained",
        "fp32",
        "ONNX Runtime w16",
        "w16",
    )
    for graph in with_priors.manifest.graphs:
        one, other = pytorch.draw(graph), own.draw(graph)
        assert one.shape == other.shape == (6, *one.shape[1:])
        assert 0 < squared_errors(one, other).max() < 1e-4
    hi, pahi = (pytorch.draw(graph) for graph in with_priors.manifest.graphs)
    assert not np.array_equal(hi, pahi)


def test_another_model_is_no_reference(
    with_priors: Bundle,  # noqa: F811
    model: Path,  # noqa: F811
    priors: dict[str, Path],  # noqa: F811
    pairs: Pairs,
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError, match="the bundle's prior pahi is not among"):
        open_reference(with_priors, pairs, find_source(model, priors=[priors["hi"]]))
    other = save_random_pipeline(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="made of another generator") as caught:
        open_reference(with_priors, pairs, find_source(other, priors=list(priors.values())))
    assert "--decoder" in caught.value.fix


def test_rows_against_pytorch(with_priors: Bundle, model: Path, priors: dict[str, Path]) -> None:  # noqa: F811
    source = find_source(model, priors=list(priors.values()))
    request = Request(("onnxruntime",), pairs=4, source=source)
    rows = [found.row for found in examine(with_priors, request, untimed) if isinstance(found, Examined)]
    assert [(row.graph, row.reference) for row in rows] == [
        (graph.file, "PyTorch fp32, weights as trained") for graph in with_priors.manifest.graphs
    ]
    for row, graph in zip(rows, with_priors.manifest.graphs, strict=True):
        assert row.measures["psnr_db"].margin == 40
        assert row.measures["psnr_db"].verdict == "pass"
        assert list(row.files) == [graph.file, *graph.weights] and "weights-w16.bin" in row.files
