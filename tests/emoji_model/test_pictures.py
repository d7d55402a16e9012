"""Sheets of pictures that people look at."""

import numpy as np
import torch

from emoji_model.pictures import GAP, LINES, captioned, to_image


def test_a_grid_is_filled_row_by_row_and_values_are_rounded() -> None:
    values = torch.tensor([0.0, 0.5, 1.0])
    sheet = np.asarray(to_image(values[:, None, None, None].expand(-1, 3, 2, 2), columns=2))
    assert sheet.shape == (4, 4, 3)
    assert sheet[::2, ::2, 0].tolist() == [[0, 128], [255, 255]]


def test_each_caption_stands_above_its_pictures() -> None:
    pictures = torch.tensor([0.2, 0.4, 0.6])[:, None, None, None, None].expand(-1, 2, 3, 8, 8)
    sheet = np.asarray(captioned(["a", "b", "c"], pictures, columns=2))
    assert sheet.shape == (2 * (LINES + 8), 2 * 16 + GAP, 3)
    tops = [sheet[top, left, 0] for top in (LINES, LINES + LINES + 8) for left in (0, 16 + GAP)]
    assert tops == [51, 102, 153, 255]
    assert (sheet[:LINES, :16] < 255).any(), "the caption"
