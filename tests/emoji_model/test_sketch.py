"""The sketcher packs pictures into tokens; collages teach the UNet to unpack what it cannot recognise."""

import torch

from emoji_model import coupling, sketch
from emoji_model.sampler import Sampler
from emoji_model.text import CELLS, MARKS, WIDTH
from emoji_model.tokenizer import POSITIONS


def test_a_token_holds_its_cell_and_says_which_one_it_is() -> None:
    torch.manual_seed(0)
    sketcher, rng = sketch.Sketcher(), torch.Generator().manual_seed(0)
    content = torch.randn(2, 13, 16, 16, generator=rng)
    text = sketch.embed(sketcher, content, POSITIONS, rng)
    assert text.shape == (2, POSITIONS, WIDTH)
    assert (text[:, 1:-CELLS, -MARKS:] == 0).all()
    marks = torch.cat([text[:, :1], text[:, -CELLS:]], 1)[..., -MARKS:]
    assert torch.equal(marks[1], MARKS**0.5 * torch.eye(MARKS))
    changed = content.clone()
    changed[:, :, 4:8, 8:12] += 1  # cell 6, and the rim that its neighbours see
    moved = (sketcher(changed) - sketcher(content)).abs().amax((0, 2)) > 1e-6
    assert moved[6] and not moved[[0, 4, 8, 12, 13, 14, 15]].any()


def test_a_collage_has_the_cells_of_the_batch_in_other_places(sampler: Sampler) -> None:
    batch = sampler.draw(8, torch.Generator().manual_seed(0))
    mixed = sketch.collage(batch, torch.Generator().manual_seed(1))

    def cells(content: torch.Tensor) -> list[bytes]:
        """Every cell with all of its channels."""
        parts = content.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
        return sorted(cell.numpy().tobytes() for cell in parts.flatten(0, 2).contiguous())

    assert cells(mixed.content) == cells(batch.content)
    assert not torch.equal(mixed.content, batch.content)
    values = coupling.read(mixed.noise)
    assert values[:, coupling.TINT].abs().max() < 1e-4
    assert torch.equal(coupling.style_of(values), coupling.style_of(coupling.read(batch.noise)))


def test_the_target_of_a_collage_is_what_its_content_shows_in_the_style_of_the_noise(sampler: Sampler) -> None:
    batch = sampler.draw(8, torch.Generator().manual_seed(0))
    mixed = sketch.collage(batch, torch.Generator().manual_seed(1))
    style = coupling.style_of(coupling.read(mixed.noise))
    shown = mixed.content[:, :-1].unflatten(1, (3, 4))[torch.arange(8), style]
    # Apart from what would be read as noise, a small part of it.
    assert coupling.read(mixed.latents).abs().max() < 1e-3
    assert torch.allclose(mixed.latents, coupling.write(shown, torch.zeros(8, coupling.COUNT)), atol=1e-3)
