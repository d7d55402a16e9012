from __future__ import annotations

import numpy as np

from pahi_rt.runtimes import Runtime
from pahi_rt.runtimes.fake import FakeRuntime


def test_pictures_depend_on_their_own_inputs_only() -> None:
    runtime: Runtime = FakeRuntime(5, 7)
    input_ids = np.arange(6, dtype=np.int64).reshape(3, 2)
    noise = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)
    strength = np.array([0, 0.5, 1], np.float32)
    together = runtime.run(input_ids, noise, strength)
    assert together.shape == (3, 5, 7, 3)
    assert together.dtype == np.uint8
    assert len({picture.tobytes() for picture in together}) == 3
    np.testing.assert_array_equal(together[1:2], runtime.run(input_ids[1:2], noise[1:2], strength[1:2]))


def test_each_input_matters() -> None:
    runtime = FakeRuntime(2, 2)
    ids, noise, strength = np.ones((1, 3), np.int64), np.ones((1, 1, 2, 2), np.float32), np.ones(1, np.float32)
    pictures = [
        runtime.run(ids, noise, strength),
        runtime.run(ids + 1, noise, strength),
        runtime.run(ids, noise + 1, strength),
        runtime.run(ids, noise, strength * 0),
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_describe_has_the_keys_of_a_real_runtime() -> None:
    assert list(FakeRuntime(1, 1).describe()) == ["runtime", "version", "device", "precision", "threads"]
