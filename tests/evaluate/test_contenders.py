"""The rows of an exported bundle: drawn by its graph, from the same noise as its users get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.evaluate.contenders import bundle_field
from pahi_rt.evaluate.measurements import Settings
from pahi_rt.evaluate.table1 import evaluate
from pahi_rt.runtimes import load
from pahi_rt.scorers.redness import Redness


def test_rows_are_the_graphs_with_the_prior_on_and_off(contract_with_priors: Path) -> None:
    bundle = open_bundle(contract_with_priors)
    field = bundle_field(bundle, steps=2)
    prompts, shape = ["a red apple", "two cats"], field.latent_shape
    eps = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    encoded = field.encode(prompts)
    drawn = {row.name: row.draw(encoded, eps) for row in field.contenders}
    untrained = ["eps x 0.8", "low x1.5, rest x0.7", "high x1.5, rest x0.7"]
    assert list(drawn) == ["Gaussian", "PAHI", "HI", *untrained, "best of 4 (4x cost)"]
    for name, prior, noise, strength in (
        ("Gaussian", "pahi", eps, 0),
        ("Gaussian", "hi", eps, 0),
        ("PAHI", "pahi", eps, 1),
        ("HI", "hi", eps, 1),
        ("eps x 0.8", "hi", 0.8 * eps, 0),
    ):
        runtime = load(bundle, steps=2, prior=prior)
        expected = runtime.run(encoded, noise.numpy(), np.full(2, strength, np.float32))
        assert torch.equal(drawn[name], torch.from_numpy(expected).permute(0, 3, 1, 2) / 255)
    assert all((drawn[name] - drawn["Gaussian"]).abs().mean() > 0.01 for name in ("PAHI", "HI"))
    assert torch.equal(drawn["best of 4 (4x cost)"], drawn["Gaussian"])


def test_table_of_a_bundle(contract_with_priors: Path) -> None:
    field = bundle_field(open_bundle(contract_with_priors), steps=2)
    settings = Settings(seeds=2, diversity_seeds=3, diversity_prompts=2, batch=2)
    report = evaluate("b", field, {"test": ["a cat", "a dog", "a face"]}, {"redness": Redness()}, settings=settings)
    gaussian, prior = report.groups[0].rows[:2]
    assert (report.pictures, report.steps) == ("uint8", 2)
    assert gaussian.kl_nats == 0
    assert prior.kl_nats is None  # mu and sigma are inside the graph
    assert prior.scores["redness"].mean_score != gaussian.scores["redness"].mean_score
    assert all(row.diversity_ratio is not None for row in report.groups[0].rows)


def test_a_bundle_without_a_prior(contract: Path) -> None:
    with pytest.raises(PahiError, match="bundle 'contract' has no prior") as caught:
        bundle_field(open_bundle(contract), steps=2)
    assert "pahi-rt train" in caught.value.fix
