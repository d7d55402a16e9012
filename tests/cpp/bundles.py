"""Bundles made by hand: a graph of a few nodes, with hashes that are right, whatever else is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from pahi_rt.bundle import open_bundle

EMOJI = open_bundle("emoji").path
SIDE = 128
SIZE = SIDE * SIDE * 3
IMAGE = np.zeros((1, SIDE, SIDE, 3), np.uint8)
TOKENS = 24
PICTURE = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
"""The output of a graph as its manifest describes it."""


def write_bundle(folder: Path, model: bytes, weights: Sequence[str] = (), tokens: int = TOKENS, **files: bytes) -> Path:
    """A bundle whose hashes are right, and whose graph is `model`; `files` get ".bin" after their names."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(EMOJI / "tokenizer.json", folder / "tokenizer.json")
    (folder / "g.onnx").write_bytes(model)
    for name, content in files.items():
        (folder / f"{name}.bin").write_bytes(content)
    manifest = json.loads((EMOJI / "pahi.json").read_text())
    ports = [("input_ids", "int64", ["batch", tokens]), ("noise", "float32", ["batch", 4, 16, 16])]
    specs = [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in ports]
    image = {"name": "image", "dtype": "uint8", "shape": ["batch", SIDE, SIDE, 3]}
    graph = {"file": "g.onnx", "steps": 1, "prior": "gaussian", "precision": "fp32", "opset": 20}
    manifest["tokenizer"]["max_length"] = tokens
    manifest |= {"priors": {}, "vocabulary": None, "engines": [], "parity": [], "scorers": {}}
    manifest["graphs"] = [graph | {"weights": list(weights), "inputs": specs, "outputs": [image]}]
    manifest["files"] = {name: record(folder / name) for name in ("g.onnx", "tokenizer.json", *weights)}
    (folder / "pahi.json").write_text(json.dumps(manifest))
    return folder


def record(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def model(
    nodes: Sequence[Any],
    tensors: Sequence[Any] = (),
    domain: str = "",
    functions: Sequence[Any] = (),
    tokens: int | str = TOKENS,
    image: Any = PICTURE,
    more: Sequence[Any] = (),
) -> bytes:
    """A graph with these nodes; `more` are inputs that no manifest lists."""
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", tokens]),
        helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 4, 16, 16]),
        *more,
    ]
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph(list(nodes), "g", inputs, [image], list(tensors))
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)
    return bytes(made.SerializeToString())


def constant(name: str, values: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def showing(values: Any, **parts: Any) -> bytes:
    """A graph whose pictures are always these values."""
    return model([helper.make_node("Identity", ["w"], ["image"])], [constant("w", values)], **parts)
