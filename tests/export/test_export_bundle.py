"""export_bundle: a bundle that works, or an error and nothing on disk."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from diffusers import AutoencoderKL

from pahi_rt import Pipeline
from pahi_rt.bundle import Bundle, verify
from pahi_rt.errors import OutputError, PahiError, ParityError
from pahi_rt.export import parity, trace
from pahi_rt.export.exporter import export_bundle
from pahi_rt.export.reveal import BUNDLE, building
from pahi_rt.export.rounding import round_matrices, to_float16
from pahi_rt.manifest import Component, TensorSpec
from pahi_rt.models.gaussians import kl_divergence, sample_noise
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.priors import load_prior
from pahi_rt.models.random_models import TINY_KL, Size, save_random_pipeline
from pahi_rt.noise import draw_noise
from pahi_rt.pipeline import load_tokenizer
from pahi_rt.runtimes import load
from pahi_rt.tokenizer import Tokenizer


def test_manifest_says_what_is_in_the_bundle(bundle: Bundle) -> None:
    manifest = bundle.manifest
    verify(bundle)
    graphs, others = (
        ["one-step-w16.onnx", "two-step-w16.onnx"],
        ["tokenizer.json", "vocabulary.json", "weights-w16.bin"],
    )
    assert sorted(manifest.files) == sorted(graphs + others)
    assert sorted(os.listdir(bundle.path)) == sorted([*manifest.files, "pahi.json"])
    assert (manifest.name, manifest.vocabulary, manifest.priors) == ("tiny", "vocabulary.json", {})
    assert manifest.format_version == 4
    assert (manifest.image.height, manifest.image.width, manifest.image.latent_shape) == (64, 64, (4, 8, 8))
    assert (manifest.tokenizer.max_length, manifest.tokenizer.pad_id) == (24, 0)
    assert {"torch", "diffusers", "onnx", "onnxruntime", "python"} <= manifest.tools.keys()


def test_graphs_are_described_as_they_are(bundle: Bundle) -> None:
    for steps, file in ((1, "one-step-w16.onnx"), (2, "two-step-w16.onnx")):
        graph = bundle.graph(steps)
        assert (graph.file, graph.opset, graph.precision) == (file, 20, "w16")
        assert graph.inputs == (
            TensorSpec("input_ids", "int64", ("batch", 24)),
            TensorSpec("noise", "float32", ("batch", 4, 8, 8)),
        )
        assert graph.outputs == (TensorSpec("image", "uint8", ("batch", 64, 64, 3)),)


def test_components_are_traced_to_their_files(bundle: Bundle) -> None:
    generator, autoencoder = bundle.manifest.generator, bundle.manifest.autoencoder
    assert (generator.id, generator.revision, generator.licence) == ("tiny", "local", "apache-2.0")
    assert autoencoder.id == "tiny/vae"
    assert generator.sha256 != autoencoder.sha256


def test_manifest_describes_priors(with_priors: Bundle, priors: dict[str, Path]) -> None:
    manifest = with_priors.manifest
    verify(with_priors)
    assert with_priors.priors == ["pahi", "hi"]
    # The weights of this HI do not fill a page, so they are in its graph.
    files = ["one-step-hi-w16.onnx", "one-step-pahi-w16.onnx", "pahi-w16.bin", "tokenizer.json", "weights-w16.bin"]
    assert sorted(manifest.files) == files
    assert len(manifest.graphs) == 2
    for kind, prior in manifest.priors.items():
        graph = with_priors.graph(1, kind)
        assert graph.file == f"one-step-{kind}-w16.onnx"
        assert graph.inputs == (
            TensorSpec("input_ids", "int64", ("batch", 24)),
            TensorSpec("noise", "float32", ("batch", 4, 8, 8)),
            TensorSpec("prior_strength", "float32", ("batch",)),
        )
        sha256 = hashlib.sha256(priors[kind].read_bytes()).hexdigest()
        assert prior.component == Component(f"mine/{kind}.safetensors", "local", sha256, "cc0-1.0")
    kl = kl_divergence(load_prior(priors["hi"])(torch.zeros(1, 32)))
    assert manifest.priors["hi"].kl_nats == pytest.approx(kl.item())
    assert manifest.priors["pahi"].kl_nats != manifest.priors["hi"].kl_nats


def test_priors_leave_the_generators_weights_alone(with_priors: Bundle, bundle: Bundle) -> None:
    without, beside = ((b.path / "weights-w16.bin").read_bytes() for b in (bundle, with_priors))
    assert len(beside) > 1_000_000
    assert without.startswith(beside)  # what follows are the biases of the second step


@pytest.mark.slow
def test_weights_of_all_steps_are_the_same_file(
    model: Path, bundle: Bundle, priors: dict[str, Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"steps": (1, 2), "precisions": ("w16",), "priors": tuple(priors.values())}
    both = export_bundle(model, tmp_path / "both", name="x", **options)
    assert both.manifest.files["weights-w16.bin"] == bundle.manifest.files["weights-w16.bin"]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny-lcm", "tiny-sdxl"])
def test_other_families_pass_the_gate(size: Size, tmp_path: Path) -> None:
    model = save_random_pipeline(tmp_path / "model", size)
    bundle = export_bundle(model, tmp_path / "bundle", name="x", steps=(2,))
    assert [row.graph for row in bundle.manifest.parity] == ["PyTorch fp32, 2 steps", *["two-step.onnx"] * 2]
    one, other = Pipeline.load(bundle, steps=2)(["a red cat", "a dog"])
    assert not np.array_equal(np.asarray(one), np.asarray(other))


def test_several_precisions(model: Path, priors: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": (1,), "precisions": ("fp16", "fp32"), "priors": (priors["pahi"],)}
    stages: list[str] = []
    bundle = export_bundle(
        model, tmp_path / "bundle", name="x", on_stage=lambda name, *_: stages.append(name), **options
    )
    assert stages.count("load model again") == 1  # halves cannot be made whole
    assert (bundle.precisions, bundle.choose_precision()) == (["fp16", "fp32"], "fp16")
    half, whole = (bundle.graph(1, "pahi", precision) for precision in bundle.precisions)
    assert (half.file, half.weights) == ("one-step-pahi-fp16.onnx", ("pahi-fp16.bin", "weights-fp16.bin"))
    assert (whole.file, whole.weights) == ("one-step-pahi.onnx", ("pahi.bin", "weights.bin"))
    sizes = [(bundle.path / f"weights{suffix}.bin").stat().st_size for suffix in ("-fp16", "")]
    assert sizes[0] < 0.6 * sizes[1]
    assert half.inputs == whole.inputs  # types too
    rows = {(row.graph, row.against): row for row in bundle.manifest.parity}
    assert 40 < rows[half.file, "PyTorch fp32"].psnr_db < rows[whole.file, "PyTorch fp32"].psnr_db
    assert rows[half.file, "PyTorch, values rounded to float16"].tolerance == "PSNR >= 40 dB"
    pictures = [np.asarray(Pipeline.load(bundle, precision=p)("a red cat", seed=1), int) for p in bundle.precisions]
    assert 0 < np.abs(pictures[0] - pictures[1]).max() <= 8


def test_eight_bits(model: Path, priors: dict[str, Path], bundle: Bundle, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "steps": (1,),
        "precisions": ("w8", "int8"),
        "priors": (priors["pahi"],),
        "min_psnr": 25.0,
    }
    eight = export_bundle(model, tmp_path / "bundle", name="x", **options)
    stored, computed = (eight.graph(1, "pahi", precision) for precision in eight.precisions)
    assert (stored.file, stored.weights) == ("one-step-pahi-w8.onnx", ("pahi-w8.bin", "weights-w8.bin"))
    assert (computed.file, computed.weights) == ("one-step-pahi-int8.onnx", ("pahi-int8.bin", "weights-int8.bin"))
    sizes = {
        p: (b.path / f"weights-{p}.bin").stat().st_size for p, b in (("w8", eight), ("int8", eight), ("w16", bundle))
    }
    assert sizes["w8"] < 0.6 * sizes["w16"] and sizes["int8"] < 0.9 * sizes["w16"]
    rows = {(row.graph, row.against): row for row in eight.manifest.parity}
    assert rows[stored.file, "PyTorch fp32, matrices rounded"].max_error < 2e-3
    assert 30 < rows[stored.file, "PyTorch fp32, weights as trained"].psnr_db < 60
    assert 25 < rows[computed.file, "PyTorch fp32"].psnr_db < 60
    assert rows[computed.file, "PyTorch fp32"].tolerance == "PSNR >= 25 dB"
    for graph in (stored, computed):
        onnx.checker.check_model(eight.path / graph.file)  # that each node comes after those that it reads, for one
    assert not [path for path in eight.path.iterdir() if path.is_dir()]
    pictures = [np.asarray(Pipeline.load(eight, precision=p)("a red cat", seed=1), int) for p in eight.precisions]
    assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 8


def test_values_out_of_float16s_range(generator: Generator, model: Path, tmp_path: Path) -> None:
    # ONNX Runtime computes them in fp32 on a CPU: the graph's own pictures are those of fp32.
    shutil.copytree(model, tmp_path / "model")
    with torch.no_grad():
        generator.unet.down_blocks[0].resnets[0].conv1.weight.mul_(1e5)
    generator.unet.save_pretrained(tmp_path / "model" / "unet")
    with pytest.raises(PahiError, match=r"resnets\.0\.conv1 returns is out of float16's range"):
        export_bundle(tmp_path / "model", tmp_path / "bundle", name="x", steps=(1,), precisions=("fp16",))


@pytest.mark.slow
def test_another_decoder_takes_the_models_place(model: Path, tmp_path: Path) -> None:
    decoder = AutoencoderKL(**TINY_KL)
    decoder.save_pretrained(tmp_path / "kl")
    bundle = export_bundle(model, tmp_path / "bundle", name="x", steps=(1,), decoder=tmp_path / "kl")
    assert bundle.manifest.autoencoder.id == "kl"
    generator = load_generator(model, tmp_path / "kl")
    input_ids = load_tokenizer(bundle).encode(["a red cat"]).input_ids
    expected = generator(torch.from_numpy(input_ids), torch.from_numpy(draw_noise([7], (4, 8, 8))))
    drawn = np.asarray(Pipeline.load(bundle)("a red cat", seed=7), np.int16)
    assert np.abs(drawn - expected[0].permute(1, 2, 0).mul(255).round().numpy()).max() <= 1


@pytest.mark.parametrize("kind", ["hi", "pahi"])
def test_priors_draw_what_pytorch_draws(
    with_priors: Bundle, generator: Generator, priors: dict[str, Path], kind: str
) -> None:
    strengths = torch.tensor([1, 0.3, 0])
    tokenizer = load_tokenizer(with_priors)
    input_ids = tokenizer.encode(["a red cat", "a dog by the sea", "a red cat"]).input_ids
    noise = draw_noise([5, 6, 7], (4, 8, 8))
    drawn = load(with_priors, prior=kind).run(input_ids, noise, strengths.numpy())
    prior = load_prior(priors[kind])
    for module in (generator, prior):
        round_matrices(module, to_float16)
    conditioning = generator.encode_prompt(torch.from_numpy(input_ids))
    with torch.no_grad():
        latents = sample_noise(prior(conditioning.pooled), torch.from_numpy(noise), strengths)
        expected = generator.draw(conditioning, latents).permute(0, 2, 3, 1).mul(255).round().numpy()
    assert np.abs(drawn.astype(np.int16) - expected).max() <= 1


def test_strength_0_is_the_bundle_without_a_prior(with_priors: Bundle, bundle: Bundle) -> None:
    plain = Pipeline.load(bundle)(["a red cat", "a dog"], seed=3)
    for kind in ("hi", "pahi", "gaussian"):
        pipeline = Pipeline.load(with_priors, prior=kind)
        drawn = pipeline(["a red cat", "a dog"], seed=3, prior_strength=0)
        assert [np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(drawn, plain, strict=True)] == [True, True]
        assert kind == "gaussian" or not np.array_equal(np.asarray(pipeline("a dog", seed=3)), np.asarray(plain[1]))


@pytest.mark.parametrize("steps", [1, 2])
def test_pipeline_draws_what_pytorch_draws(bundle: Bundle, generator: Generator, steps: int) -> None:
    prompt, seed = "a red cat by the sea", 123
    picture = np.asarray(Pipeline.load(bundle.path, steps=steps)(prompt, seed=seed), np.int16)
    spec = bundle.manifest.tokenizer
    input_ids = Tokenizer(bundle.file(spec.file), spec.max_length, spec.pad_id).encode([prompt]).input_ids
    round_matrices(generator, to_float16)
    expected = generator(torch.from_numpy(input_ids), torch.from_numpy(draw_noise([seed], (4, 8, 8))), steps)
    difference = np.abs(picture - expected[0].permute(1, 2, 0).mul(255).round().numpy())
    assert difference.max() <= 1
    assert np.unique(picture).size > 50


@pytest.mark.slow
def test_pictures_of_another_size(model: Path, tmp_path: Path) -> None:
    bundle = export_bundle(model, tmp_path / "wide", name="wide", steps=(1,), size=(32, 96))
    assert bundle.manifest.image.latent_shape == (4, 4, 12)
    assert Pipeline.load(bundle)("a red cat", seed=1).size == (96, 32)


def test_stages_are_reported_with_time_and_size(exported: tuple[Bundle, list[tuple[str, float, int | None]]]) -> None:
    bundle, stages = exported
    assert [name for name, _, _ in stages] == [
        "load model",
        "draw with PyTorch",
        "compare PyTorch fp32, 1 step with diffusers",
        "compare PyTorch fp32, 2 steps with diffusers",
        "round weights",
        "draw with PyTorch again",
        "export one-step-w16.onnx",
        "export two-step-w16.onnx",
        "compare one-step-w16.onnx with PyTorch",
        "compare two-step-w16.onnx with PyTorch",
        "write bundle",
    ]
    assert all(seconds > 0 for _, seconds, _ in stages)
    written = sum(size or 0 for _, _, size in stages)
    assert written == sum(path.stat().st_size for path in bundle.path.iterdir())


def test_nothing_is_left_of_a_failed_export(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        assert [path.name for path in tmp_path.iterdir()]  # it was being written
        raise ParityError("one-step.onnx is not PyTorch", fix="none")

    monkeypatch.setattr(trace, "export_graph", fail)
    with pytest.raises(ParityError):
        export_bundle(model, tmp_path / "bundle", name="x")
    assert not list(tmp_path.iterdir())


NAMES = {"one-step.onnx", "tokenizer.json", "weights.bin"}


def test_an_export_that_was_cut_off_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(parity, "check_graph", cut_off)
        with pytest.raises(KeyboardInterrupt):
            export_bundle(model, tmp_path / "bundle", name="x", steps=(1,))
    (left,) = tmp_path.iterdir()
    # As an export of two precisions would have left it, which is of the same model.
    (left / "new" / "weights-fp16.bin").write_bytes(b"half of it")
    monkeypatch.setattr(trace, "export_graph", lambda *_: pytest.fail("it was traced again"))
    bundle = export_bundle(model, tmp_path / "bundle", name="x", steps=(1,))
    verify(bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert {path.name for path in bundle.path.iterdir()} == {"pahi.json", *NAMES}


def test_two_exports_to_one_place(model: Path, tmp_path: Path) -> None:
    with (
        building(tmp_path / "bundle", BUNDLE, overwrite=True),
        pytest.raises(OutputError, match="another export is writing"),
    ):
        export_bundle(model, tmp_path / "bundle", name="x")


def test_a_full_disk_is_an_output_error(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trace, "export_graph", fail)
    with pytest.raises(OutputError, match="No space left"):
        export_bundle(model, tmp_path / "bundle", name="x")
    assert not list(tmp_path.iterdir())


def test_space_is_checked_before_anything_is_traced(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(trace, "export_graph", lambda *_: pytest.fail("it was traced"))
    with pytest.raises(OutputError, match="needs about 0.1 GB"):
        export_bundle(model, tmp_path / "bundle", name="x")
    assert not list(tmp_path.iterdir())


def test_an_existing_output_is_left_alone(bundle: Bundle, model: Path) -> None:
    before = (bundle.path / "pahi.json").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        export_bundle(model, bundle.path, name="x")
    assert (bundle.path / "pahi.json").read_bytes() == before


def test_only_bundles_are_overwritten(model: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is not a bundle"):
        export_bundle(model, tmp_path / "home", name="x", overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").is_file()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": ()}, "graphs of"),
        ({"steps": (0,)}, "graphs of"),
        ({"steps": (1, 1)}, "graphs of"),
        ({"steps": (1, 5)}, "graphs of"),
        ({"precisions": ("int3",)}, "of the precision int3"),
        ({"precisions": ("fp16", "fp16")}, "of the precision fp16, fp16"),
        ({"precisions": ()}, "of the precision none"),
        ({"opset": 17}, "opset 17"),
        ({"size": (64, 60)}, "cannot draw pictures of 64 x 60 pixels"),
        ({"size": (0, 64)}, "cannot draw pictures of 0 x 64 pixels"),
        ({"extra_files": {"../escape.txt": __file__}}, "cannot be called"),
        ({"extra_files": {"weights.bin": __file__}}, "cannot be called"),
        ({"extra_files": {"pahi-w16.bin": __file__}}, "cannot be called"),
        ({"extra_files": {"two-step-hi.onnx": __file__}}, "cannot be called"),
        ({"priors": ("/nowhere/prior.safetensors",)}, "no prior at"),
        ({"extra_files": {"words.json": "/nowhere"}}, "does not exist"),
        ({"vocabulary": "words.json"}, "not among the extra files"),
    ],
)
def test_refuses_wrong_requests(model: Path, tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(PahiError, match=message):
        export_bundle(model, tmp_path / "bundle", **{"name": "x", **wrong})
    assert not list(tmp_path.iterdir())


def test_refuses_an_output_in_no_folder(model: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist") as caught:
        export_bundle(model, tmp_path / "no" / "bundle", name="x")
    assert caught.value.fix == f"mkdir -p {tmp_path / 'no'}, or choose another output"
