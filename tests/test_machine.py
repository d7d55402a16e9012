import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.machine import check_threads, cpu_features, cpu_name, module_version


def test_the_model_name_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n"
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: text)
    assert cpu_name() == "Some CPU @ 3 GHz"


def test_a_processor_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "processor\t: 0\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu_name() is None
    assert cpu_features() == []


def test_features_are_those_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "flags\t\t: fpu avx2 avx512_vnni avx2x\n")
    assert cpu_features() == ["avx2", "avx512_vnni"]


def test_versions_come_from_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("installed_under_another_name")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert module_version(module.__name__) is None
    module.__version__ = "1.2.3"  # type: ignore[attr-defined]
    assert module_version(module.__name__) == "1.2.3"


def test_a_module_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert module_version("onnxruntime") is None


@pytest.mark.parametrize("threads", [0, -1, 2000, 2**40])
def test_a_number_of_threads_that_makes_no_sense(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    check_threads(1)
    check_threads(64)
    with pytest.raises(RuntimeUnavailable, match=f"cannot run on {threads} threads") as caught:
        check_threads(threads)
    assert "--threads 1 to 64" in caught.value.fix
