import torch
from transformers import CLIPTokenizer

from emoji_model import text


def test_an_encoder_is_rebuilt_as_wide_and_as_deep_as_its_weights(words: CLIPTokenizer) -> None:
    torch.manual_seed(0)
    wide, ids = text.build(words, 1000, 5).eval(), text.tokens(words, ["cat face", "hot"])
    again = text.rebuild(wide.state_dict(), words).eval()
    assert torch.equal(again(ids).last_hidden_state, wide(ids).last_hidden_state)
