"""The live table on a terminal: drawn in the alternate screen, which gives the terminal back as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live

from tracer.cli.output import host_name
from tracer.model.findings import Notice, Screen
from tracer.view.ending import Tally
from tracer.view.table import Header, render


class Table:
    """Draws a screen whenever there is a new one, and prints a summary at the end."""

    draws = True

    def __init__(self, filters: str, attached: int, missing: Sequence[str], host: str | None = None) -> None:
        """`host`: where it was recorded, if that is not here and now."""
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False)
        self._filters = filters
        self._attached = attached
        self._missing = tuple(missing)
        self._host = host or host_name()
        self._started_ns = 0
        self._tally = Tally()
        self._screen: Screen | None = None

    def start(self, ns: int, facts: dict[str, Any]) -> None:
        """Takes the terminal."""
        self._started_ns = ns
        self._live.start()

    def take(self, notices: Sequence[Notice]) -> None:
        """Counts for the summary."""
        self._tally.add(notices)

    def draw(self, screen: Screen) -> None:
        """Draws at the terminal's size of now."""
        self._screen = screen
        seconds = (screen.ns - self._started_ns) / 1e9
        wanted = self._attached + len(self._missing)
        header = Header(self._host, seconds, self._filters, self._attached, wanted, self._missing)
        width, height = self._console.size
        self._live.update(render(screen, header, width, height), refresh=True)

    def end(self, ns: int, totals: dict[str, Any]) -> None:
        """Gives the terminal back, then the summary."""
        self._live.stop()
        if self._screen is not None:
            for text in self._tally.lines(self._screen, (ns - self._started_ns) / 1e9):
                self._console.print(text, markup=False, highlight=False)
