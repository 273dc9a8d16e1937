"""Documents back to records: whole streams, parts of them, older and newer ones, and such as nobody should have written."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab import schema
from tests.lab.replays import Document, check, recorded, replayed
from tests.sources.stories import CLIENT, SERVER, stream
from tracer.model.restoring import Restored
from tracer.model.tracker import Tracker
from tracer.sources.documents import Decoder, Ended, NewerSchemaError, Started
from tracer.sources.fields import ForeignError


def verdicts(documents: list[Document]) -> list[tuple[Any, ...]]:
    """What is promised to be the same after a replay."""
    found: list[tuple[Any, ...]] = []
    for one in documents:
        own = one["tcptrace"]
        if one["event"]["action"] == "verdict-changed":
            verdict = own["verdict"]
            forecast = verdict["forecast"]
            ends = (str(own["connection"]["local"]), str(own["connection"]["peer"]))
            reader = orjson.dumps(verdict["slow_reader"])
            found.append((*ends, verdict["phase"], reader, forecast["by"], forecast["basis"], forecast["outcome"]))
        if "reset" in own and one["event"]["action"] != "connection-seen":
            found.append((one["event"]["action"], own["reset"]["cause"]))
    return found


def actions(documents: list[Document]) -> list[str]:
    return [one["event"]["action"] for one in documents]


def test_the_story_has_what_it_should() -> None:
    assert {"verdict-changed", "probe-sent", "reset-sent", "reset-received", "connection-closed", "events-lost"} <= set(
        actions(stream())
    )
    assert {one[1] for one in verdicts(stream()) if len(one) == 2} == {"close-with-unread-data", "no-socket"}


def test_a_replay_is_the_same_word_for_word_and_so_is_its_replay() -> None:
    for document in stream():
        schema.check(document)
    check(stream())


@pytest.mark.parametrize("length", range(1, len(stream()) + 1))
def test_a_stream_that_breaks_off_is_the_same_as_far_as_it_goes(length: int) -> None:
    assert replayed(stream()[:length]) == stream()[:length]


@pytest.mark.parametrize("first", range(1, len(stream())))
def test_a_stream_without_its_beginning_says_the_same_from_there(first: int) -> None:
    rest = stream()[first:]
    again = replayed(rest)
    assert again[0]["event"]["action"] == "stream-started"
    assert verdicts(again) == verdicts(rest)
    introduced = ("connection-seen", "stream-started")  # as soon as a line tells whose clock it is by
    assert [one for one in actions(again) if one not in introduced] == [one for one in actions(rest) if one not in introduced]


def test_without_samples_everything_is_shown_as_it_was_found() -> None:
    plain = stream(samples=False)
    assert not any("sample" in one["tcptrace"] for one in plain)
    again = replayed(plain)
    assert verdicts(again) == verdicts(plain)
    assert actions(again) == actions(plain)
    for one, other in zip(again, plain, strict=True):
        for part in ("queues", "verdict", "connection"):
            if part in other["tcptrace"]:
                assert one["tcptrace"][part] | {"age_s": 0} == other["tcptrace"][part] | {"age_s": 0}
        assert one.get("process") == other.get("process")


def test_no_address_of_the_kernel_is_written() -> None:
    text = orjson.dumps(stream()).decode()
    for number in (CLIENT["sk"], SERVER["sk"]):
        assert str(number) not in text
        assert f"{number:x}" not in text
    assert not any("sk" in one["tcptrace"].get("sample", {}).get("sock", {}) for one in stream())


def test_both_ends_find_each_other_again() -> None:
    decoder, tracker = Decoder(), Tracker()
    now = 0
    for document in stream():
        if document["event"]["action"] == "events-lost":
            break
        for told in decoder.decode(document):
            if isinstance(told, Restored):
                tracker.feed(told)
                now = told.ns
    views = {view.local.port: view for view in tracker.screen(now).connections}
    assert views[8443].peer_owner is not None
    assert (views[8443].peer_owner.pid, views[8443].peer_owner.thread_id) == (100, 101)


def test_a_second_stream_in_the_file_is_another() -> None:
    twice = stream() + stream()
    again = replayed(twice)
    assert [one | {"event": {**one["event"], "sequence": 0}} for one in again] == [
        one | {"event": {**one["event"], "sequence": 0}} for one in twice
    ]


def test_a_newer_schema_is_not_guessed_at() -> None:
    document = copy.deepcopy(stream()[1])
    document["tcptrace"]["schema"] = 2
    with pytest.raises(NewerSchemaError) as raised:
        Decoder().decode(document)
    assert raised.value.schema == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"7", "it is no object"),
        (b"{}", "tcptrace is missing"),
        (b'{"tcptrace":{"schema":true}}', "tcptrace.schema is no number"),
        (b'{"tcptrace":{"schema":0}}', "tcptrace.schema 0 is not known"),
        (b'{"tcptrace":{"schema":1},"event":{"action":"x"},"host":{"name":"h"},"@timestamp":"now"}', "@timestamp is no time"),
    ],
)
def test_a_foreign_line_says_why(line: bytes, why: str) -> None:
    with pytest.raises(ForeignError, match=why):
        Decoder().decode(orjson.loads(line))


def test_a_foreign_line_leaves_no_trace() -> None:
    whole = stream()
    bad = copy.deepcopy(whole[3])
    bad["tcptrace"]["sample"]["ns"] = 5
    bad["tcptrace"]["connection"]["opened_by"] = "nobody"
    decoder = Decoder()
    told = [decoder.decode(one) for one in whole[:3]]
    with pytest.raises(ForeignError):
        decoder.decode(bad)
    assert not any(isinstance(one, Started) for one in decoder.decode(whole[3]))
    assert told


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["\x1b[31m", "10.0.0.1", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "stalled", "CLOSE"]),
    st.lists(st.integers(0, 9), max_size=2),
    st.just({}),
)


def places(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = part.items() if isinstance(part, dict) else ()
    return [path, *(place for key, value in children for place in places(value, (*path, key)))]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_hostile_documents_are_foreign_or_harmless(data: st.DataObject) -> None:
    documents = copy.deepcopy(stream())
    for _ in range(data.draw(st.integers(1, 12))):
        document = data.draw(st.sampled_from(documents))
        *path, last = data.draw(st.sampled_from([place for place in places(document) if place]))
        part = document
        for key in path:
            part = part[key] if isinstance(part.get(key), dict) else part
        part[last] = data.draw(LEAVES)
    decoder, tracker, notices = Decoder(), Tracker(), []
    for document in documents:
        try:
            told = decoder.decode(orjson.loads(orjson.dumps(document)))
        except (ForeignError, NewerSchemaError):
            continue
        for one in told:
            if isinstance(one, Started):
                tracker = Tracker()
            elif isinstance(one, Ended):
                orjson.dumps(one.totals)
            else:
                notices += tracker.feed(one)
                tracker.screen(one.ns, everything=True)
    text = orjson.dumps(recorded(notices)).decode()
    assert "\\u001b" not in text
