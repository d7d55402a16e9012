import torch
from torch.nn import functional as F

from emoji_model import decoder


def edge(column: int) -> torch.Tensor:
    return (torch.arange(32) >= column).float().expand(1, 3, 32, 32).contiguous()


def test_a_soft_edge_costs_more_than_a_moved_one() -> None:
    sharp, moved = edge(16), edge(17)
    soft = F.avg_pool2d(F.pad(sharp, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    assert decoder.edge_loss(sharp, sharp) == 0
    assert decoder.edge_loss(moved, sharp) < 0.5 * decoder.edge_loss(soft, sharp)


def test_the_adversary_judges_patches_and_learns_nothing_from_fooling() -> None:
    adversary = decoder.build_adversary()
    pictures = torch.rand(2, 3, 128, 128, requires_grad=True)
    verdicts = decoder.frozen(adversary, pictures)
    assert verdicts.shape == (2, 1, 16, 16)
    assert torch.allclose(verdicts, adversary(pictures))
    decoder.frozen(adversary, pictures).sum().backward()
    assert pictures.grad is not None
    assert all(p.grad is None for p in adversary.parameters())


def test_the_adversary_sees_edges() -> None:
    seen = decoder.WithEdges()(edge(16))
    assert seen.shape == (1, 6, 32, 32)
    assert seen[:, 3:, 1:-1].abs().sum() == 2 * 3 * 30
    assert torch.equal(seen[:, :3], edge(16) * 2 - 1)
