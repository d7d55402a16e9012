from __future__ import annotations

import numpy as np
from safetensors.numpy import save

from pahi_rt.models.safetensors_file import list_places


def test_places_hold_the_tensors_and_follow_each_other() -> None:
    tensors: dict[str, np.ndarray] = {
        "b": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a": np.ones(5),
        "none": np.zeros((0, 4), np.float32),
    }
    content = save(tensors, metadata={"format": "pt"})
    places = list_places(content)
    found = {place.shape: content[place.start : place.end] for place in places}
    assert found == {array.shape: array.tobytes() for array in tensors.values()}
    assert [place.start for place in places[1:]] == [place.end for place in places[:-1]]
    assert places[-1].end == len(content)
