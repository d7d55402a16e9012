"""Fixtures for all tests: the contract bundle, and a cache of their own so that no test touches the user's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: workers with two threads each are half as fast on two cores.
    os.environ["OMP_NUM_THREADS"] = "1"

# `make compat` has neither PyTorch nor onnx: these cannot even be imported there.
NEED_TORCH = [
    *("bench", "cpp", "emoji_model", "evaluate", "export", "models", "qualify", "scorers", "train"),
    *("cli/test_qualify.py", "cli/test_train.py", "test_quotes.py"),
]
NEED_ARROW = ["bulk", "cli/test_bulk.py"]
collect_ignore = [*([] if find_spec("torch") else NEED_TORCH), *([] if find_spec("pyarrow") else NEED_ARROW)]

# `make test` leaves these out, and `make test-more` has them: they export or train models, or start programs.
FULL = [
    "bench",
    "bulk/test_local.py",
    "bulk/test_on_ray.py",
    "bulk/test_s3.py",
    "cli/test_candidates.py",
    "cli/test_interrupts.py",
    "cli/test_qualify.py",
    "cli/test_train.py",
    "deploy",
    "emoji_model",
    "evaluate/test_entries.py",
    "examples",
    "export/test_export_bundle.py",
    "export/test_graph.py",
    "export/test_lora_export.py",
    "export/test_parity.py",
    "export/test_plans.py",
    "export/test_reference.py",
    "export/test_scorer.py",
    "export/test_validation.py",
    "export/test_weights.py",
    "models/test_agreement.py",
    "playground/test_commands.py",
    "qualify",
    "serve/test_command.py",
    "serve/test_conformance.py",
    "serve/test_equal.py",
    "serve/test_sharing.py",
    "test_equal_pictures.py",
    "train/test_kills.py",
    "train/test_memory.py",
    "train/test_pretraining.py",
    "train/test_processes.py",
    "train/test_training.py",
]


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    full = {tests / name for name in FULL}
    for item in items:
        if full & {item.path, *item.path.parents}:
            item.add_marker(pytest.mark.full)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's bundles are unpacked."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "pahi-rt" / "bundles"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def contract() -> Path:
    """The committed bundle: 24 tokens, latents 4x4x4, pictures 32x32; its two-step graph takes prior_strength."""
    return DATA / "contract"


@pytest.fixture(scope="session")
def contract_with_priors() -> Path:
    """The same with an HI and a PAHI, in graphs of one step and of two; at strength 0 all draw the same."""
    return DATA / "contract-priors"


@pytest.fixture
def folder(contract: Path, tmp_path: Path) -> Path:
    """A copy of the contract bundle that a test may damage."""
    return Path(shutil.copytree(contract, tmp_path / "copy"))


@pytest.fixture
def edit(folder: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """Change the copy's pahi.json with a function that is given its content."""

    def apply(change: Callable[[dict[str, Any]], object]) -> Path:
        path = folder / "pahi.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))
        return folder

    return apply
