"""Where a trace goes: a live table, lines of text, or JSON. Each takes notices as they come and a screen now and then."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import click

from tracer import __version__
from tracer.export.ecs import Documents
from tracer.export.ndjson import Writer
from tracer.model.findings import Notice, Screen
from tracer.text import printable
from tracer.view.lines import line


class Output(Protocol):
    """What a trace is shown by."""

    @property
    def draws(self) -> bool:
        """Whether it wants screens: one of many connections is work."""

    def start(self, ns: int, facts: dict[str, Any]) -> None:
        """All is attached; `facts` describe the stream."""

    def take(self, notices: Sequence[Notice]) -> None:
        """What happened."""

    def draw(self, screen: Screen) -> None:
        """How things are now."""

    def end(self, ns: int, totals: dict[str, Any]) -> None:
        """The trace is over."""


class Lines:
    """A line of text per change, for a pipe."""

    draws = False

    def __init__(self, clock_offset_ns: int) -> None:
        self._offset = clock_offset_ns

    def start(self, ns: int, facts: dict[str, Any]) -> None:
        """Nothing: a pipe gets changes alone."""

    def take(self, notices: Sequence[Notice]) -> None:
        """Each as a line, at once."""
        for notice in notices:
            click.echo(line(notice, self._offset))

    def draw(self, screen: Screen) -> None:
        """Nothing: lines tell of changes."""

    def end(self, ns: int, totals: dict[str, Any]) -> None:
        """Nothing more."""


class Json:
    """The event stream."""

    draws = False

    def __init__(self, clock_offset_ns: int, *, samples: bool = False) -> None:
        self._documents = Documents(host_name(), clock_offset_ns, samples=samples)
        self._writer = Writer(stdout())

    def move(self, host: str, clock_offset_ns: int) -> None:
        """What follows is of another host."""
        self._documents.move(host, clock_offset_ns)

    def start(self, ns: int, facts: dict[str, Any]) -> None:
        """stream-started"""
        self._writer.write(self._documents.started(ns, facts))

    def take(self, notices: Sequence[Notice]) -> None:
        """A line each."""
        for notice in notices:
            self._writer.write(self._documents.notice(notice))

    def draw(self, screen: Screen) -> None:
        """Nothing: the stream has the events that a screen is made of."""

    def end(self, ns: int, totals: dict[str, Any]) -> None:
        """stream-ended"""
        self._writer.write(self._documents.ended(ns, totals))


class Several:
    """Passes on to each in turn. The first is the one that a person sees, and ends first."""

    def __init__(self, *outputs: Output) -> None:
        self._outputs = outputs
        self.draws = any(output.draws for output in outputs)

    def start(self, ns: int, facts: dict[str, Any]) -> None:
        """Passed on."""
        for output in self._outputs:
            output.start(ns, facts)

    def take(self, notices: Sequence[Notice]) -> None:
        """Passed on."""
        for output in self._outputs:
            output.take(notices)

    def draw(self, screen: Screen) -> None:
        """Passed on to those that want it."""
        for output in self._outputs:
            if output.draws:
                output.draw(screen)

    def end(self, ns: int, totals: dict[str, Any]) -> None:
        """Passed on to all, though some fail: a closed pipe must not cost an export its last records."""
        with ExitStack() as stack:
            for output in reversed(self._outputs):
                stack.callback(output.end, ns, totals)


def host_name() -> str:
    """This host's name, harmless."""
    return printable(platform.node())


def stdout() -> BinaryIO:
    """Standard output for bytes."""
    return sys.stdout.buffer


def stream_facts(clock_offset_ns: int, filters: str, attached: Sequence[str], missing: dict[str, str]) -> dict[str, Any]:
    """What the first line of a stream says of its origin."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return {
        "version": __version__,
        "kernel": platform.release(),
        "boot_id": boot_id,
        "clock_offset_ns": clock_offset_ns,
        "filters": filters,
        "attached": list(attached),
        "missing": missing,
    }
