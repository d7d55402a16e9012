"""The gate lets good graphs pass, and no bad one."""

from __future__ import annotations

import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from pahi_rt.bundle import Bundle
from pahi_rt.errors import ParityError
from pahi_rt.export.drawing import Pictures, draw_batch, draw_graph, draw_reference, mean_kl
from pahi_rt.export.inputs import Inputs, with_strengths
from pahi_rt.export.parity import (
    ANY_BATCH,
    PERFECT_DB,
    SAME_ARITHMETIC,
    Reference,
    Tolerance,
    check_graph,
    check_sane,
    compare,
)
from pahi_rt.export.rounding import round_matrices, to_float16
from pahi_rt.models.generators import Generator
from pahi_rt.models.priors import HI, load_prior


def pictures(values: np.ndarray) -> Pictures:
    return Pictures(values, np.round(values * 255).astype(np.uint8))


GREY = pictures(np.full((2, 8, 8, 3), 0.5))


def pytorch(drawn: Pictures) -> list[Reference]:
    return [Reference("PyTorch fp32", drawn, SAME_ARITHMETIC)]


def grey(tolerance: Tolerance) -> Reference:
    return Reference("grey", GREY, tolerance)


def test_inputs_are_four_prompts_with_two_noises_each(inputs: Inputs) -> None:
    assert inputs["input_ids"].shape == (8, 24)
    assert len(np.unique(inputs["input_ids"], axis=0)) == 4
    assert len(np.unique(inputs["noise"].reshape(8, -1), axis=0)) == 8


def test_strengths_are_mixed_over_the_batch(inputs: Inputs) -> None:
    strengths = with_strengths(inputs)["prior_strength"]
    assert strengths.dtype == np.float32
    assert strengths.tolist() == [1, 0.5, 0, 1, 0.5, 0, 1, 0.5]


def test_graphs_with_priors_pass_the_same_gate(with_priors: Bundle) -> None:
    against_diffusers, *rows = with_priors.manifest.parity
    assert against_diffusers.graph == "PyTorch fp32, 1 step"
    assert [row.graph for row in rows] == ["one-step-hi-w16.onnx"] * 3 + ["one-step-pahi-w16.onnx"] * 3
    for row in rows[::3]:
        assert row.against == "PyTorch fp32, matrices rounded"
        assert row.max_error < 1e-4
    assert [row.against for row in rows[2::3]] == ["itself, batch 3 and batch 1"] * 2


def test_another_prior_is_caught(
    with_priors: Bundle, generator: Generator, inputs: Inputs, priors: dict[str, Path]
) -> None:
    round_matrices(generator, to_float16)
    hi, mixed = load_prior(priors["hi"]), with_strengths(inputs)
    path = with_priors.path / "one-step-hi-w16.onnx"
    check_graph(path, mixed, pytorch(draw_reference(generator, mixed, 1, hi)))
    with torch.no_grad():
        hi.get_parameter("mu")[:8] += 0.5
    with pytest.raises(ParityError, match="is not PyTorch fp32"):
        check_graph(path, mixed, pytorch(draw_reference(generator, mixed, 1, hi)))


def test_a_strength_that_is_not_applied_is_caught(
    with_priors: Bundle, generator: Generator, inputs: Inputs, priors: dict[str, Path]
) -> None:
    round_matrices(generator, to_float16)
    mixed = with_strengths(inputs)
    full = {**mixed, "prior_strength": np.ones(8, np.float32)}
    with pytest.raises(ParityError, match="is not PyTorch fp32"):
        reference = draw_reference(generator, full, 1, load_prior(priors["hi"]))
        check_graph(with_priors.path / "one-step-hi-w16.onnx", mixed, pytorch(reference))


def test_kl_is_the_mean_over_the_prompts(generator: Generator, inputs: Inputs) -> None:
    prior = HI((4, 8, 8))
    assert mean_kl(generator, inputs, prior) == 0
    torch.nn.init.constant_(prior.mu, 0.1)
    assert mean_kl(generator, inputs, prior) == pytest.approx(256 * 0.01 / 2)


def test_manifest_holds_a_row_for_each_comparison(bundle: Bundle) -> None:
    rows = bundle.manifest.parity[2:]
    pytorch = ["PyTorch fp32, matrices rounded", "PyTorch fp32, weights as trained"]
    against = [*pytorch, "itself, batch 3 and batch 1"]
    assert [(row.graph, row.against) for row in rows] == [
        (graph, other) for graph in ("one-step-w16.onnx", "two-step-w16.onnx") for other in against
    ]
    for row, steps in zip(bundle.manifest.parity, ("1 step", "2 steps"), strict=False):
        assert row.graph == f"PyTorch fp32, {steps}"
        assert row.against == f"diffusers {diffusers.__version__} StableDiffusionPipeline, fp32; no safety checker"
        assert row.max_error < 1e-4
    for same, trained, batch in (rows[:3], rows[3:]):
        assert same.max_error < 1e-4
        assert same.levels_within_one >= 0.999
        assert 40 <= trained.psnr_db < same.psnr_db
        assert batch.levels_within_one == 1


