"""Write the contract bundles and the recorded noise that the unit tests use.

    PYTHONPATH=. python tests/data/make_contract.py

contract/ has the interface of a real bundle and trivial arithmetic: a picture depends on its own token ids and
noise only. contract-priors/ is the same with an HI and a PAHI, whose mu depends on the token ids, and no graph
without one. noise.json is drawn with Python's big integers,
independently of the library's implementation.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from pahi_rt.bundle import file_record
from pahi_rt.bundle import write_manifest as save_manifest
from pahi_rt.manifest import (
    FORMAT_VERSION,
    Card,
    Component,
    Graph,
    ImageSpec,
    Manifest,
    Parity,
    PriorSpec,
    TensorSpec,
    TokenizerSpec,
)

HERE = Path(__file__).parent
WORDS = ["a", "red", "green", "blue", "apple", "cat", "dog", "grinning", "face", "of", "two"]
TOKENS = 24
LATENTS = (4, 4, 4)
SIDE = 32
ALIGNMENT = 4096
SIGMA, MU = 1.5, 0.25
NAMES = {1: "one-step", 2: "two-step"}
SEEDS = (0, 1, 7, 2**32, 2**64 - 1)
SHAPES = (LATENTS, (1, 3, 3))
Constant = np.ndarray | np.float32
node = helper.make_node


def main() -> None:
    write_contract(HERE / "contract")
    write_contract_with_priors(HERE / "contract-priors")
    (HERE / "noise.json").write_text(json.dumps(record_noise(), indent=1) + "\n")


def write_contract(folder: Path) -> None:
    """The two-step graph takes prior_strength although the bundle has no prior."""
    external, pad_id = write_parts(folder)
    write_graph(folder / "one-step.onnx", external, [node("Identity", ["noise"], ["latents"])], {})
    constants = prior_constants(SIGMA) | {"mu": np.float32(MU)}
    write_graph(folder / "two-step.onnx", external, prior_nodes("mu"), constants)
    graphs = [graph_spec(f"{name}.onnx", steps, "gaussian", steps == 2) for steps, name in NAMES.items()]
    write_manifest(folder, pad_id, graphs, {})


def write_contract_with_priors(folder: Path) -> None:
    """PAHI multiplies mu by what the prompt's tokens come to. Two steps are sigma applied twice."""
    external, pad_id = write_parts(folder)
    of_the_prompt = node("Mul", ["mu", "text"], ["mu_of_prompt"])
    priors, graphs = {}, []
    for kind, nodes in {"hi": prior_nodes("mu"), "pahi": [of_the_prompt, *prior_nodes("mu_of_prompt")]}.items():
        mean = write_weights(folder / f"{kind}.bin", {"mu": np.full((1, 4, 1, 1), MU, "<f4")})
        for steps, name in NAMES.items():
            graphs.append(graph_spec(f"{name}-{kind}.onnx", steps, kind, True))
            write_graph(folder / graphs[-1].file, [*external, *mean], nodes, prior_constants(SIGMA**steps))
        part = Component(f"contract/{kind}", "1", "0" * 64, "Apache-2.0")
        priors[kind] = PriorSpec(part, 12.5 if kind == "pahi" else None)
    write_manifest(folder, pad_id, graphs, priors)


def write_parts(folder: Path) -> tuple[list[TensorProto], int]:
    """What both bundles have; returns the initializers of all graphs, and the id that pads."""
    folder.mkdir(exist_ok=True)
    vocabulary_size = write_tokenizer(folder / "tokenizer.json")
    write_vocabulary(folder / "vocabulary.json")
    return write_weights(folder / "weights.bin", make_weights(vocabulary_size)), vocabulary_size - 1


