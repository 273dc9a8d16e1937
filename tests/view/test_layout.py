"""Text in cells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tracer.view import layout


def test_what_is_too_long_is_shortened_in_the_middle() -> None:
    assert layout.shorten("slow-client[6324]/ws-reader", 20) == "slow-clien…ws-reader"
    assert layout.fit("ab", 4, right=True) == "  ab"


def test_words_are_kept_whole_where_that_is_possible() -> None:
    assert list(layout.wrap("one two three", 7)) == ["one two", "three"]
    assert list(layout.wrap("abcdefghij k", 4)) == ["abcd", "efgh", "ij k"]


@given(st.text(), st.integers(1, 30))
def test_fit_is_exact_and_wrap_never_wider(text: str, width: int) -> None:
    plain = "".join(char for char in text if char.isprintable())
    assert cell_len(layout.fit(plain, width)) == width
    assert all(cell_len(line) <= max(width, 2) for line in layout.wrap(plain, width))
