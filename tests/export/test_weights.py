"""weights.bin: every tensor once, on a page of its own, exactly as the graph needs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pahi_rt.bundle import Bundle
from pahi_rt.export.rounding import Pack, Packed, as_float16, as_levels
from pahi_rt.export.weights import PAGE, WeightsFile, store_weights


def externals(path: Path) -> dict[int, int]:
    """Offset -> length of what the graph at `path` reads from weights-w16.bin."""
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            assert entries["location"] == "weights-w16.bin"
            found[int(entries["offset"])] = int(entries["length"])
    return found


def test_equal_tensors_are_written_once_on_pages(tmp_path: Path) -> None:
    first, second = np.arange(3000, dtype=np.float32), np.ones(10, np.float32)
    with WeightsFile(tmp_path / "weights.bin") as weights:
        assert [weights.add(array) for array in (first, second, first.copy(), second)] == [0, 3 * PAGE, 0, 3 * PAGE]
    content = (tmp_path / "weights.bin").read_bytes()
    assert len(content) == 3 * PAGE + second.nbytes
    assert np.array_equal(np.frombuffer(content[: first.nbytes], "<f4"), first)


def test_bytes_are_little_endian(tmp_path: Path) -> None:
    with WeightsFile(tmp_path / "weights.bin") as weights:
        weights.add(np.array([1.0], ">f4"))
    assert (tmp_path / "weights.bin").read_bytes() == b"\x00\x00\x80\x3f"


def test_two_steps_add_next_to_nothing(bundle: Bundle) -> None:
    one, two = externals(bundle.path / "one-step-w16.onnx"), externals(bundle.path / "two-step-w16.onnx")
    assert len(one) > 50
    assert sum(two[offset] for offset in two.keys() - one.keys()) < 8 * 1024
    assert (bundle.path / "weights-w16.bin").stat().st_size < 1.2 * sum(one.values())


def test_tensors_lie_on_pages_of_the_file(bundle: Bundle) -> None:
    size = (bundle.path / "weights-w16.bin").stat().st_size
    for offset, length in externals(bundle.path / "two-step-w16.onnx").items():
        assert offset % PAGE == 0
        assert offset + length <= size


def test_only_small_tensors_stay_in_the_graph(bundle: Bundle) -> None:
    for tensor in onnx.load(bundle.path / "one-step-w16.onnx", load_external_data=False).graph.initializer:
        assert tensor.external_data or len(tensor.raw_data) < PAGE


def small_model(*arrays: np.ndarray) -> ir.Model:
    """A graph that concatenates constants."""
    kind = ir.TensorType(ir.DataType.FLOAT)
    values = [
        ir.Value(name=f"w{i}", const_value=ir.tensor(array), type=kind, shape=ir.Shape(array.shape))
        for i, array in enumerate(arrays)
    ]
    node = ir.node("Concat", values, {"axis": 0})
    node.outputs[0].type, node.outputs[0].name = kind, "joined"
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=values, opset_imports={"": 20}, name="small")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("pack", "stored"),
    [(Packed, ir.DataType.FLOAT), (as_float16, ir.DataType.FLOAT16), (as_levels, ir.DataType.INT8)],
)
def test_storage_changes_no_number(tmp_path: Path, pack: Pack, stored: ir.DataType) -> None:
    random = np.random.default_rng(0)
    exact = random.integers(-127, 128, (64, 64)).astype(np.float32)
    exact[:, 0] = 127
    inexact = random.normal(size=(64, 64)).astype(np.float32)
    model = small_model(exact, inexact, exact.copy())
    with WeightsFile(tmp_path / "weights.bin") as weights:
        store_weights(model, weights, pack)
    ir.save(model, tmp_path / "small.onnx")
    kinds = [v.dtype for v in model.graph.initializers.values() if not str(v.name).endswith(".scale")]
    assert kinds == [stored, ir.DataType.FLOAT]  # only what loses nothing is stored as less, and equal ones are one
    import onnxruntime

    (joined,) = onnxruntime.InferenceSession(tmp_path / "small.onnx").run(None, {})
    assert np.array_equal(joined, np.concatenate([exact, inexact, exact]))


def test_equal_bytes_of_other_shapes_stay_apart(tmp_path: Path) -> None:
    flat, square = np.zeros((1, 2048), np.float32), np.zeros((2, 1024), np.float32)
    model = small_model(flat, square, flat.copy())
    with WeightsFile(tmp_path / "weights.bin") as weights:
        store_weights(model, weights)
    assert (tmp_path / "weights.bin").stat().st_size == flat.nbytes
    shapes = [value.shape for value in model.graph.initializers.values()]
    assert sorted(tuple(shape) for shape in shapes if shape is not None) == [(1, 2048), (2, 1024)]


def test_a_scope_has_a_file_of_its_own(tmp_path: Path) -> None:
    shared, own, others = (np.full(2048, number, np.float32) for number in (1, 2, 3))
    model = small_model(shared, own, others)
    w0, w1, w2 = model.graph.initializers.values()
    (joined,) = model.graph
    joined.name = "decoder/Concat"
    model.graph.insert_before(joined, ir.node("Add", [w0, w1], name="prior.gaussian/Add"))
    joined.replace_input_with(1, w2)  # w1 is read by the prior only, w0 by both
    with WeightsFile(tmp_path / "prior.bin") as first, WeightsFile(tmp_path / "weights.bin") as second:
        store_weights(model, first, scope="prior")
        store_weights(model, second)
    assert (tmp_path / "prior.bin").read_bytes() == own.tobytes()
    assert (tmp_path / "weights.bin").read_bytes() == shared.tobytes() + others.tobytes()


def test_a_scope_is_a_whole_name(tmp_path: Path) -> None:
    model = small_model(np.ones(2048, np.float32))
    (joined,) = model.graph
    joined.name = "priory/Concat"
    with WeightsFile(tmp_path / "prior.bin") as weights:
        store_weights(model, weights, scope="prior")
    assert not list(tmp_path.iterdir())  # nothing was written, so there is no file


def test_priors_are_stored_apart(with_priors: Bundle) -> None:
    places = {
        file: {
            entry.value
            for tensor in onnx.load(with_priors.path / file, load_external_data=False).graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        for file in ("one-step-hi-w16.onnx", "one-step-pahi-w16.onnx")
    }
    # The last layers of both MLPs, [256, 16] of float16; what does not fill a page is in the graph.
    assert (with_priors.path / "pahi-w16.bin").stat().st_size == 2 * 256 * 16 * 2
    assert places == {
        "one-step-hi-w16.onnx": {"weights-w16.bin"},
        "one-step-pahi-w16.onnx": {"weights-w16.bin", "pahi-w16.bin"},
    }
    for file, names in places.items():
        (graph,) = (graph for graph in with_priors.manifest.graphs if graph.file == file)
        assert set(graph.weights) == names
