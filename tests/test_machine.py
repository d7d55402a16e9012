from pathlib import Path

import pytest

from pahi_rt.machine import cpu_name


def test_the_model_name_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n"
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: text)
    assert cpu_name() == "Some CPU @ 3 GHz"


def test_a_processor_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "processor\t: 0\n")
    assert cpu_name() is None