def write_tokenizer(path: Path) -> int:
    """CLIP's format: byte-level BPE with "</w>", lower case, start and end token last in the vocabulary."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces[:2] = ["".join(pieces[:2])]
            vocabulary.setdefault(pieces[0], len(vocabulary))
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[token] = len(vocabulary)
    model = models.BPE(vocabulary, list(merges), end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    special = {token: vocabulary[token] for token in ("<|endoftext|>", "<|startoftext|>")}
    end, start = special.items()
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    tokenizer.add_special_tokens(sorted(special))
    tokenizer.save(str(path), pretty=False)
    return len(vocabulary)


def make_weights(vocabulary_size: int) -> dict[str, np.ndarray]:
    embedding = np.sin(np.arange(vocabulary_size * 4) * 12.9898) * 3
    colours = np.cos(np.arange(12) * 78.233)
    return {
        "embedding": embedding.astype("<f4").reshape(vocabulary_size, 4),
        "colours": colours.astype("<f4").reshape(3, 4, 1, 1),
    }


def write_weights(path: Path, weights: dict[str, np.ndarray]) -> list[TensorProto]:
    """One page-aligned file; returns the initializers that point into it."""
    content, tensors = b"", []
    for name, value in weights.items():
        content += b"\0" * (-len(content) % ALIGNMENT)
        raw = value.tobytes()
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=value.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", path.name), ("offset", len(content)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(text))
        content += raw
        tensors.append(tensor)
    path.write_bytes(content)
    return tensors


def write_graph(
    path: Path, external: list[TensorProto], nodes: list[onnx.NodeProto], constants: dict[str, Constant]
) -> None:
    """`nodes` make `latents` from `noise` and `text`."""
    nodes = [
        node("Gather", ["embedding", "input_ids"], ["tokens"]),
        node("ReduceMean", ["tokens", "token_axis"], ["pooled"], keepdims=0),
        node("Reshape", ["pooled", "as_channels"], ["text"]),
        *nodes,
        node("Add", ["latents", "text"], ["mixed"]),
        node("Conv", ["mixed", "colours"], ["small"]),
        node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        node("Sigmoid", ["large"], ["bounded"]),
        node("Mul", ["bounded", "white"], ["levels"]),
        node("Round", ["levels"], ["rounded"]),
        node("Transpose", ["rounded"], ["last"], perm=[0, 2, 3, 1]),
        node("Cast", ["last"], ["image"], to=TensorProto.UINT8),
    ]
    constants = {
        "token_axis": np.array([1], np.int64),
        "as_channels": np.array([0, 4, 1, 1], np.int64),
        "scales": np.array([1, 1, 8, 8], np.float32),
        "white": np.float32(255),
        **constants,
    }
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = [value_info(spec) for spec in input_specs("excess" in constants)]
    graph = helper.make_graph(nodes, "contract", inputs, [value_info(OUTPUT)], [*external, *stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString(deterministic=True))


def prior_nodes(mu: str) -> list[onnx.NodeProto]:
    """std = 1 + w (sigma^2 - 1), mean = w mu, latents = noise * std + mean."""
    return [
        node("Reshape", ["prior_strength", "as_scalars"], ["w"]),
        node("Mul", ["w", "excess"], ["more"]),
        node("Add", ["one", "more"], ["std"]),
        node("Mul", ["w", mu], ["mean"]),
        node("Mul", ["noise", "std"], ["scaled"]),
        node("Add", ["scaled", "mean"], ["latents"]),
    ]


def prior_constants(sigma: float) -> dict[str, Constant]:
    scalars: dict[str, Constant] = {"as_scalars": np.array([-1, 1, 1, 1], np.int64), "one": np.float32(1)}
    return scalars | {"excess": np.float32(sigma**2 - 1)}


OUTPUT = TensorSpec("image", "uint8", ("batch", SIDE, SIDE, 3))


def graph_spec(file: str, steps: int, prior: str, with_strength: bool) -> Graph:
    weights = ("weights.bin",) if prior == "gaussian" else ("weights.bin", f"{prior}.bin")
    return Graph(file, steps, prior, "fp32", input_specs(with_strength), (OUTPUT,), 18, weights)


def input_specs(with_prior: bool) -> tuple[TensorSpec, ...]:
    specs = (
        TensorSpec("input_ids", "int64", ("batch", TOKENS)),
        TensorSpec("noise", "float32", ("batch", *LATENTS)),
    )
    return (*specs, TensorSpec("prior_strength", "float32", ("batch",))) if with_prior else specs


def value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, list(spec.shape))


def write_vocabulary(path: Path) -> None:
    concepts = [
        {"label": "red apple", "emoji": "\N{RED APPLE}", "category": "food"},
        {"label": "green apple", "emoji": "\N{GREEN APPLE}", "category": "food"},
        {"label": "grinning cat", "emoji": "\N{GRINNING CAT FACE WITH SMILING EYES}", "category": "faces"},
    ]
    path.write_text(json.dumps({"words": WORDS, "concepts": concepts, "styles": ["noto"]}) + "\n")


def write_manifest(folder: Path, pad_id: int, graphs: list[Graph], priors: dict[str, PriorSpec]) -> None:
    part = Component("contract", "1", "0" * 64, "Apache-2.0")
    names = [*(graph.file for graph in graphs), "weights.bin", *(f"{kind}.bin" for kind in priors)]
    names += ["tokenizer.json", "vocabulary.json"]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=folder.name,
        generator=part,
        autoencoder=part,
        priors=priors,
        image=ImageSpec(SIDE, SIDE, LATENTS),
        tokenizer=TokenizerSpec("tokenizer.json", TOKENS, pad_id),
        noise_recipe="philox-boxmuller-1",
        graphs=tuple(graphs),
        engines=(),
        parity=(Parity(graphs[0].file, "itself", 0.0, 99.0, 1.0, "none"),),
        files={name: file_record(folder / name) for name in names},
        tools={"make_contract": "1"},
        card=Card(
            "Trivial arithmetic for tests.", ("nothing",), "Apache-2.0", ("it draws noise",), {"parameters": 12.0}
        ),
        vocabulary="vocabulary.json",
    )
    save_manifest(folder, manifest)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10, straight from the paper's text."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, d = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(d >> 32) ^ c[1] ^ k[0], d % 2**32, (a >> 32) ^ c[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def gaussians(seed: int, count: int) -> list[float]:
    values: list[float] = []
    for block in range(-(-count // 4)):
        u = [(word + 0.5) / 2**32 for word in philox([block, 0, 0, 0], [seed % 2**32, seed >> 32])]
        for even, odd in ((u[0], u[1]), (u[2], u[3])):
            radius, angle = math.sqrt(-2 * math.log(even)), 2 * math.pi * odd
            values += [radius * math.cos(angle), radius * math.sin(angle)]
    return values[:count]


def record_noise() -> dict[str, object]:
    """Seeds as text, for they exceed what JavaScript's numbers hold; values as the bits of a float32."""
    draws = []
    for seed in SEEDS:
        for shape in SHAPES:
            bits = [struct.pack(">f", value).hex() for value in gaussians(seed, math.prod(shape))]
            draws.append({"seed": str(seed), "shape": list(shape), "float32_bits": " ".join(bits)})
    return {"recipe": "philox-boxmuller-1", "draws": draws}


if __name__ == "__main__":
    main()
