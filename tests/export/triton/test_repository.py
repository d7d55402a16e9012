"""What a repository holds, read with Triton's own protobuf; and what is refused before anything is written."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from pahi_rt.bundle import Bundle, file_record, open_bundle, verify, write_manifest
from pahi_rt.cli import app
from pahi_rt.errors import BundleError, OutputError, PahiError
from pahi_rt.export.triton.config import Batching, format_message
from pahi_rt.export.triton.repository import Choice, write_repository
from pahi_rt.manifest import Plan

MODELS = ["generate", "generate_png", "noise", "pipeline", "png", "tokenizer"]


def read_configs(repository: Path) -> dict[str, Any]:
    """Raises ParseError for a field or a value that Triton does not know."""
    return {
        folder.name: text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        for folder in sorted(repository.iterdir())
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository("emoji", tmp_path_factory.mktemp("triton") / "models", batching=Batching(16, 500, 2))


@pytest.fixture
def with_plans(tmp_path: Path) -> Bundle:
    """The embedded bundle with two plans, whose content does not matter here."""
    source = open_bundle("emoji")
    folder = tmp_path / "planned"
    folder.mkdir()
    for name in source.manifest.files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((source.path / name).read_bytes())
    graph, files = source.graph(1, "pahi"), dict(source.manifest.files)
    engines = []
    for capability in ("86", "89"):
        (folder / f"one-step-sm{capability}.plan").write_bytes(capability.encode())
        files[f"one-step-sm{capability}.plan"] = file_record(folder / f"one-step-sm{capability}.plan")
        sha256 = source.manifest.files[graph.file].sha256
        plan = f"one-step-sm{capability}.plan"
        engines.append(Plan(plan, graph.file, sha256, "tensorrt", "10.14", (capability,), (1, 2, 4)))
    write_manifest(folder, replace(source.manifest, engines=tuple(engines), files=files))
    return open_bundle(folder)


def test_every_configuration_is_whole(repository: Path) -> None:
    configs = read_configs(repository)
    assert list(configs) == MODELS
    for name, config in configs.items():
        assert (config.name, config.max_batch_size) == (name, 16)
        assert config.input and config.output and config.version_policy.latest.num_versions == 1
        assert bool(config.backend) != bool(config.platform)
        assert any((repository / name / "1").iterdir())  # git and object stores drop an empty folder


def test_the_graph_has_a_warm_up_and_batches(repository: Path) -> None:
    config = read_configs(repository)["pipeline"]
    assert [list(port.dims) for port in config.input] == [[28], [4, 16, 16], [1]]
    assert config.input[2].HasField("reshape") and not config.input[2].reshape.shape
    assert [list(port.dims) for port in config.output] == [[128, 128, 3]]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(group.count, group.kind) for group in config.instance_group] == [(2, config.instance_group[0].KIND_CPU)]
    assert set(config.model_warmup[0].inputs) == {"input_ids", "noise", "prior_strength"}
    chosen = {key: value.string_value for key, value in config.parameters.items()}
    assert chosen == {"runtime": "auto", "steps": "1", "prior": "pahi", "precision": "w16"}


def test_what_steps_hand_on_is_what_the_next_ones_take(repository: Path) -> None:
    configs = read_configs(repository)
    for name in ("generate", "generate_png"):
        known = {port.name: (port.data_type, list(port.dims)) for port in configs[name].input}
        for step in configs[name].ensemble_scheduling.step:
            model = configs[step.model_name]
            for port in model.input:
                assert known[step.input_map[port.name]] == (port.data_type, list(port.dims))
            known |= {step.output_map[port.name]: (port.data_type, list(port.dims)) for port in model.output}
        for port in configs[name].output:
            assert known[port.name] == (port.data_type, list(port.dims))


def test_no_two_steps_run_at_once(repository: Path) -> None:
    """Triton's ensembles crash the server when one of two fails."""
    configs = read_configs(repository)
    for name in ("generate", "generate_png"):
        steps = configs[name].ensemble_scheduling.step
        for before, step in itertools.pairwise(steps):
            assert set(before.output_map.values()) & set(step.input_map.values())


def test_the_bundle_is_inside_and_whole(repository: Path) -> None:
    copied = open_bundle(repository / "pipeline" / "1" / "bundle")
    verify(copied)
    assert copied.manifest == open_bundle("emoji").manifest


def test_onnxruntime_reads_a_folder_with_its_weights(tmp_path: Path) -> None:
    repository = write_repository("emoji", tmp_path / "models", Choice("onnxruntime"), Batching(is_on_gpu=True))
    config = read_configs(repository)["pipeline"]
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")
    assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
    model = repository / "pipeline" / "1" / "model.onnx"
    assert {path.name for path in model.iterdir()} == {"model.onnx", "pahi-w16.bin", "weights-w16.bin"}
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(model / "model.onnx"))
    assert [node.name for node in session.get_inputs()] == [port.name for port in config.input]


