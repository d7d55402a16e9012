"""The examples that ask a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pahi_rt import Pipeline
from tests.examples.test_examples import example, pixels
from tests.export.triton.server import ENVIRONMENT, serving


def test_openai_client(tmp_path: Path) -> None:
    for needed in ("openai", "starlette", "uvicorn", "msgspec", "prometheus_client", "websockets"):
        pytest.importorskip(needed)
    from tests.serve.conftest import serving as running

    with running("emoji") as service:
        said = example("openai_client.py", tmp_path, f"{service.client.url}/v1", "red apple", "apple").splitlines()
    assert said[:3] == ["models: emoji", "apple-0.png", "apple-1.png"] and said[3].startswith("refused: ")
    for number, expected in enumerate(Pipeline.load("emoji")(["red apple"], seed=7, count=2, prior_strength=0.5)):
        assert np.array_equal(pixels(tmp_path / f"apple-{number}.png"), np.asarray(expected))


@pytest.mark.triton
@pytest.mark.skipif(not ENVIRONMENT.is_dir(), reason=f"there is no {ENVIRONMENT}: run make .venv/.triton")
def test_triton_client(tmp_path: Path) -> None:
    from pahi_rt.export.triton.config import Batching
    from pahi_rt.export.triton.repository import write_repository

    repository = write_repository("emoji", tmp_path / "models", batching=Batching(most=4, delay_us=0))
    with serving(repository, tmp_path) as server:
        said = example("triton_client.py", tmp_path, server.http, "rocket", "rocket")
    assert said.split() == [f"rocket-{seed}.png" for seed in range(4)]
    for seed, expected in enumerate(Pipeline.load("emoji")(["rocket"], seed=0, count=4)):
        assert np.abs(pixels(tmp_path / f"rocket-{seed}.png").astype(int) - np.asarray(expected)).max() <= 1
