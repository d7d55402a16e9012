"""Seeded Gaussian noise: the same numbers in Python and C++, on every machine.

Noise recipe `philox-boxmuller-1`: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)
with the seed as key and the block's index as counter. Each block's four words make two Box-Muller pairs in float64,
which are rounded to float32. (Mathematical libraries differ in a float64's last bit. The rounding hides it in all but
about one value in 10^8, which then differs by one float32 step.) tests/data/noise.json holds numbers that every
implementation must reproduce; docs/noise.md describes every step.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pahi_rt.errors import NoiseError

NOISE_RECIPE = "philox-boxmuller-1"
"""The name of the noise recipe, as bundles have it."""

_LIMIT = 2**64
_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint32)
_FIX = "use a seed from 0 to 18446744073709551615"


def draw_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Standard Gaussian noise [B, C, h, w], with row j from seeds[j] alone. `shape` is (C, h, w).

    Raises NoiseError for a seed outside 0 .. 2**64 - 1, and for a size below 1.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise NoiseError(f"no noise has the shape {shape}", fix="use three positive sizes: channels, height, width")
    count = math.prod(shape)
    noise = np.empty((len(seeds), count), np.float32)
    counter = np.zeros((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    for row, seed in zip(noise, map(check_seed, seeds), strict=True):
        words = philox4x32_10(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32))
        row[:] = _box_muller(words).reshape(-1)[:count]
    return noise.reshape(-1, *shape)


def check_seed(seed: object) -> int:
    """`seed` as an int. Raises NoiseError if it is not an integer from 0 to 2**64 - 1."""
    number = _whole_number(seed)
    if not 0 <= number < _LIMIT:
        raise NoiseError(f"{str(seed)[:40]} is not a seed", fix=_FIX)
    return number


def request_seeds(seed: int, count: int) -> range:
    """The seeds of `count` pictures of one prompt: seed, seed + 1, ... Raises NoiseError: they never wrap around."""
    how_many = _whole_number(count)
    if how_many < 1:
        raise NoiseError(f"cannot draw {str(count)[:40]} pictures", fix="ask for one picture or more")
    first = check_seed(seed)
    if first + how_many > _LIMIT:
        raise NoiseError(f"{how_many} seeds from {first} on would go past 2**64 - 1", fix="use a smaller seed")
    return range(first, first + how_many)


def _whole_number(value: object) -> int:
    """`value` as an int; -1 if it is not an integer. Bools do not count as integers."""
    try:
        return -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return -1


def philox4x32_10(counter: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Philox4x32 with ten rounds: counters [N, 4] and key [2] -> four random words for each counter [N, 4]."""
    c0, c1, c2, c3 = np.asarray(counter, np.uint32).T
    for turn in range(_ROUNDS):
        k0, k1 = (int(k) + turn * int(w) & 0xFFFFFFFF for k, w in zip(key, _WEYL, strict=True))
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
    return np.stack([c0, c1, c2, c3], axis=-1)


def _multiply(word: NDArray[np.uint32], multiplier: np.uint64) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    product = word.astype(np.uint64) * multiplier
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def _box_muller(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Random words [N, 4] -> standard Gaussian values [N, 2, 2]."""
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-32
    radius = np.sqrt(-2.0 * np.log(uniform[:, 0::2]))
    angle = 2.0 * np.pi * uniform[:, 1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).astype(np.float32)