def test_values_are_those_before_rounding(bundle: Bundle, inputs: Inputs) -> None:
    drawn = draw_graph(bundle.path / "one-step-w16.onnx", inputs)
    assert np.array_equal(np.round(drawn.values * 255).astype(np.uint8), drawn.levels)
    assert np.abs(drawn.values * 255 - drawn.levels).max() > 0.4
    assert np.abs(drawn.levels.astype(int) - draw_batch(bundle.path / "one-step-w16.onnx", inputs)).max() <= 1


def sabotage(bundle: Bundle, folder: Path, value: float) -> Path:
    """A copy of the bundle in which the largest tensor of weights-w16.bin is overwritten; its one-step graph."""
    shutil.copytree(bundle.path, folder)
    content = bytearray((folder / "weights-w16.bin").read_bytes())
    content[: len(content) // 2] = np.full(len(content) // 4, value, "<f2").tobytes()
    (folder / "weights-w16.bin").write_bytes(content)
    return folder / "one-step-w16.onnx"


@pytest.mark.parametrize(
    ("value", "message"), [(0.01, "is not PyTorch fp32"), (np.nan, "draws .*: the weight .* holds NaN")]
)
def test_damaged_weights_are_caught(
    bundle: Bundle, generator: Generator, inputs: Inputs, tmp_path: Path, value: float, message: str
) -> None:
    graph = sabotage(bundle, tmp_path / "damaged", value)
    round_matrices(generator, to_float16)
    with pytest.raises(ParityError, match=message):
        check_graph(graph, inputs, pytorch(draw_reference(generator, inputs, 1)))


def test_another_number_of_steps_is_caught(bundle: Bundle, generator: Generator, inputs: Inputs) -> None:
    with pytest.raises(ParityError, match="one-step-w16.onnx is not PyTorch fp32"):
        check_graph(bundle.path / "one-step-w16.onnx", inputs, pytorch(draw_reference(generator, inputs, 2)))


def test_a_generator_that_draws_nan_is_named() -> None:
    broken = Pictures(np.full((1, 2, 2, 3), np.nan), np.ones((1, 2, 2, 3), np.uint8))
    with pytest.raises(ParityError, match="PyTorch draws NaN"):
        check_sane("PyTorch", broken)


def test_one_black_picture_among_others_is_caught() -> None:
    values = GREY.values.copy()
    values[1] = 0
    check_sane("x.onnx", GREY)
    with pytest.raises(ParityError, match="x.onnx draws a black picture"):
        check_sane("x.onnx", pictures(values))


def test_equal_pictures_have_a_finite_psnr() -> None:
    row = compare("x.onnx", GREY, grey(SAME_ARITHMETIC))
    assert (row.max_error, row.psnr_db, row.levels_within_one) == (0, PERFECT_DB, 1)


def test_psnr_is_that_of_the_unit_range() -> None:
    row = compare("x.onnx", pictures(GREY.values + 0.01), grey(Tolerance(psnr_db=39.9)))
    assert row.psnr_db == pytest.approx(40)
    assert row.tolerance == "PSNR >= 39.9 dB"
    with pytest.raises(ParityError, match="PSNR 40.0 dB"):
        compare("x.onnx", pictures(GREY.values + 0.01), grey(Tolerance(psnr_db=40.1)))


def test_one_value_beyond_the_tolerance_is_enough() -> None:
    values = GREY.values.copy()
    values[0, 0, 0, 0] += 0.0021
    with pytest.raises(ParityError, match="max error 0.0021"):
        compare("x.onnx", pictures(values), grey(SAME_ARITHMETIC))


def test_what_is_not_a_number_is_not_near() -> None:
    with np.errstate(invalid="ignore"):
        broken = Pictures(np.full_like(GREY.values, np.nan), GREY.levels)
    assert (GREY.are_numbers, broken.are_numbers) == (True, False)
    with pytest.raises(ParityError, match="max error nan"):
        compare("x.onnx", broken, grey(SAME_ARITHMETIC))


def test_a_batch_may_change_one_level_and_no_more() -> None:
    compare("x.onnx", pictures(GREY.values + 1 / 255), grey(ANY_BATCH))
    with pytest.raises(ParityError, match="0.00% within one level"):
        compare("x.onnx", pictures(GREY.values + 2 / 255), grey(ANY_BATCH))
