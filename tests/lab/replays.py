"""Streams of documents, and what becomes of them when they are replayed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from tests.builders import START
from tracer.export.ecs import Documents
from tracer.model.findings import Notice
from tracer.model.tracker import Tracker
from tracer.sources.documents import Decoder, Ended, Started

OFFSET = 1_795_000_000_000_000_000 - START
HOST = "web-1"
FACTS = {
    "version": "0.1.0",
    "kernel": "6.18.0",
    "boot_id": "9e2c12ed-5ea7-4134-96dc-2175f04f29a8",
    "clock_offset_ns": OFFSET,
    "filters": "all ports",
    "attached": ["tcp_probe"],
    "missing": {},
}

Document = dict[str, Any]


def recorded(notices: Iterable[Notice], *, samples: bool = True) -> list[Document]:
    """The documents of a whole stream, as a reader gets them."""
    stream = Documents(HOST, OFFSET, samples=samples)
    told = list(notices)
    last = max((one.ns for one in told), default=START)
    made = [stream.started(START, FACTS), *map(stream.notice, told), stream.ended(last, {"events": len(told), "lost": 0})]
    return [as_read(one) for one in made]


def replayed(documents: Sequence[Document]) -> list[Document]:
    """What `replay --json` makes of them."""
    decoder, tracker, stream = Decoder(), Tracker(), Documents("", 0, samples=True)
    made: list[Document] = []
    for document in documents:
        for told in decoder.decode(document):
            if isinstance(told, Started):
                tracker = Tracker()
                stream.move(told.host, told.clock_offset_ns)
                made.append(stream.started(told.ns, told.facts))
            elif isinstance(told, Ended):
                made.append(stream.ended(told.ns, told.totals))
            else:
                made += map(stream.notice, tracker.feed(told))
    return [as_read(one) for one in made]


def check(documents: Sequence[Document]) -> None:
    """Raises AssertionError unless a stream that was recorded with samples is told again word for word, and once more so."""
    again = replayed(documents)
    for one, other in zip(again, documents, strict=True):
        assert one == other, f"replayed as {orjson.dumps(one).decode()}\ninstead of {orjson.dumps(other).decode()}"
    assert replayed(again) == again


def as_read(document: Document) -> Document:
    """As it comes out of the file."""
    read: Document = orjson.loads(orjson.dumps(document))
    return read


def without_marks(documents: Iterable[Document]) -> list[Document]:
    """The documents as if none was replayed: what says so is taken out."""
    found = []
    for document in documents:
        own = document["tcptrace"]
        if "stream" in own:
            own = {**own, "stream": {key: value for key, value in own["stream"].items() if key != "replayed"}}
        found.append({**document, "tcptrace": own})
    return found
