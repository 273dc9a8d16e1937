"""The published schema: it is one, it takes what we write, and it refuses what a mistake would make of that."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, get_args

import jsonschema_rs
import orjson
import pytest

from tests.builders import START
from tests.lab import schema
from tests.views import RESET, proxied, reset_notice, view
from tracer.export.ecs import Documents
from tracer.model import findings
from tracer.model.findings import Endpoint, Notice, Owner, SlowReader, TimerView

PUBLISHED = json.loads(schema.PUBLISHED.read_text())
OWN = PUBLISHED["properties"]["tcptrace"]["properties"]
ENDS = {"local": Endpoint("10.0.0.1", 81), "peer": Endpoint("2001:db8::1", 4000)}

NOTICES = {
    "connection-seen": Notice("connection-seen", START, view()),
    "window-closed": Notice("window-closed", START, view(), window_side="local"),
    "window-opened": Notice("window-opened", START, proxied(), window_side="peer"),
    "probe-sent": Notice("probe-sent", START, proxied(), probe_kind="zero-window", probe_number=6),
    "probe-received": Notice("probe-received", START, view(), probe_kind="keepalive"),
    "retransmitted": Notice("retransmitted", START, view(age_s=None, timer=TimerView("retransmit", 0.2, 0, 1, 1))),
    "verdict-changed": Notice("verdict-changed", START, view(owner=Owner("shared", holders=(1, 2), container="c0ffee"))),
    "reset-sent": reset_notice(),
    "reset-received": Notice("reset-received", START, netns=None, reset=RESET, **ENDS),  # type: ignore[arg-type]
    "connection-closed": Notice("connection-closed", START, view(owner=Owner("none"))),
    "events-lost": Notice("events-lost", START, lost={"ring_buffer": {"window": 1}, "sinks": {"tcp:a:1": 7}}),
}
FACTS = {
    "version": "0.1.0",
    "kernel": "6.18.0",
    "boot_id": "9e2c12ed-5ea7-4134-96dc-2175f04f29a8",
    "clock_offset_ns": 1,
    "filters": "all ports",
    "attached": ["tcp_probe"],
    "missing": {"tcp_send_reset": "the kernel has none"},
}


ECS = {
    "@timestamp": "date",
    "container.id": "keyword",
    "destination.ip": "ip",
    "destination.port": "long",
    "ecs.version": "keyword",
    "event.action": "keyword",
    "event.category": "keyword",
    "event.dataset": "keyword",
    "event.kind": "keyword",
    "event.sequence": "long",
    "event.type": "keyword",
    "host.name": "keyword",
    "network.community_id": "keyword",
    "network.transport": "keyword",
    "network.type": "keyword",
    "process.command_line": "wildcard",
    "process.executable": "keyword",
    "process.name": "keyword",
    "process.pid": "long",
    "process.thread.id": "long",
    "process.thread.name": "keyword",
    "source.ip": "ip",
    "source.port": "long",
}
"""The fields of ECS 9.0 that we use, with their types there. What is ours is under `tcptrace`."""


def documents() -> list[dict[str, Any]]:
    """One of each, as a reader gets them."""
    stream = Documents("web-1", 1_795_000_000_000_000_000)
    made = [
        stream.started(START, FACTS),
        *(stream.notice(one) for one in NOTICES.values()),
        stream.ended(START, {"events": 1, "lost": 0, "sinks": {"-": {"lines": 1, "lost": 0}}}),
    ]
    return [orjson.loads(orjson.dumps(one)) for one in made]


def by_action(action: str) -> dict[str, Any]:
    (found,) = (one for one in documents() if one["event"]["action"] == action)
    return found


def test_it_is_a_schema_of_draft_2020_12() -> None:
    assert jsonschema_rs.meta.is_valid(PUBLISHED)
    assert PUBLISHED["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_takes_a_line_of_each_kind() -> None:
    for document in documents():
        schema.check(document)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a document, as ECS names them."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{name}.{key}" if name else key)
    else:
        for part in value if isinstance(value, list) else [value]:
            yield name, part


def fields(part: dict[str, Any], name: str = "") -> Iterator[str]:
    """The fields that a schema names."""
    if "$ref" in part:
        part = PUBLISHED["$defs"][part["$ref"].rpartition("/")[2]]
    if "properties" not in part:
        yield name
    for key, value in part.get("properties", {}).items():
        if key != "tcptrace":
            yield from fields(value, f"{name}.{key}" if name else key)


def is_of(kind: str, value: Any) -> bool:
    """Whether a value fits a type of ECS."""
    if kind == "long":
        return isinstance(value, int) and not isinstance(value, bool) and bool(-(1 << 63) <= value < 1 << 63)
    if kind == "ip":
        return bool(str(ip_address(value)) == value)
    return isinstance(value, str)


def test_names_and_types_outside_of_tcptrace_are_those_of_ecs() -> None:
    assert set(fields(PUBLISHED)) == ECS.keys()
    seen = set()
    for document in documents():
        for name, value in leaves({key: part for key, part in document.items() if key != "tcptrace"}):
            seen.add(name)
            assert value is None or is_of(ECS[name], value), (name, value)
    assert seen == ECS.keys()


def test_its_words_are_the_models() -> None:
    def words(part: Any, *names: str) -> set[str]:
        for name in names:
            part = part["properties"][name]
        return {*part["enum"]} - {None}

    own = {"properties": OWN}
    assert words(own, "verdict", "phase") == {phase.value for phase in findings.Phase}
    assert words(own, "verdict", "forecast", "by") == {*get_args(findings.By)}
    assert words(own, "verdict", "forecast", "outcome") == {*get_args(findings.Outcome)}
    assert words(own, "verdict", "forecast", "basis") == {*get_args(findings.Basis)}
    assert words(own, "reset", "cause") == {*get_args(findings.Cause)}
    assert words(own, "owner", "match") == {*get_args(findings.OwnerMatch)}
    assert words(own, "timer", "name") == {*get_args(findings.TimerName)}
    assert words(own, "verdict", "slow_reader", "side") == {"local", "peer", "none", "unknown"}
    assert words(PUBLISHED, "event", "action") == {*get_args(findings.Action), "stream-started", "stream-ended"}
    assert NOTICES.keys() == {*get_args(findings.Action)}


def test_consumers_are_not_broken_by_a_new_field() -> None:
    document = by_action("reset-sent")
    document["tcptrace"]["reset"]["new"] = document["tcptrace"]["newer"] = document["newest"] = 1
    jsonschema_rs.Draft202012Validator(PUBLISHED, validate_formats=True).validate(document)
    assert len(schema.flaws(document)) == 3  # but we are: whoever adds one has to publish it


@pytest.mark.parametrize(
    ("action", "damage"),
    [
        ("reset-sent", lambda one: one.pop("@timestamp")),
        ("reset-sent", lambda one: one.update({"@timestamp": "2026-11-18T11:06:40Z"})),
        ("reset-sent", lambda one: one["event"].update(sequence=0)),
        ("reset-sent", lambda one: one["event"].update(action="reset")),
        ("reset-sent", lambda one: one["event"].update(kind="alert")),
        ("reset-sent", lambda one: one["event"].update(type=["connection"])),
        ("reset-sent", lambda one: one["tcptrace"].update(schema=2)),
        ("reset-sent", lambda one: one["tcptrace"].pop("reset")),
        ("reset-sent", lambda one: one["tcptrace"]["reset"].update(cause="because")),
        ("reset-sent", lambda one: one["tcptrace"]["reset"].update(unread_bytes=-1)),
        ("reset-sent", lambda one: one["source"].update(ip="localhost")),
        ("reset-sent", lambda one: one["source"].update(port=65536)),
        ("reset-sent", lambda one: one["process"].update(pid="1")),
        ("reset-sent", lambda one: one["network"].update(community_id="1:short")),
        ("reset-sent", lambda one: one.pop("network")),
        ("window-closed", lambda one: one["tcptrace"].pop("window")),
        ("probe-sent", lambda one: one["tcptrace"].pop("probe")),
        ("connection-seen", lambda one: one["tcptrace"].pop("verdict")),
        ("verdict-changed", lambda one: one["tcptrace"]["verdict"].update(phase="bad")),
        ("verdict-changed", lambda one: one["tcptrace"]["verdict"]["forecast"].pop("by")),
        ("connection-closed", lambda one: one["tcptrace"].pop("totals")),
        ("events-lost", lambda one: one["tcptrace"].pop("lost")),
        ("events-lost", lambda one: one["tcptrace"]["lost"]["by_kind"].update(window=-1)),
        ("stream-started", lambda one: one["tcptrace"]["stream"].pop("boot_id")),
        ("stream-ended", lambda one: one["tcptrace"].pop("stream")),
    ],
)
def test_it_refuses_what_is_missing_or_wrong(action: str, damage: Callable[[dict[str, Any]], object]) -> None:
    document = by_action(action)
    damaged = copy.deepcopy(document)
    damage(damaged)
    schema.check(document)
    assert schema.flaws(damaged)


def test_a_slow_reader_elsewhere_has_no_process() -> None:
    verdict = by_action("window-opened")["tcptrace"]["verdict"]
    assert verdict["slow_reader"] | {"chain": []} == {
        "side": "peer",
        "ip": "172.28.72.119",
        "port": 63132,
        "pid": None,
        "name": None,
        "thread_id": None,
        "thread_name": None,
        "chain": [],
    }
    assert SlowReader("none").pid is None