def test_tensorrt_takes_the_plan_of_its_gpu(with_plans: Bundle, tmp_path: Path) -> None:
    repository = write_repository(with_plans.path, tmp_path / "models", Choice("tensorrt"), Batching(4))
    config = read_configs(repository)["pipeline"]
    assert config.backend == "tensorrt"
    assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
    assert dict(config.cc_model_filenames) == {"8.6": "one-step-sm86.plan", "8.9": "one-step-sm89.plan"}
    assert (repository / "pipeline" / "1" / config.cc_model_filenames["8.6"]).read_bytes() == b"86"


def test_a_plan_must_take_every_batch(with_plans: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="draws 1 to 4 pictures at once, not 1 to 8") as caught:
        write_repository(with_plans.path, tmp_path / "models", Choice("tensorrt"))
    assert caught.value.fix.startswith("use --batch 4")


def test_another_noise_recipe_is_refused(with_plans: Bundle, tmp_path: Path) -> None:
    write_manifest(with_plans.path, replace(with_plans.manifest, noise_recipe="other"))
    with pytest.raises(BundleError, match="noise recipe 'other'"):
        write_repository(with_plans.path, tmp_path / "models")


def test_a_link_is_replaced_and_its_target_is_left(tmp_path: Path) -> None:
    target, link = write_repository("emoji", tmp_path / "target"), tmp_path / "models"
    link.symlink_to(target)
    for _ in range(2):
        write_repository("emoji", link, overwrite=True)
    assert not link.is_symlink() and (target / "generate" / "config.pbtxt").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "target"]


@pytest.mark.parametrize(
    "choice, message",
    [
        (Choice("tensorrt"), "no TensorRT plan"),
        (Choice("openvino"), "no runtime 'openvino'"),
        (Choice("onnxruntime", prior="gaussian"), "without a prior"),
        (Choice(steps=3), "no graph of 3 steps"),
        (Choice(prior="other"), "no prior 'other'"),
    ],
)
def test_what_the_bundle_lacks(choice: Choice, message: str, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match=message):
        write_repository("emoji", tmp_path / "models", choice)
    assert not list(tmp_path.iterdir())


def test_a_damaged_bundle_leaves_nothing(with_plans: Bundle, tmp_path: Path) -> None:
    (with_plans.path / "weights-w16.bin").write_bytes(b"x")
    for runtime in ("python", "onnxruntime"):
        with pytest.raises(BundleError, match=r"weights-w16\.bin"):
            write_repository(with_plans.path, tmp_path / "models", Choice(runtime))
    assert [path.name for path in tmp_path.iterdir()] == ["planned"]


def test_only_a_repository_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "models"
    write_repository("emoji", output)
    with pytest.raises(OutputError, match="exists already"):
        write_repository("emoji", output)
    write_repository("emoji", output, Choice(steps=2), overwrite=True)
    assert read_configs(output)["pipeline"].parameters["steps"].string_value == "2"
    (output / "tokenizer" / "1" / "__pycache__").mkdir()
    (output / "tokenizer" / "1" / "__pycache__" / "model.cpython-312.pyc").touch()  # by the server
    write_repository("emoji", output, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not a model repository"):
        write_repository("emoji", tmp_path / "mine", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "models"]


@pytest.mark.parametrize("name", ["mine/config.pbtxt", "pipeline/2/model.py", "tokenizer/1/mine.py", "pahi.json"])
def test_models_of_others_stay(name: str, tmp_path: Path) -> None:
    output = write_repository("emoji", tmp_path / "models")
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="holds what is not of the model repository: ") as caught:
        write_repository("emoji", output, overwrite=True)
    assert name.startswith(caught.value.what.split(": ")[1].rstrip("/"))
    assert sorted(tmp_path.rglob("*")) == before and (output / name).read_text() == "mine"


@pytest.mark.parametrize(
    "listing", ["", "{", "[" * 9000, '{"files": ["../thesis.txt"]}', '{"files": ["/thesis.txt"]}', '{"files": 1}']
)
def test_a_listing_that_is_not_ours(listing: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    output = write_repository("emoji", tmp_path / "models")
    (output / "generate" / "pahi-rt.json").write_text(listing)
    with pytest.raises(OutputError, match="is not a model repository"):
        write_repository("emoji", output, overwrite=True)
    assert (tmp_path / "thesis.txt").is_file() and (output / "pipeline").is_dir()


def test_the_command(tmp_path: Path) -> None:
    words = ["embed", "triton", "emoji", "-o", str(tmp_path / "models"), "--batch", "2", "--prior", "hi"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'models'}\n"), result.stderr
    config = read_configs(tmp_path / "models")["pipeline"]
    assert (config.max_batch_size, config.parameters["prior"].string_value) == (2, "hi")
    result = CliRunner().invoke(app, [*words, "--force", "--json"])
    assert json.loads(result.stdout) == {"path": str(tmp_path / "models"), "models": MODELS}


def test_text_is_quoted() -> None:
    text = format_message({"name": 'a "quoted" \\ name'})
    assert text_format.Parse(text, model_config_pb2.ModelConfig()).name == 'a "quoted" \\ name'
