import torch

from emoji_model import evaluate


def test_residual_is_what_the_predictors_leave() -> None:
    randoms = torch.Generator().manual_seed(0)
    predictor = torch.randn(200, 1, generator=randoms)
    noise = torch.randn(200, 50, generator=randoms)
    samples = 3 * predictor + noise
    left = evaluate._residual(samples, predictor) / 50
    assert abs(left - 1) < 0.05
    assert evaluate._residual(samples, torch.randn(200, 1, generator=randoms)) / 50 > 8


def test_dependent_predictors_are_counted_once() -> None:
    samples = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
    one_hot = torch.nn.functional.one_hot(torch.arange(64) % 3, 3).float()
    assert abs(evaluate._residual(samples, one_hot) - evaluate._residual(samples, one_hot[:, :2])) < 1e-3


def test_held_out_noises_are_reproducible() -> None:
    assert torch.equal(evaluate.noises(2), evaluate.noises(3)[:2])


def test_recognition_tells_concept_and_style_apart() -> None:
    pixels = torch.rand(4 * 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gallery = evaluate.Gallery(styles=3, pixels=pixels, latents=pixels[:, :, ::2, ::2])
    # Asked for style 1 of concepts 0, 1 and 2: drawn right, in style 2, and as concept 3.
    drawn = pixels[[0 * 3 + 1, 1 * 3 + 2, 3 * 3 + 1]]
    row = gallery.recognise(drawn[:, :, ::2, ::2], drawn, torch.tensor([0, 1, 2]), style=1)
    assert row["concept_latent"].tolist() == row["concept_pixel"].tolist() == [1, 1, 0]
    assert row["style_latent"].tolist() == row["style_pixel"].tolist() == [1, 0, 1]
    assert row["psnr_db"][0] > 90 > 20 > row["psnr_db"][1]
    summary = evaluate._summary([row, row])
    assert summary["concept_latent"] == summary["style_pixel"] == 0.6667
    assert "real_sharpness" not in summary and 0.5 < summary["sharpness"] < 2
