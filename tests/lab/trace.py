"""The real `tcptrace watch --json` at work beside a test: its events as they come."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.lab import replays, schema

Event = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


def tcptrace(*arguments: str, program: str = "tracer") -> list[str]:
    """The command that runs this checkout's tcptrace, or another `program` that wraps it."""
    return [sys.executable, "-m", program, *arguments]


class Trace:
    """Events in the order in which they came, each with `arrived`: CLOCK_MONOTONIC seconds. Each has to be as published.

    All of them, replayed, have to say the same again.
    """

    def __init__(self, *arguments: str, program: str = "tracer") -> None:
        self.events: list[Event] = []
        self._news = threading.Condition()
        self._child = subprocess.Popen(
            tcptrace("watch", "--json", "--samples", *arguments, program=program),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def of(self, action: str | None = None, port: int | None = None) -> list[Event]:
        """The events so far: of this action, and with this port at either end of the connection."""
        with self._news:
            return [one for one in self.events if matches(one, action, port)]

    def wait(
        self,
        action: str | None = None,
        port: int | None = None,
        *,
        seconds: float = 10.0,
        where: Callable[[Event], bool] = lambda _: True,
    ) -> Event:
        """The first such event, waited for. Raises AssertionError with all that came instead."""
        deadline = time.monotonic() + seconds
        looked_at = 0
        with self._news:
            while True:
                # each once: many wait at a time, and a reader that falls behind stops the tracer
                for one in self.events[looked_at:]:
                    if matches(one, action, port) and where(one):
                        return one
                looked_at = len(self.events)
                if not self._news.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise AssertionError(f"no {action} on port {port} within {seconds} s; there were:\n{self.story()}")

    def story(self) -> str:
        """The events in a few words each."""
        return "\n".join(brief(one) for one in self.events)

    def stop(self) -> list[Event]:
        """Ends it as Ctrl-C does; all events. Raises AssertionError unless it ended well."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
        code = self._child.wait(20)
        self._thread.join()
        if self._child.stderr is not None and not self._child.stderr.closed:
            errors = self._child.stderr.read().decode()
            self._child.stderr.close()
            assert (code, errors) == (0, ""), f"watch ended with {code}: {errors}"
        documents = [{key: value for key, value in one.items() if key != "arrived"} for one in self.events]
        for one in documents:
            schema.check(one)
        replays.check(documents)
        return self.events

    def abandon(self) -> None:
        """Ends it, whatever it does."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            event = orjson.loads(line)
            event["arrived"] = time.monotonic()
            with self._news:
                self.events.append(event)
                self._news.notify_all()
        self._child.stdout.close()


@contextmanager
def watching(*arguments: str, program: str = "tracer") -> Iterator[Trace]:
    """A trace that is attached when the block begins; its stream is checked at the end: whole, numbered, nothing lost."""
    trace = Trace(*arguments, program=program)
    try:
        trace.wait("stream-started")
        yield trace
        events = trace.stop()
    finally:
        trace.abandon()
    assert [one["event"]["sequence"] for one in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"]["action"] == "stream-ended"
    assert not [one for one in events if one["event"]["action"] == "events-lost"]


def lines(stream: bytes | str) -> list[Event]:
    """The events of a whole stream. Raises AssertionError where a line is not as published, or one is missing."""
    events: list[Event] = [orjson.loads(line) for line in stream.splitlines()]
    for one in events:
        schema.check(one)
    assert [one["event"]["sequence"] for one in events] == list(range(1, len(events) + 1))
    return events


def matches(event: Event, action: str | None, port: int | None) -> bool:
    """Whether an event is of an action, and of a connection with this port at either end."""
    if action is not None and event["event"]["action"] != action:
        return False
    if port is None:
        return True
    connection = event["tcptrace"].get("connection")
    return connection is not None and port in (connection["local"]["port"], connection["peer"]["port"])


def brief(event: Event) -> str:
    """An event in a line."""
    own = event["tcptrace"]
    connection = own.get("connection")
    where = f"{connection['local']['port']}>{connection['peer']['port']}" if connection else "-"
    process = event.get("process", {})
    more = {key: own[key] for key in ("window", "probe", "reset") if key in own}
    verdict = own.get("verdict", {}).get("summary", "")
    return f"{event['@timestamp']} {event['event']['action']} {where} {process.get('pid')} {more} {verdict}"
