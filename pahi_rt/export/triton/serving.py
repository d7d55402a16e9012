"""Models for Triton's Python backend. The model.py files of `pahi-rt embed triton` import them inside the server.

Each model takes a batch of requests and answers every one of them. A request that cannot be drawn gets an error, and no
other request suffers. Tensors and their shapes are those of the model's config.pbtxt.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found]
from numpy.typing import NDArray
from PIL import Image

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.manifest import GAUSSIAN, STRENGTH
from pahi_rt.noise import draw_noise
from pahi_rt.prior import choose_strength
from pahi_rt.runtimes import load
from pahi_rt.tokenizer import Tokenizer

Array = NDArray[Any]


class Model:
    """Base of the models: Triton makes one object for each model.py."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the model's configuration. Triton calls this once, before the first request."""
        config = json.loads(args["model_config"])
        self.folder = Path(args["model_repository"]) / args["model_version"]
        self.settings = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self.output, self.shape = config["output"][0]["name"], [int(size) for size in config["output"][0]["dims"]]
        self.load()

    def load(self) -> None:
        """Load what the model needs."""


class Step(Model):
    """Base of the models that answer requests one by one."""

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def compute(self, request: Any) -> Array:
        """The output of one request. Raises PahiError."""
        raise NotImplementedError

    def _answer(self, request: Any) -> Any:
        try:
            return _respond(self.output, self.compute(request))
        except PahiError as error:
            return _refuse(error)


class TokenizerModel(Step):
    """prompt [B, 1] -> input_ids [B, T]."""

    def load(self) -> None:
        path = self.folder / "tokenizer.json"
        self.tokenizer = Tokenizer(path, int(self.settings["max_length"]), int(self.settings["pad_id"]))

    def compute(self, request: Any) -> Array:
        prompts = [_decode(prompt) for prompt in read(request, "prompt").ravel()]
        return self.tokenizer.encode(prompts).input_ids


class NoiseModel(Step):
    """seed [B, 1] -> noise [B, C, h, w]."""

    def compute(self, request: Any) -> Array:
        channels, height, width = self.shape
        return draw_noise([int(seed) for seed in read(request, "seed").ravel()], (channels, height, width))


class PngModel(Step):
    """image [B, H, W, 3] -> png [B, 1], whole files."""

    def compute(self, request: Any) -> Array:
        return np.array([[_encode(picture)] for picture in read(request, "image")], np.object_)


class PipelineModel(Model):
    """input_ids [B, T], noise [B, C, h, w], prior_strength [B] -> image [B, H, W, 3], for all requests at once."""

    def load(self) -> None:
        bundle = open_bundle(self.folder / "bundle")
        name, precision, steps = self.settings["runtime"], self.settings["precision"], int(self.settings["steps"])
        self.prior = self.settings["prior"]
        self.runtime = load(bundle, name=name, steps=steps, prior=self.prior, precision=precision)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = [_cancelled() if request.is_cancelled() else None for request in requests]
        waiting: dict[int, list[Array]] = {}
        for place, request in enumerate(requests):
            if answers[place] is None:
                try:
                    waiting[place] = self._read(request)
                except PahiError as error:
                    answers[place] = _refuse(error)
        for place, pictures in zip(waiting, self._draw(list(waiting.values())), strict=True):
            answers[place] = pictures
        return answers

    def _draw(self, requests: list[list[Array]]) -> list[Any]:
        """Draw all requests in one batch. If that fails, draw one by one, so that only the faulty one gets an error."""
        if not requests:
            return []
        try:
            pictures = self.runtime.run(*(np.concatenate(column) for column in zip(*requests, strict=True)))
        except Exception as error:  # a runtime may raise anything for inputs that its graph cannot take
            if len(requests) == 1:
                return [_fail(error)]
            return [answer for request in requests for answer in self._draw([request])]
        ends = np.cumsum([len(arrays[0]) for arrays in requests])
        return [_respond(self.output, part) for part in np.split(pictures, ends[:-1])]

    def _read(self, request: Any) -> list[Array]:
        """The inputs of a request for one or more pictures. Raises RequestError for a strength outside 0..1."""
        ids, noise = read(request, "input_ids"), read(request, "noise")
        if self.prior == GAUSSIAN:
            return [ids, noise, np.zeros(len(ids), np.float32)]
        given = [choose_strength(self.prior, float(value)) for value in read(request, STRENGTH).ravel()]
        return [ids, noise, np.array(given, np.float32)]


def read(request: Any, name: str) -> Array:
    """The input tensor `name` of a request."""
    array: Array = triton.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _respond(name: str, array: Array) -> Any:
    return triton.InferenceResponse([triton.Tensor(name, array)])


def _refuse(error: PahiError) -> Any:
    text = f"{error.what}; {error.fix}"
    return triton.InferenceResponse(error=triton.TritonError(text, triton.TritonError.INVALID_ARG))


def _fail(error: Exception) -> Any:
    return triton.InferenceResponse(error=triton.TritonError(str(error), triton.TritonError.INTERNAL))


def _cancelled() -> Any:
    error = triton.TritonError("the request was cancelled", triton.TritonError.CANCELLED)
    return triton.InferenceResponse(error=error)


def _encode(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _decode(prompt: bytes) -> str:
    try:
        return prompt.decode()
    except UnicodeDecodeError as error:
        raise PahiError(f"the prompt is not UTF-8: {error.reason} at byte {error.start}", fix="send UTF-8") from error
