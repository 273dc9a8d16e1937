"""One table of figures: what was measured, how often, and against which target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure's measurements in `unit`. `most`: its target; None where it is only a witness."""

    name: str
    values: Sequence[float]
    unit: str
    most: float | None = None

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def as_json(self) -> dict[str, object]:
        """For --json."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "least": min(self.values),
            "most": max(self.values),
            "n": len(self.values),
            "target": self.most,
        }


def show(figures: Sequence[Figure]) -> None:
    """Prints the table."""
    table = Table(box=None, pad_edge=False)
    for title in ("figure", "median", "least", "most", "n", "target", ""):
        table.add_column(title, justify="left" if title in ("figure", "") else "right", overflow="fold")
    for one in figures:
        numbers = [f"{value:,.4g} {one.unit}" for value in (one.median, min(one.values), max(one.values))]
        target = f"≤ {one.most:g} {one.unit}" if one.most is not None else "-"
        verdict = "" if one.most is None else "met" if one.median <= one.most else "MISSED"
        table.add_row(one.name, *numbers, str(len(one.values)), target, verdict)
    Console(width=140).print(table)
