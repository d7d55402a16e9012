from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.scorers import SCORERS, load_scorer

LEARNT = sorted(kind for kind in SCORERS if kind != "redness")


@pytest.mark.parametrize("spec", ["", "beauty", "beauty:owner/name", "PickScore"])
def test_an_unknown_kind_is_refused_and_the_known_are_named(spec: str) -> None:
    with pytest.raises(PahiError, match="there is no scorer") as caught:
        load_scorer(spec)
    assert all(kind in caught.value.fix for kind in (*SCORERS, "emoji-a", "emoji-b"))


@pytest.mark.parametrize("kind", LEARNT)
def test_a_missing_folder_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="nothing at .*missing") as caught:
        load_scorer(f"{kind}:{tmp_path / 'missing'}")
    assert caught.value.fix


@pytest.mark.parametrize("kind", LEARNT)
def test_an_empty_folder_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match=str(tmp_path)) as caught:
        load_scorer(f"{kind}:{tmp_path}")
    assert caught.value.fix


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("kind", LEARNT)
def test_without_the_hub_the_published_model_is_named(kind: str) -> None:
    with pytest.raises(PahiError, match="cannot be had from the hub") as caught:
        load_scorer(kind)
    assert "network" in caught.value.fix
