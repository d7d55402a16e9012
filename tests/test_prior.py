"""Which prior, and how much of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import BundleError, RequestError
from pahi_rt.prior import choose_prior, choose_strength


def test_the_best_prior_is_the_default(contract: Path, contract_with_priors: Path) -> None:
    assert choose_prior(open_bundle(contract_with_priors)) == "pahi"
    assert choose_prior(open_bundle(contract)) == "gaussian"


@pytest.mark.parametrize("prior", ["hi", "pahi", "gaussian"])
def test_a_prior_that_is_asked_for(contract_with_priors: Path, prior: str) -> None:
    assert choose_prior(open_bundle(contract_with_priors), prior) == prior


def test_a_prior_that_is_not_there(contract: Path) -> None:
    assert choose_prior(open_bundle(contract), "gaussian") == "gaussian"
    with pytest.raises(BundleError, match="no prior 'pahi'"):
        choose_prior(open_bundle(contract), "pahi")


def test_strength_is_full_unless_it_is_given() -> None:
    assert [choose_strength(prior) for prior in ("hi", "pahi", "gaussian")] == [1, 1, 0]


@pytest.mark.parametrize("strength", [0, 1, 0.5, np.float32(0.5), np.float64(1), np.int64(0)])
def test_strengths_from_none_to_full(strength: float) -> None:
    assert choose_strength("hi", strength) == strength


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 1.01, -0.01, "1", True, [0.5]])
def test_what_is_no_strength(strength: object) -> None:
    for prior in ("hi", "gaussian"):
        with pytest.raises(RequestError) as caught:
            choose_strength(prior, strength)  # type: ignore[arg-type]
        assert caught.value.fix == "use a number from 0 to 1"


def test_a_strength_without_a_prior() -> None:
    assert choose_strength("gaussian", 0) == 0
    with pytest.raises(RequestError, match=r"a strength of 0\.5 needs a prior"):
        choose_strength("gaussian", 0.5)
