import torch

from pahi_rt.train.emoji import evaluate


def test_blur_lowers_sharpness() -> None:
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(picture, 3, stride=1, padding=1)
    assert (evaluate.sharpness(blurred) < 0.2 * evaluate.sharpness(picture)).all()


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
