from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pahi_rt import noise
from pahi_rt.errors import NoiseError

RECORDED = json.loads((Path(__file__).parent / "data" / "noise.json").read_text())

# Random123's kat_vectors: philox4x32 10.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: str, key: str, expected: str) -> None:
    found = noise.philox4x32_10(words(counter)[None], words(key))
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, words(expected)[None])


def test_philox_treats_every_counter_alone() -> None:
    counters = np.stack([words(counter) for counter, _, _ in KNOWN_ANSWERS])
    key = words("a4093822 299f31d0")
    alone = np.concatenate([noise.philox4x32_10(counter[None], key) for counter in counters])
    np.testing.assert_array_equal(noise.philox4x32_10(counters, key), alone)


@pytest.mark.parametrize("draw", RECORDED["draws"], ids=lambda draw: f"{draw['seed']}-{draw['shape']}")
def test_recorded_numbers(draw: dict[str, Any]) -> None:
    expected = words(draw["float32_bits"]).view(np.float32).reshape(draw["shape"])
    found = noise.draw_noise([int(draw["seed"])], tuple(draw["shape"]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], expected)


def test_recorded_numbers_are_of_this_recipe() -> None:
    assert RECORDED["recipe"] == noise.NOISE_RECIPE
    assert {"0", "7", str(2**32), str(2**64 - 1)} <= {draw["seed"] for draw in RECORDED["draws"]}


def test_a_row_depends_on_its_own_seed_only() -> None:
    together = noise.draw_noise([3, 9, 3, 2**63], (4, 5, 3))
    assert together.shape == (4, 4, 5, 3)
    for row, seed in zip(together, [3, 9, 3, 2**63], strict=True):
        np.testing.assert_array_equal(row, noise.draw_noise([seed], (4, 5, 3))[0])
    assert not np.array_equal(together[0], together[1])


def test_both_halves_of_the_seed_count() -> None:
    low, high = noise.draw_noise([5, 5 + 2**32], (4, 4, 4))
    assert not np.array_equal(low, high)


def test_it_is_standard_gaussian() -> None:
    values = noise.draw_noise(range(64), (4, 32, 32)).astype(np.float64)
    n = values.size
    assert abs(values.mean()) < 4 / n**0.5
    assert abs(values.std() - 1) < 4 / (2 * n) ** 0.5
    assert abs((values**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert abs(np.corrcoef(values[:, :, :, :-1].ravel(), values[:, :, :, 1:].ravel())[0, 1]) < 5 / n**0.5


@pytest.mark.parametrize("seed", [-1, 2**64, True, 1.0, "1", None, float("nan"), np.int64(-1)])
def test_bad_seed(seed: object) -> None:
    with pytest.raises(NoiseError) as caught:
        noise.draw_noise([seed], (4, 4, 4))  # type: ignore[list-item]
    assert "18446744073709551615" in caught.value.fix


def test_numpy_integers_are_seeds() -> None:
    np.testing.assert_array_equal(
        noise.draw_noise([np.uint64(2**64 - 1)], (1, 2, 2)),  # type: ignore[list-item]
        noise.draw_noise([2**64 - 1], (1, 2, 2)),
    )


@pytest.mark.parametrize("shape", [(4, 4), (4, 0, 4), (4, -1, 4), ()])
def test_bad_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(NoiseError) as caught:
        noise.draw_noise([1], shape)  # type: ignore[arg-type]
    assert caught.value.fix == "use three positive sizes: channels, height, width"


def test_no_seeds_no_noise() -> None:
    assert noise.draw_noise([], (4, 2, 3)).shape == (0, 4, 2, 3)


def test_request_seeds_count_up() -> None:
    assert list(noise.request_seeds(7, 3)) == [7, 8, 9]
    assert list(noise.request_seeds(np.int64(7), np.int64(2))) == [7, 8]  # type: ignore[arg-type]
    assert list(noise.request_seeds(2**64 - 2, 2)) == [2**64 - 2, 2**64 - 1]


@pytest.mark.parametrize(("seed", "count"), [(2**64 - 1, 2), (0, 2**64 + 1), (2**64, 1), (-1, 2)])
def test_seeds_never_wrap_around(seed: int, count: int) -> None:
    with pytest.raises(NoiseError):
        noise.request_seeds(seed, count)


@pytest.mark.parametrize("count", [0, -1, True, 1.5, None])
def test_bad_count(count: object) -> None:
    with pytest.raises(NoiseError) as caught:
        noise.request_seeds(0, count)  # type: ignore[arg-type]
    assert caught.value.fix == "ask for one picture or more"
