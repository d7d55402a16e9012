from __future__ import annotations

from pahi_rt.bulk.seeds import row_seed


def test_the_seeds_of_the_documentation() -> None:
    """docs/bulk.md has these, for other languages to check."""
    assert {pair: row_seed(*pair) for pair in SEEDS} == SEEDS


def test_a_seed_leaves_room_for_further_pictures() -> None:
    seeds = [row_seed(run, str(number)) for run in (0, 2**64 - 1) for number in range(200)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0 and 2**62 < max(seeds) < 2**63


SEEDS = {
    (0, "prompts.txt:0"): 1291900122619185923,
    (7, "prompts.txt:0"): 7244072583493256556,
    (0, "ein Apfel, grün"): 5127381103243189783,
    (18446744073709551615, "1"): 2487557104714750293,
}
