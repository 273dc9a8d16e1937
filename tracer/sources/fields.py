"""Typed fields out of documents that anybody may have written: what is not as it should be makes the document foreign."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from tracer.text import printable

LONGEST_NS: Final = 1 << 62
"""Times beyond this, some 146 years, are nobody's."""
ITEMS_AT_MOST: Final = 4096
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ForeignError(ValueError):
    """A line that is none of ours; says why."""


class Fields:
    """The fields of one object of a document. Every getter raises ForeignError."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def names(self) -> list[str]:
        """The names that are there."""
        return list(self._values)[:ITEMS_AT_MOST]

    def part(self, name: str) -> Fields:
        """An object within."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self._foreign(name, "is missing" if value is None else "is no object")
        return Fields(value, f"{self._path}{name}.")

    def maybe(self, name: str) -> Fields:
        """An object within, empty if it is not there."""
        return self.part(name) if name in self else Fields({}, f"{self._path}{name}.")

    def integer(self, name: str, most: int = LONGEST_NS, least: int = 0) -> int:
        """A whole number within bounds."""
        value = self._values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._foreign(name, "is missing" if value is None else f"is no number from {least} to {most}")
        return value

    def maybe_integer(self, name: str, most: int = LONGEST_NS, least: int = 0) -> int | None:
        """A whole number within bounds, or None."""
        return self.integer(name, most, least) if name in self else None

    def maybe_number(self, name: str) -> float | None:
        """A number that is not negative, or None."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
            raise self._foreign(name, "is no number")
        return float(value)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise self._foreign(name, "is neither true nor false")
        return value

    def text(self, name: str) -> str:
        """Text, harmless."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise self._foreign(name, "is missing" if value is None else "is no text")
        return printable(value)

    def maybe_text(self, name: str) -> str | None:
        """Text, harmless, or None."""
        return self.text(name) if name in self else None

    def choice(self, name: str, words: Collection[str]) -> Any:
        """One of a few words."""
        value = self._values.get(name)
        if not isinstance(value, str) or value not in words:
            raise self._foreign(name, "is missing" if value is None else "has a word that is not known")
        return value

    def maybe_choice(self, name: str, words: Collection[str]) -> Any:
        """One of a few words, or None."""
        return self.choice(name, words) if name in self else None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of text; none is an empty one."""
        return tuple(printable(one) for one in self._list(name, str))

    def integers(self, name: str, most: int) -> tuple[int, ...]:
        """A list of whole numbers; none is an empty one."""
        found = self._list(name, int)
        if not all(0 <= one <= most for one in found):
            raise self._foreign(name, "has a number out of bounds")
        return found

    def counts(self, name: str) -> dict[str, int]:
        """Whole numbers by name; none is an empty mapping."""
        part = self.maybe(name)
        return {printable(key): part.integer(key) for key in part.names()}

    def epoch_ns(self, name: str) -> int:
        """A time of RFC 3339, in UTC, as nanoseconds since 1970."""
        value = self._values.get(name)
        found = _TIME.fullmatch(value) if isinstance(value, str) else None
        try:
            second = datetime.fromisoformat(found[1]).replace(tzinfo=timezone.utc) if found else None
        except ValueError:
            second = None
        if found is None or second is None:
            raise self._foreign(name, "is missing" if value is None else "is no time in UTC")
        at = (second - _EPOCH) // timedelta(seconds=1) * 1_000_000_000 + int((found[2] or "0").ljust(9, "0"))
        if abs(at) > LONGEST_NS:
            raise self._foreign(name, "is a time too far away")
        return at

    def plain(self) -> dict[str, Any]:
        """All of it, harmless and no deeper than we write."""
        return {printable(key): _plain(value) for key, value in list(self._values.items())[:ITEMS_AT_MOST]}

    def _list(self, name: str, kind: type) -> tuple[Any, ...]:
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > ITEMS_AT_MOST or any(type(one) is not kind for one in value):
            raise self._foreign(name, "is no such list")
        return tuple(value)

    def _foreign(self, name: str, why: str) -> ForeignError:
        return ForeignError(f"{self._path}{name} {why}")


def _plain(value: Any, depth: int = 4) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (dict, list)) and not depth:
        return None
    if isinstance(value, dict):
        return {printable(key): _plain(one, depth - 1) for key, one in list(value.items())[:ITEMS_AT_MOST]}
    if isinstance(value, list):
        return [_plain(one, depth - 1) for one in value[:ITEMS_AT_MOST]]
    return value
