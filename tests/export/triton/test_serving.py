"""Models of Triton's Python backend, on a stand-in for the module that the server gives them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pahi_rt import Pipeline
from pahi_rt.bundle import open_bundle
from pahi_rt.noise import draw_noise
from pahi_rt.pipeline import load_tokenizer


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> Any:
        return self.array


class Response:
    def __init__(self, tensors: list[Tensor] | None = None, error: Any = None) -> None:
        self.tensors, self.error = tensors, error


class TritonError:
    INVALID_ARG, CANCELLED, INTERNAL = "invalid", "cancelled", "internal"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class Request:
    def __init__(self, is_gone: bool, **arrays: Any) -> None:
        self.arrays, self.is_gone = arrays, is_gone

    def is_cancelled(self) -> bool:
        return self.is_gone


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    backend = ModuleType("triton_python_backend_utils")
    backend.__dict__.update({"Tensor": Tensor, "InferenceResponse": Response, "TritonError": TritonError})
    backend.__dict__["get_input_tensor_by_name"] = lambda request, name: Tensor(name, request.arrays[name])
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    yield importlib.import_module("pahi_rt.export.triton.serving")
    sys.modules.pop("pahi_rt.export.triton.serving")


@pytest.fixture
def graph(serving: Any, tmp_path: Path) -> Any:
    """The model of the fused graph, with the embedded bundle."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "bundle").symlink_to(open_bundle("emoji").path)
    chosen = {"runtime": "onnxruntime", "steps": "1", "prior": "pahi", "precision": "w16"}
    config = {
        "output": [{"name": "image", "dims": ["128", "128", "3"]}],
        "parameters": {key: {"string_value": value} for key, value in chosen.items()},
    }
    model = serving.PipelineModel()
    model.initialize({"model_config": json.dumps(config), "model_repository": str(tmp_path), "model_version": "1"})
    return model


def ask(prompts: list[str], seeds: list[int], strength: float = 1.0, is_gone: bool = False, shift: int = 0) -> Request:
    bundle = open_bundle("emoji")
    ids = load_tokenizer(bundle).encode(prompts).input_ids + shift
    noise = draw_noise(seeds, bundle.manifest.image.latent_shape)
    return Request(is_gone, input_ids=ids, noise=noise, prior_strength=np.full(len(ids), strength, np.float32))


def differ(picture: Any, expected: Any) -> int:
    """The largest difference, in levels."""
    return int(np.abs(picture.astype(int) - np.asarray(expected, int)).max())


def test_each_request_has_its_own_answer_in_its_own_place(graph: Any) -> None:
    requests = [
        ask(["panda", "rocket"], [1, 2]),
        ask(["panda"], [3], is_gone=True),
        ask(["panda"], [3], strength=1.5),
        ask(["skull"], [4], strength=0.5),
    ]
    first, gone, refused, last = graph.execute(requests)
    pipeline = Pipeline.load("emoji", runtime="onnxruntime")
    for picture, prompt, seed in zip(first.tensors[0].as_numpy(), ("panda", "rocket"), (1, 2), strict=True):
        assert differ(picture, pipeline(prompt, seed=seed)) <= 1
    assert differ(last.tensors[0].as_numpy()[0], pipeline("skull", seed=4, prior_strength=0.5)) <= 1
    assert (gone.error.code, refused.error.code) == ("cancelled", "invalid")
    assert "no prior strength" in refused.error.message


def test_ids_that_are_no_words_fail_alone(graph: Any) -> None:
    good, bad = graph.execute([ask(["panda"], [1]), ask(["panda"], [1], shift=100_000)])
    assert bad.error.code == "internal"
    assert differ(good.tensors[0].as_numpy()[0], Pipeline.load("emoji", runtime="onnxruntime")("panda", seed=1)) == 0


def test_nothing_is_drawn_of_what_is_cancelled(graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph.runtime, "run", lambda *_: pytest.fail("drawn"))
    (gone,) = graph.execute([ask(["panda"], [3], is_gone=True)])
    assert gone.error.code == "cancelled"
