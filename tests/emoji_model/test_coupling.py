"""The noise decides style, tint and meaning; training noise stays standard Gaussian."""

import torch

from emoji_model import coupling

SHAPE = (coupling.CHANNELS, coupling.HEIGHT, coupling.WIDTH)


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_functionals_are_orthonormal() -> None:
    rows = coupling.functionals()
    assert torch.allclose(rows @ rows.T, torch.eye(coupling.COUNT), atol=1e-6)


def test_write_sets_the_functionals_and_keeps_the_rest() -> None:
    before, wanted = noise(5), torch.randn(5, coupling.COUNT)
    after = coupling.write(before, wanted)
    assert torch.allclose(coupling.read(after), wanted, atol=1e-5)
    rows = coupling.functionals()
    project = torch.eye(rows.shape[1]) - rows.T @ rows
    assert torch.allclose(after.flatten(1) @ project, before.flatten(1) @ project, atol=1e-4)


def test_asking_for_evenly_drawn_styles_keeps_the_noise_gaussian() -> None:
    values = torch.randn(30_000, coupling.COUNT, generator=torch.Generator().manual_seed(1))
    styles = torch.arange(30_000) % 3
    coupled = coupling.with_style(values, styles)
    assert torch.equal(coupling.style_of(coupled), styles)
    assert coupled.mean(0).abs().max() < 0.03
    assert (torch.cov(coupled.T) - torch.eye(coupling.COUNT)).abs().max() < 0.04


def test_backgrounds_are_pastel_and_near_white_in_the_middle() -> None:
    values = 3 * torch.randn(1000, coupling.COUNT, generator=torch.Generator().manual_seed(2))
    colours = coupling.background(values)
    assert colours.min() > 0.55
    assert colours.max() <= 0.97 + 1e-6
    assert torch.allclose(coupling.background(torch.zeros(1, coupling.COUNT)), torch.full((1, 3), 0.97))


def test_smooth_pictures_hardly_move_the_functionals() -> None:
    """The second step reads them through a drawing; a plain mean would be drowned by it."""
    coarse = torch.randn(50, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, size=16, mode="bicubic")
    assert coupling.read(smooth).std() < 0.2
    assert smooth.sum((2, 3)).std() / 16 > 2
