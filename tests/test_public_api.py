from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import pahi_rt


def test_all_is_sorted_and_complete() -> None:
    assert pahi_rt.__all__ == sorted(pahi_rt.__all__)
    assert set(pahi_rt.__all__) <= set(dir(pahi_rt))
    lazy = {name for names in pahi_rt.HOMES.values() for name in names}
    assert lazy | {"__version__"} == set(pahi_rt.__all__)


@pytest.mark.parametrize("name", pahi_rt.__all__)
def test_every_name_can_be_imported_and_is_documented(name: str) -> None:
    value = getattr(pahi_rt, name)
    if name != "__version__":
        assert inspect.getdoc(value), name


@pytest.mark.parametrize(("module", "names"), pahi_rt.HOMES.items())
def test_a_name_is_the_one_of_its_module(module: str, names: tuple[str, ...]) -> None:
    home = importlib.import_module(f"pahi_rt.{module}")
    assert all(getattr(pahi_rt, name) is getattr(home, name) for name in names)


def test_every_error_is_public() -> None:
    errors = importlib.import_module("pahi_rt.errors")
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert tree <= set(pahi_rt.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        pahi_rt.Pipelin  # noqa: B018


def test_version_and_type_marker() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", pahi_rt.__version__)
    assert (Path(pahi_rt.__file__).parent / "py.typed").is_file()
