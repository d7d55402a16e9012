from pathlib import Path

import torch
from transformers import CLIPTokenizer

from emoji_model import text, tokenizer
from emoji_model.captions import Captions
from emoji_model.sources import Concept
from emoji_model.trainer import Schedule, Worker


def test_cells_are_the_grid_row_by_row() -> None:
    latents = torch.arange(16).view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(2, 3, 4, 16, 16)
    cells = text.cells(latents)
    assert cells.shape == (2, 16, 3 * 4 * 4 * 4)
    assert torch.equal(cells, torch.arange(16)[None, :, None].expand_as(cells))


def test_the_encoder_learns_to_sketch_concepts(concepts: list[Concept], tmp_path: Path) -> None:
    captions = Captions(concepts)
    words = tokenizer.train(captions.words() * 5, tmp_path / "tokenizer")
    latents = torch.randn(len(concepts), 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    schedule = Schedule(steps=60, batch=16, learning_rate=2e-3, warmup=5, save_every=60, sample_every=10**9)
    torch.manual_seed(0)
    text.train(Worker(), tmp_path, latents, captions, words, schedule)
    start, end = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["modules"], text.load(tmp_path, words)
    sketch = text.Sketch(192, 192)
    sketch.load_state_dict({k.removeprefix("sketch."): v for k, v in start.items() if k.startswith("sketch.")})
    with torch.no_grad():
        drawn = sketch(end(text.tokens(words, [concept.label for concept in concepts])).last_hidden_state)
    nearest = torch.cdist(drawn.flatten(1), text.cells(latents).flatten(1)).argmin(1)
    assert nearest.tolist() == list(range(len(concepts)))


def test_an_encoder_is_rebuilt_as_wide_and_as_deep_as_its_weights(words: CLIPTokenizer) -> None:
    torch.manual_seed(0)
    wide, ids = text.build(words, 1000, 5).eval(), text.tokens(words, ["cat face", "hot"])
    again = text.rebuild(wide.state_dict(), words).eval()
    assert torch.equal(again(ids).last_hidden_state, wide(ids).last_hidden_state)
