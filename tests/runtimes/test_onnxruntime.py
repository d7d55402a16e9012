from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pahi_rt import runtimes
from pahi_rt.bundle import file_record, open_bundle
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.noise import draw_noise
from pahi_rt.runtimes.onnxruntime import OnnxRuntime

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]


def inputs(batch: int, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    input_ids = np.arange(batch * 24, dtype=np.int64).reshape(batch, 24)
    return input_ids, draw_noise(range(batch), (4, 4, 4)), np.full(batch, strength, np.float32)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", runtimes.NAMES)
def test_load_and_run(contract: Path, steps: int, name: str) -> None:
    runtime = runtimes.load(open_bundle(contract), steps=steps, name=name)
    pictures = runtime.run(*inputs(3))
    assert pictures.dtype == np.uint8
    assert pictures.shape == (3, 32, 32, 3)
    assert pictures.std() > 10


@pytest.mark.parametrize("steps", [1, 2])
def test_a_picture_does_not_depend_on_the_batch(contract: Path, steps: int) -> None:
    runtime = runtimes.load(open_bundle(contract), steps=steps)
    input_ids, noise, strength = inputs(8)
    together = runtime.run(input_ids, noise, strength)
    for row in range(8):
        alone = runtime.run(input_ids[row : row + 1], noise[row : row + 1], strength[row : row + 1])
        np.testing.assert_array_equal(alone[0], together[row])


def test_prior_strength_reaches_only_a_graph_that_takes_it(contract: Path) -> None:
    def pictures(steps: int, strength: float) -> np.ndarray:
        return runtimes.load(open_bundle(contract), steps=steps).run(*inputs(1, strength))

    np.testing.assert_array_equal(pictures(1, 0.0), pictures(1, 1.0))
    assert not np.array_equal(pictures(2, 0.0), pictures(2, 1.0))
    # Without its prior, the contract's second graph is its first.
    np.testing.assert_array_equal(pictures(1, 1.0), pictures(2, 0.0))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_batch_of_several_strengths(contract: Path, contract_with_priors: Path, steps: int) -> None:
    bundle = open_bundle(contract_with_priors)
    input_ids, noise, _ = inputs(4)
    strengths = np.array([0, 0.5, 1, 0.5], np.float32)
    drawn = {}
    for prior in ("hi", "pahi"):
        runtime = runtimes.load(bundle, steps=steps, prior=prior)
        drawn[prior] = runtime.run(input_ids, noise, strengths)
        for row, strength in enumerate(strengths):
            alone = runtime.run(input_ids[row : row + 1], noise[row : row + 1], strength.reshape(1))
            np.testing.assert_array_equal(alone[0], drawn[prior][row])
    plain = runtimes.load(open_bundle(contract)).run(input_ids, noise, strengths)
    assert [np.array_equal(plain[row], drawn["hi"][row]) for row in range(4)] == [True, False, False, False]
    assert [np.array_equal(drawn["hi"][row], drawn["pahi"][row]) for row in range(4)] == [True, False, False, False]


def test_the_default_prior_is_pahi(contract_with_priors: Path) -> None:
    bundle = open_bundle(contract_with_priors)
    by_default = runtimes.load(bundle).run(*inputs(2))
    np.testing.assert_array_equal(by_default, runtimes.load(bundle, prior="pahi").run(*inputs(2)))
    gaussian = runtimes.load(bundle, prior="gaussian").run(*inputs(2, 0.0))
    np.testing.assert_array_equal(gaussian, runtimes.load(bundle, prior="hi").run(*inputs(2, 0.0)))


def test_a_prior_that_the_bundle_lacks(contract: Path) -> None:
    with pytest.raises(BundleError, match="has no prior 'hi'"):
        runtimes.load(open_bundle(contract), prior="hi")


def test_describe(contract: Path) -> None:
    import onnxruntime

    assert runtimes.load(open_bundle(contract), threads=2).describe() == {
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "device": "CPU",
        "precision": "fp32",
        "threads": 2,
    }


def test_threads_reach_the_session(contract: Path) -> None:
    runtime = OnnxRuntime(open_bundle(contract), threads=1)
    assert runtime._session.get_session_options().intra_op_num_threads == 1
    with pytest.raises(RuntimeUnavailable, match="0 threads"):
        OnnxRuntime(open_bundle(contract), threads=0)


def test_an_unknown_runtime(contract: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="no runtime 'tensorflow'") as caught:
        runtimes.load(open_bundle(contract), name="tensorflow")
    assert "onnxruntime" in caught.value.fix


def test_onnxruntime_is_not_installed(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailable, match="cannot be loaded") as caught:
        runtimes.load(open_bundle(contract))
    assert caught.value.fix.startswith("pip install")


def test_a_provider_that_is_not_there(contract: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="no QNNExecutionProvider"):
        OnnxRuntime(open_bundle(contract), provider="QNNExecutionProvider")


def test_a_provider_that_does_not_start(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["OtherExecutionProvider"])
    with pytest.raises(RuntimeUnavailable, match="CPUExecutionProvider cannot start"):
        OnnxRuntime(open_bundle(contract))


def test_damaged_weights_are_found_before_the_graph_is_loaded(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(12336))
    with pytest.raises(BundleError, match=r"weights\.bin has been changed"):
        runtimes.load(open_bundle(folder))


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(100)])
def test_a_graph_that_cannot_be_loaded(folder: Path, edit: Edit, content: bytes) -> None:
    (folder / "one-step.onnx").write_bytes(content)
    edit(lambda data: data["files"].update({"one-step.onnx": file_record(folder / "one-step.onnx").to_dict()}))
    with pytest.raises(BundleError, match="cannot load") as caught:
        runtimes.load(open_bundle(folder))
    assert "\n" not in caught.value.what


def test_a_graph_that_is_not_what_the_manifest_says(edit: Edit) -> None:
    folder = edit(lambda data: data["graphs"][0].update(file="two-step.onnx"))
    with pytest.raises(BundleError, match="its manifest says"):
        runtimes.load(open_bundle(folder))


def test_steps_that_the_bundle_does_not_have(contract: Path) -> None:
    with pytest.raises(BundleError, match="no graph of 3 steps"):
        runtimes.load(open_bundle(contract), steps=3)
