"""Pickles are read as tensors alone, and once; what is damaged or foreign is refused with a way out."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pahi_rt.errors import PahiError, ScorerError
from pahi_rt.scorers.checkpoints import convert_pickle, fill, read_weights, weights_file

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.float16)}


class Command:
    """Unpickling this runs a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("content", [WEIGHTS, {"state_dict": WEIGHTS}], ids=["plain", "wrapped"])
def test_a_pickle_is_converted_once_and_says_so(
    tmp_path: Path, content: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with caplog.at_level(logging.WARNING):
        assert equal(read_weights(path), WEIGHTS)
        copy = convert_pickle(path)
        assert equal(read_weights(path), WEIGHTS)
    assert len(caplog.records) == 1
    assert str(copy) in caplog.text
    assert equal(read_weights(copy), WEIGHTS)
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]


def test_a_changed_pickle_is_converted_again(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(WEIGHTS, path)
    read_weights(path)
    torch.save({"c": torch.zeros(1)}, path)
    assert list(read_weights(path)) == ["c"]


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "model.pt", tmp_path / "made by the pickle"
    torch.save({"a": Command(target)}, path)
    with pytest.raises(PahiError) as caught:
        read_weights(path)
    assert "safetensors" in caught.value.fix
    assert not target.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PahiError, match=name):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    "content", [torch.zeros(2), {}, {"a": 1.0}, [torch.zeros(2)], {"state_dict": [1]}, {1: torch.zeros(2)}]
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(PahiError) as caught:
        read_weights(tmp_path / "model.pt")
    assert caught.value.fix == "give the published checkpoint, which is one"


def test_safetensors_are_preferred_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match=r"there is no model.pt or other.pt"):
        weights_file(tmp_path, ("model.pt", "other.pt"))
    torch.save(WEIGHTS, tmp_path / "model.pt")
    assert weights_file(tmp_path, ("other.pt", "model.pt")) == tmp_path / "model.pt"
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    assert weights_file(tmp_path, ("other.pt", "model.pt")) == tmp_path / "model.safetensors"
    assert weights_file(tmp_path / "model.pt", ("other.pt",)) == tmp_path / "model.pt"


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"whole": whole, "part": whole[2:4], "turned": whole.view(2, 3).T}, tmp_path / "model.pt")
    weights = read_weights(tmp_path / "model.pt")
    assert weights["part"].tolist() == [2, 3] and weights["turned"].shape == (3, 2)


def test_weights_must_have_the_modules_names_and_shapes(tmp_path: Path) -> None:
    module, good = nn.Linear(3, 2), {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    fill(module, good, tmp_path, "mend it")
    assert module.weight.abs().sum() == 0
    for name, value in (("weight", torch.zeros(3, 2)), ("more", torch.zeros(1))):
        with pytest.raises(PahiError, match=f"{name} is .* is expected"):
            fill(module, {**good, name: value}, tmp_path, "mend it")
    for number in (math.nan, math.inf):
        with pytest.raises(ScorerError, match="bias in .* holds NaN or infinity"):
            fill(module, {**good, "bias": torch.full((2,), number)}, tmp_path, "mend it")
