"""One table of figures: what was measured, how often, against which target and beside whom."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure's measurements in `unit`, and those of its peers, taken turn by turn with it.

    `most`: its target for the value below which `share` of the measurements lie (0.5: the median); None where there is none.
    `beats`: peers that must be so many times worse. `note` says what the numbers cannot.
    """

    name: str
    unit: str
    values: Sequence[float]
    most: float | None = None
    share: float = 0.5
    peers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    beats: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def value(self) -> float:
        """What is compared: the median, or the quantile that the target names."""
        return quantile(self.values, self.share)

    def ratio(self, peer: str) -> float | None:
        """How many times worse the peer is; None where nothing divides."""
        ours, theirs = statistics.median(self.values), statistics.median(self.peers[peer])
        return theirs / ours if ours > 0 else None

    @property
    def met(self) -> bool | None:
        """Whether its targets are; None: it has none."""
        tests = [] if self.most is None else [self.value <= self.most]
        for peer, times in self.beats.items():
            if peer in self.peers:
                tests.append(statistics.median(self.peers[peer]) >= times * statistics.median(self.values))
        return all(tests) if tests else None

    @property
    def target(self) -> str:
        """The targets in words."""
        words = []
        if self.most is not None:
            where = "" if self.share == 0.5 else f" at {self.share:.0%}"
            words.append(f"≤ {self.most:g} {self.unit}{where}")
        for peer, times in self.beats.items():
            words.append(f"{times:g}× better than {peer}" if times != 1 else f"better than {peer}")
        return ", ".join(words)

    def as_json(self) -> dict[str, object]:
        """For --json."""
        return {
            "name": self.name,
            "unit": self.unit,
            "target": self.target or None,
            "met": self.met,
            "ours": _summary(self.values, self.share),
            "peers": {name: _summary(values, 0.5) | {"ratio": self.ratio(name)} for name, values in self.peers.items()},
            "note": self.note or None,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies: the least that is not exceeded by more than the rest."""
    if share == 0.5:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def show(figures: Sequence[Figure], heading: str) -> None:
    """Prints the table: a line a figure, and one for each further peer."""
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False)
    for title in ("figure", "target", "ours", "spread", "n", "peer", "its", "its spread", "ratio", ""):
        table.add_column(title, justify="right" if title in ("ours", "n", "its", "ratio") else "left", overflow="fold")
    for one in figures:
        verdict = {None: "", True: "met", False: "[bold red]MISSED[/]"}[one.met]
        first = [one.name, one.target or "-", _number(one.value, one.unit), _spread(one.values), str(len(one.values))]
        lines = [_peer(one, name) for name in one.peers] or [["", "", "", ""]]
        table.add_row(*first, *lines[0], verdict)
        for line in lines[1:]:
            table.add_row("", "", "", "", "", *line, "")
        if one.note:
            table.add_row(f"  [dim]{one.note}[/]")
    Console(width=190).print(table)


def _summary(values: Sequence[float], share: float) -> dict[str, object]:
    return {
        "value": quantile(values, share),
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "n": len(values),
    }


def _peer(one: Figure, name: str) -> list[str]:
    values, ratio = one.peers[name], one.ratio(name)
    shown = f"{ratio:,.2f}" if ratio is not None else "-"
    return [name, _number(statistics.median(values), one.unit), _spread(values), shown]


def _number(value: float, unit: str) -> str:
    return f"{value:,.4g} {unit}".rstrip()


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):,.4g} … {max(values):,.4g}"
