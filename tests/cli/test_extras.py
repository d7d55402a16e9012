from __future__ import annotations

import importlib

import pytest

from pahi_rt.cli.extras import needs
from pahi_rt.errors import PahiError


def test_a_missing_package_names_the_extra() -> None:
    message = "this needs the package nothing_here, which is not installed"
    with pytest.raises(PahiError, match=message) as caught, needs("export"):
        importlib.import_module("nothing_here.at_all")
    assert caught.value.fix == "pip install 'pahi-rt[export]'"


def test_our_own_missing_module_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError), needs("export"):
        importlib.import_module("pahi_rt.nothing")
