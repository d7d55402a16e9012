import platform
from pathlib import Path

import pytest

from pahi_rt.machine import cpu_features, cpu_name


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
