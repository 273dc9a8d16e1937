"""Text laid out in terminal cells, where a letter may take two: cut, shortened in the middle, wrapped."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "…"


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly `width` cells: shortened in the middle or padded."""
    text = shorten(text, width)
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def shorten(text: str, width: int) -> str:
    """At most `width` cells; what is left out is in the middle, for both ends of a name tell something."""
    if cell_len(text) <= width:
        return text
    if width < 2:
        return ELLIPSIS[:width]
    keep = width - 1
    head = set_cell_size(text, keep - keep // 2).rstrip()
    tail = ""
    for char in reversed(text):
        if cell_len(char + tail) > keep - cell_len(head):
            break
        tail = char + tail
    return head + ELLIPSIS + tail


def wrap(text: str, width: int) -> Iterator[str]:
    """Lines of at most `width` cells, broken between words where there is a place to."""
    line = ""
    for word in text.split():
        if line and cell_len(line) + 1 + cell_len(word) <= width:
            line += " " + word
            continue
        if line:
            yield line
        *whole, line = _chop(word, width)
        yield from whole
    if line:
        yield line


def _chop(word: str, width: int) -> list[str]:
    """The word in pieces of at most `width` cells (one letter at least). rich's own chop_cells differs between its releases."""
    pieces = [""]
    for char in word:
        if pieces[-1] and cell_len(pieces[-1]) + cell_len(char) > width:
            pieces.append("")
        pieces[-1] += char
    return pieces
