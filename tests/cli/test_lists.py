"""Lists with commas: what they hold, and what is refused."""

from __future__ import annotations

import pytest
import typer

from pahi_rt.cli.lists import names_or_all, numbers_or_all, split_names, split_numbers


def test_values_count_once_and_keep_their_order() -> None:
    assert split_names("b, a,b", "--x") == ("b", "a")
    assert split_numbers("2, 1,2", "--x") == (2, 1)


def test_all_is_no_list() -> None:
    assert names_or_all("all", "--x") is None and numbers_or_all("all", "--x") is None
    assert names_or_all("all,a", "--x") == ("all", "a") and numbers_or_all("3", "--x") == (3,)


@pytest.mark.parametrize("text", ["", ",", "a,", "a,,b", " "])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--x takes names"):
        split_names(text, "--x")


@pytest.mark.parametrize("text", ["", "one", "1;2", "1,", "0", "1,-2", "1.5", "9" * 9999, "all"])
def test_what_are_no_numbers_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--x takes numbers"):
        split_numbers(text, "--x")
