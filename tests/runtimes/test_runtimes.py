"""What every runtime does with the contract bundle; the reference is what ONNX Runtime draws."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pahi_rt import runtimes
from pahi_rt.bundle import file_record, open_bundle
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.noise import draw_noise
from tests.graph_bytes import constant, write_bundle

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]
ON_A_CPU = ("auto", "onnxruntime", pytest.param("openvino", marks=pytest.mark.openvino))


@pytest.fixture(params=ON_A_CPU)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inputs(batch: int, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    input_ids = np.arange(batch * 24, dtype=np.int64).reshape(batch, 24)
    return input_ids, draw_noise(range(batch), (4, 4, 4)), np.full(batch, strength, np.float32)


@pytest.mark.parametrize("steps", [1, 2])
def test_load_and_run(contract: Path, steps: int, name: str) -> None:
    runtime = runtimes.load(open_bundle(contract), steps=steps, name=name)
    pictures = runtime.run(*inputs(3))
    assert pictures.dtype == np.uint8
    assert pictures.shape == (3, 32, 32, 3)
    assert pictures.std() > 10


@pytest.mark.parametrize("steps", [1, 2])
def test_a_picture_does_not_depend_on_the_batch(contract: Path, steps: int, name: str) -> None:
    runtime = runtimes.load(open_bundle(contract), steps=steps, name=name)
    input_ids, noise, strength = inputs(8)
    together = runtime.run(input_ids, noise, strength)
    for row in range(8):
        alone = runtime.run(input_ids[row : row + 1], noise[row : row + 1], strength[row : row + 1])
        np.testing.assert_array_equal(alone[0], together[row])


def test_prior_strength_reaches_only_a_graph_that_takes_it(contract: Path, name: str) -> None:
    def pictures(steps: int, strength: float) -> np.ndarray:
        return runtimes.load(open_bundle(contract), steps=steps, name=name).run(*inputs(1, strength))

    np.testing.assert_array_equal(pictures(1, 0.0), pictures(1, 1.0))
    assert not np.array_equal(pictures(2, 0.0), pictures(2, 1.0))
    # Without its prior, the contract's second graph is its first.
    np.testing.assert_array_equal(pictures(1, 1.0), pictures(2, 0.0))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_batch_of_several_strengths(contract: Path, contract_with_priors: Path, steps: int, name: str) -> None:
    bundle = open_bundle(contract_with_priors)
    input_ids, noise, _ = inputs(4)
    strengths = np.array([0, 0.5, 1, 0.5], np.float32)
    drawn = {}
    for prior in ("hi", "pahi"):
        runtime = runtimes.load(bundle, steps=steps, prior=prior, name=name)
        drawn[prior] = runtime.run(input_ids, noise, strengths)
        for row, strength in enumerate(strengths):
            alone = runtime.run(input_ids[row : row + 1], noise[row : row + 1], strength.reshape(1))
            np.testing.assert_array_equal(alone[0], drawn[prior][row])
    plain = runtimes.load(open_bundle(contract), name=name).run(input_ids, noise, strengths)
    assert [np.array_equal(plain[row], drawn["hi"][row]) for row in range(4)] == [True, False, False, False]
    assert [np.array_equal(drawn["hi"][row], drawn["pahi"][row]) for row in range(4)] == [True, False, False, False]


def test_the_default_prior_is_pahi(contract_with_priors: Path, name: str) -> None:
    bundle = open_bundle(contract_with_priors)
    by_default = runtimes.load(bundle, name=name).run(*inputs(2))
    np.testing.assert_array_equal(by_default, runtimes.load(bundle, prior="pahi", name=name).run(*inputs(2)))
    gaussian = runtimes.load(bundle, prior="gaussian", name=name).run(*inputs(2, 0.0))
    np.testing.assert_array_equal(gaussian, runtimes.load(bundle, prior="hi", name=name).run(*inputs(2, 0.0)))


def test_a_prior_that_the_bundle_lacks(contract: Path, name: str) -> None:
    with pytest.raises(BundleError, match="has no prior 'hi'"):
        runtimes.load(open_bundle(contract), prior="hi", name=name)


@pytest.mark.parametrize("steps", [1, 2])
def test_all_draw_the_same(contract_with_priors: Path, steps: int, name: str) -> None:
    bundle = open_bundle(contract_with_priors)
    ours, reference = (runtimes.load(bundle, steps=steps, name=n).run(*inputs(4, 0.5)) for n in (name, "onnxruntime"))
    assert np.abs(ours.astype(int) - reference).max() <= 1


def test_several_threads_do_not_mix_pictures_up(contract: Path, name: str) -> None:
    runtime = runtimes.load(open_bundle(contract), name=name)
    input_ids, noise, strength = inputs(16)
    rows = [(input_ids[i : i + 1], noise[i : i + 1], strength[i : i + 1]) for i in range(16)]
    expected = [runtime.run(*row) for row in rows]
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda row: runtime.run(*row), rows))
    assert [np.array_equal(one, other) for one, other in zip(drawn, expected, strict=True)] == [True] * 16


def test_pictures_are_ones_own(contract: Path, name: str) -> None:
    """What comes back is not overwritten by the next call."""
    runtime = runtimes.load(open_bundle(contract), name=name)
    first = runtime.run(*inputs(1))
    before = first.copy()
    runtime.run(inputs(1)[0], draw_noise([9], (4, 4, 4)), inputs(1)[2])
    np.testing.assert_array_equal(first, before)


def test_descriptions_have_the_same_keys(contract: Path, name: str) -> None:
    described = runtimes.load(open_bundle(contract), name=name, threads=2).describe()
    assert list(described)[:5] == ["runtime", "version", "device", "precision", "threads"]
    assert ("why" in described) == (name == "auto")
    assert (described["device"], described["precision"], described["threads"]) == ("CPU", "fp32", 2)
    assert name == "auto" or described["runtime"] == name


def test_no_threads(contract: Path, name: str) -> None:
    with pytest.raises(RuntimeUnavailable, match="0 threads"):
        runtimes.load(open_bundle(contract), name=name, threads=0)


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(100)])
def test_a_graph_that_cannot_be_loaded(folder: Path, edit: Edit, content: bytes, name: str) -> None:
    (folder / "one-step.onnx").write_bytes(content)
    edit(lambda data: data["files"].update({"one-step.onnx": file_record(folder / "one-step.onnx").to_dict()}))
    with pytest.raises(BundleError, match="is not a graph that pahi-rt reads") as caught:
        runtimes.load(open_bundle(folder), name=name)
    assert "\n" not in caught.value.what


def test_a_graph_that_is_not_what_the_manifest_says(edit: Edit, name: str) -> None:
    folder = edit(lambda data: data["graphs"][0].update(file="two-step.onnx"))
    with pytest.raises(BundleError, match="its manifest says"):
        runtimes.load(open_bundle(folder), name=name)


def test_damaged_weights_are_found_before_the_graph_is_loaded(folder: Path, name: str) -> None:
    (folder / "weights.bin").write_bytes(bytes(12336))
    with pytest.raises(BundleError, match=r"weights\.bin has been changed"):
        runtimes.load(open_bundle(folder), name=name)


def test_an_unknown_runtime(contract: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="no runtime 'tensorflow'") as caught:
        runtimes.load(open_bundle(contract), name="tensorflow")
    assert "onnxruntime" in caught.value.fix


SHAPES = [
    (1, 32, 32),
    (1, 1, 1, 3),
    (1, 32, 32, 4),
    (0, 32, 32, 3),
    (2, 32, 32, 3),
    (1, 0, 32, 3),
    (1,),
    (),
    (1, 32, 32, 3, 1),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_of_another_shape_than_the_manifests(
    contract: Path, tmp_path: Path, shape: tuple[int, ...], name: str
) -> None:
    runtime = runtimes.load(open_bundle(write_bundle(contract, tmp_path / "bundle", constant(shape))), name=name)
    # OpenVINO makes a scalar of what has no values.
    drawn = re.escape(str(list(shape))) if 0 not in shape else r"\[.*\]"
    with pytest.raises(BundleError, match=rf"draws uint8 {drawn}, where its manifest says uint8 \[1, 32, 32, 3\]"):
        runtime.run(*inputs(1))
