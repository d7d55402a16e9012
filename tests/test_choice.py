"""What is chosen once, before a runtime is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt import Pipeline
from pahi_rt.bundle import open_bundle
from pahi_rt.choice import choose
from pahi_rt.errors import BundleError


def test_the_defaults_are_one_step_with_the_best_prior_in_the_first_precision(contract_with_priors: Path) -> None:
    bundle = open_bundle(contract_with_priors)
    chosen = choose(bundle)
    assert (chosen.prior, chosen.runtime, chosen.threads, chosen.why) == ("pahi", "auto", None, None)
    assert chosen.graph == bundle.graph(1, "pahi", bundle.precisions[0])


def test_a_pipeline_draws_with_what_was_chosen(contract_with_priors: Path) -> None:
    bundle = open_bundle(contract_with_priors)
    pipeline = Pipeline.open(choose(bundle, steps=2, prior="hi", threads=1, runtime="onnxruntime"))
    assert (pipeline.bundle, pipeline.steps, pipeline.prior) == (bundle, 2, "hi")
    assert pipeline.runtime.describe()["threads"] == 1


def test_what_a_bundle_lacks_is_not_chosen(contract: Path) -> None:
    with pytest.raises(BundleError) as caught:
        choose(open_bundle(contract), prior="hi")
    assert caught.value.fix == "use --prior gaussian"
    with pytest.raises(BundleError) as caught:
        choose(open_bundle(contract), steps=3)
    assert caught.value.fix == "use --steps 1 or 2"
