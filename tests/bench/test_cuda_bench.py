"""The benchmark of GPUs, on the CPU with a tiny model: what is in its report, and that no failure ends it."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner, Result

from pahi_rt import PahiError
from pahi_rt.bench import cuda, machine, markdown, text
from pahi_rt.bench.cuda_contenders import (
    BUNDLES,
    EAGER,
    GRAPH,
    Built,
    Contender,
    Setup,
    contenders,
    in_batches,
    run_bundle,
    run_eager,
)
from pahi_rt.bench.reports.cuda import CudaReport
from pahi_rt.bench.reports.report import write
from pahi_rt.bench.work import count_flops
from pahi_rt.bundle import open_bundle
from pahi_rt.cli import app
from pahi_rt.manifest import GAUSSIAN

MEASURED = [EAGER, f"{EAGER}, PAHI", f"{EAGER}, two steps", f"{EAGER}, two steps, PAHI"]
MEASURED += ["eager fp16", "eager fp16 channels-last"]
COMPONENTS = [f"{EAGER}, {part} alone" for part in ("text encoder", "unet", "decoder")]
BATCHED = [in_batches(EAGER, batch) for batch in (4, 16)]
NEED_A_GPU = [GRAPH, "eager TF32", f"{GRAPH} channels-last", *BUNDLES]
NEED_A_GPU += ["torch.compile reduce-overhead", "AOTInductor", "torch.compile max-autotune"]
NEED_A_GPU += [
    in_batches(name, batch)
    for batch in (4, 16)
    for name in (f"{GRAPH} channels-last", *BUNDLES, "torch.compile reduce-overhead")
]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup("cpu", "tiny", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def report(setup: Setup) -> dict[str, Any]:
    return measure(setup, contenders(setup), 2)


def measure(setup: Setup, rows: list[Contender], pictures: int, budget_s: float = 600) -> dict[str, Any]:
    return cuda.measure(setup, rows, pictures, budget_s, lambda report: None).to_dict()


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", "cuda", *map(str, words)])


def by_name(report: dict[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in report["contenders"]}


def fail(setup: Setup) -> Built:
    raise RuntimeError("no kernel image is available")


def crash(setup: Setup) -> Built:
    os.write(2, b"libcuda: out of order\n")
    os.abort()


def hang(setup: Setup) -> Built:
    time.sleep(1000)
    raise AssertionError


def test_every_contender_is_measured_or_has_its_reason(report: dict[str, Any]) -> None:
    rows = by_name(report)
    assert {name for name, row in rows.items() if row["status"] == "measured"} == {*MEASURED, *COMPONENTS, *BATCHED}
    reasons = {name: row["reason"] for name, row in rows.items() if row["status"] == "skipped"}
    assert reasons == dict.fromkeys(NEED_A_GPU, "needs an NVIDIA GPU; this run is on the CPU")
    for name in MEASURED:
        assert rows[name]["ms"]["n"] == 2
        assert 0 < rows[name]["ms"]["p10"] <= rows[name]["ms"]["median"] <= rows[name]["ms"]["p90"]
        assert rows[name]["share_of_compute_limit_percent"] > 0


def test_components_add_up(report: dict[str, Any]) -> None:
    rows = by_name(report)
    total = sum(rows[name]["gflop"] for name in COMPONENTS)
    assert total == pytest.approx(rows[EAGER]["gflop"], abs=0.003)
    assert all(rows[name]["psnr_db"] is None for name in COMPONENTS)


def test_several_pictures_at_once(report: dict[str, Any]) -> None:
    rows = by_name(report)
    for name, batch in zip(BATCHED, (4, 16), strict=True):
        assert rows[name]["batch"] == batch and "batch" not in rows[EAGER]
        assert rows[name]["gflop"] == pytest.approx(batch * rows[EAGER]["gflop"], abs=0.001 * batch)
        assert rows[name]["largest_difference_levels"] == 0


@pytest.mark.parametrize(
    ("build", "words"),
    [(crash, "its process ended by SIGABRT: libcuda: out of order"), (hang, "it took more than 3 s")],
)
def test_a_crash_or_a_hang_is_a_row(setup: Setup, build: Callable[[Setup], Built], words: str) -> None:
    rows = [Contender("broken", build, EAGER), Contender("after it", fail)]
    report = cuda.measure(setup, rows, 1, 600, lambda report: None, limit_s=3 if build is hang else 100)
    broken, after = report.to_dict()["contenders"]
    assert broken == {"name": "broken", "status": "failed", "reason": words}
    assert after["reason"] == "RuntimeError: no kernel image is available" or build is hang
    assert all(row["name"] in "\n".join(text.cuda(report)) for row in (broken, after))
    assert "broken" in markdown.cuda(report)


def test_pictures_are_compared_where_they_should_be_the_same(report: dict[str, Any]) -> None:
    rows = by_name(report)
    assert rows[EAGER]["largest_difference_levels"] == 0
    for name in ("eager fp16", "eager fp16 channels-last"):
        assert 40 < rows[name]["psnr_db"] < 100
        assert rows[name]["largest_difference_levels"] > 0
    for name in MEASURED[1:4]:
        assert rows[name]["psnr_db"] is rows[name]["largest_difference_levels"] is None


def test_a_prior_is_timed_against_the_same_steps_without_it(report: dict[str, Any]) -> None:
    rows = by_name(report)
    for name, reference in ((f"{EAGER}, PAHI", EAGER), (f"{EAGER}, two steps, PAHI", f"{EAGER}, two steps")):
        assert rows[name]["reference"] == reference
        median = rows[name]["time_over_reference"]["median"]
        assert rows[name]["prior_overhead_percent"]["median"] == pytest.approx((median - 1) * 100, abs=0.1)
    assert "prior_overhead_percent" not in rows[f"{EAGER}, two steps"]


def test_a_prior_changes_the_picture(setup: Setup) -> None:
    plain, prior = setup.fuse(), setup.fuse(has_prior=True)
    pictures = [module(*setup.on_device(module)) for module in (plain, prior)]
    assert not torch.equal(*pictures)


def test_the_report_is_written_and_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup: Setup) -> None:
    output = tmp_path / "cuda.json"
    setup.generator  # noqa: B018  # written into the folder that the run is to use
    monkeypatch.setattr(cuda, "contenders", lambda setup, autotune: [Contender(EAGER, run_eager)])
    words = ("--device", "cpu", "--model", "tiny", "--pictures", 1, "--work", setup.work, "--output", output)
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [row["status"] for row in json.loads(output.read_text())["contenders"]] == ["measured"]
    assert any(line.startswith("timed: host to host") for line in lines)
    assert any(line.startswith(f"{EAGER} ") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["cuda.json"]


def test_a_failure_is_listed_and_the_others_go_on(setup: Setup) -> None:
    rows = [Contender(EAGER, run_eager), Contender("broken", fail), Contender("again", run_eager)]
    first, broken, again = measure(setup, rows, 1)["contenders"]
    assert broken == {"name": "broken", "status": "failed", "reason": "RuntimeError: no kernel image is available"}
    assert first["status"] == again["status"] == "measured"
    assert again["reference"] == EAGER
    assert again["largest_difference_levels"] == 0


def test_where_the_reference_failed_eager_is_the_next(setup: Setup) -> None:
    rows = [
        Contender(EAGER, run_eager),
        Contender("broken", fail),
        Contender("prior", run_eager, "broken", is_prior=True),
    ]
    row = measure(setup, rows, 1)["contenders"][-1]
    assert row["reference"] == EAGER
    assert "prior_overhead_percent" not in row


def test_a_model_that_cannot_be_loaded_fails_every_contender(tmp_path: Path) -> None:
    setup = Setup("cpu", str(tmp_path), tmp_path)
    rows = [Contender(EAGER, run_eager), Contender("again", run_eager)]
    done = measure(setup, rows, 1)["contenders"]
    assert [row["status"] for row in done] == ["failed", "failed"]
    assert all("ModelError" in row["reason"] or "BundleError" in row["reason"] for row in done)


def test_nothing_is_begun_once_the_budget_is_used_up(tmp_path: Path) -> None:
    setup = Setup("cpu", "tiny", tmp_path)
    done = by_name(measure(setup, contenders(setup), 1, 0))
    assert {row["status"] for row in done.values()} == {"skipped"}
    assert all(done[name]["reason"].startswith("the budget of 0 s was used up") for name in MEASURED)
    assert all("needs an NVIDIA GPU" in done[name]["reason"] for name in NEED_A_GPU)
    assert not list(tmp_path.iterdir())


def test_the_report_is_saved_after_every_contender(setup: Setup, tmp_path: Path) -> None:
    path, seen = tmp_path / "report.json", []

    def save(report: CudaReport) -> None:
        write(report, path)
        seen.append(len(json.loads(path.read_text())["contenders"]))

    cuda.measure(setup, [Contender("broken", fail), Contender("more", fail)], 1, 600, save)
    assert seen == [0, 1, 2]


def test_difference() -> None:
    black, grey = torch.zeros(1, 2, 2, 3, dtype=torch.uint8), torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    assert cuda.difference([black], [black]).to_dict() == {"psnr_db": None, "largest_difference_levels": 0}
    assert cuda.difference([black], [grey]).to_dict() == {"psnr_db": 0.0, "largest_difference_levels": 255}


def test_flops_of_attention_count() -> None:
    class Attention(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    # Two products of 16 x 8 and 8 x 16 in each of three heads.
    assert count_flops(Attention(), [torch.randn(1, 3, 16, 8)]) == 2 * 3 * (2 * 16 * 8 * 16)


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("has_prior", [False, True])
def test_nothing_in_the_module_waits_for_the_device(setup: Setup, has_prior: bool) -> None:
    fused = setup.fuse(steps=2, is_half=True, has_prior=has_prior)
    arguments = setup.on_device(fused)
    with Recorder() as seen, torch.no_grad():
        fused(*arguments)
    assert "convolution" in seen.called
    # A capture forbids reading a number back, and copying one there (torch.tensor(...) lifts what it made).
    assert not seen.called & {"_local_scalar_dense", "lift_fresh", "nonzero", "is_nonzero", "equal"}


def test_a_bundle_draws(setup: Setup, contract: Path) -> None:
    small = Setup("cpu", "tiny", setup.work, contract)
    with pytest.raises(PahiError) as caught:
        run_bundle(small, runtime="onnxruntime")
    assert caught.value.fix == "give --bundle an export of a model of the same architecture"
    ids, noise = setup.inputs[0]
    # The bundle's vocabulary is smaller than the model's.
    small.inputs = [(ids.clamp(max=500), noise[:, :, :4, :4].contiguous())]
    built = run_bundle(small, runtime="onnxruntime")
    picture = built.draw(*small.inputs[0])
    assert picture.shape == (1, 32, 32, 3) and picture.dtype == torch.uint8
    assert not built.is_same_picture
    assert built.precision == open_bundle(contract).graph(1, GAUSSIAN, None).precision and built.gflop() > 0


@pytest.mark.parametrize("words", [["--model", "/nowhere"], ["--output", "/nowhere/report.json"]])
def test_what_cannot_work_is_told_of_first(words: list[str]) -> None:
    result = run("--device", "cpu", "--model", "tiny", *words)
    assert result.exit_code == 1
    error = result.stderr
    assert error.startswith("error: there is no folder /nowhere") and "\nfix: " in error


def test_without_a_gpu_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run()
    assert result.exit_code == 1
    assert "--device cpu --model tiny" in result.stderr


def test_what_is_not_known_of_a_gpu_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", "")
    known = machine.describe_gpu()
    assert known.torch == torch.__version__
    assert known.gpu is None and known.gpu_driver is None and known.gpu_memory_gib is None
