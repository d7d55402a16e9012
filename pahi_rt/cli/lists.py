"""Options that take several values with commas between them, each of which counts once."""

from __future__ import annotations

import typer

ALL = "all"


def split_names(text: str, option: str) -> tuple[str, ...]:
    """ "a, b" -> ("a", "b"). Raises a usage error where a name is empty."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if "" in names:
        raise typer.BadParameter(f"{option} takes names with commas between them, not {text[:40]!r}")
    return names


def split_numbers(text: str, option: str) -> tuple[int, ...]:
    """ "1,2" -> (1, 2). Raises a usage error for anything but numbers from 1."""
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        numbers = (0,)
    if min(numbers) < 1:
        raise typer.BadParameter(f"{option} takes numbers from 1 with commas, such as 1,2, not {text[:40]!r}")
    return numbers


def names_or_all(text: str, option: str) -> tuple[str, ...] | None:
    """As `split_names`; None for "all"."""
    return None if text == ALL else split_names(text, option)


def numbers_or_all(text: str, option: str) -> tuple[int, ...] | None:
    """As `split_numbers`; None for "all"."""
    return None if text == ALL else split_numbers(text, option)
