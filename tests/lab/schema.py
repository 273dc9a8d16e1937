"""Every line of an event stream against what is published of it, and its names against the Elastic Common Schema's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import jsonschema_rs

PUBLISHED: Final = Path(__file__).resolve().parents[2] / "docs" / "events.schema.json"

ECS: Final = {
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


def check(document: dict[str, Any]) -> None:
    """Raises AssertionError with all that is wrong with a line of a stream."""
    found = flaws(document)
    assert not found, f"{found} in {json.dumps(document)}"


def flaws(document: dict[str, Any]) -> list[str]:
    """What is wrong with a line: against the schema, in which nothing unnamed is allowed, and against ECS."""
    wrong = [f"{'.'.join(map(str, one.instance_path))}: {one.message}" for one in _validator().iter_errors(document)]
    return wrong + [f"{name} is no {ECS.get(name, 'field of ECS')}: {value!r}" for name, value in _no_ecs(document)]


@cache
def _validator() -> Any:
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return jsonschema_rs.Draft202012Validator(_closed(schema), validate_formats=True)


def _closed(schema: Any) -> Any:
    """The schema without room for new fields: whoever adds one has to publish it."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def _no_ecs(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in _leaves({key: value for key, value in document.items() if key != "tcptrace"}):
        if name not in ECS or not _is(ECS[name], value):
            yield name, value


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for part in value:
            yield name, part
    elif value is not None:
        yield name, value


def _is(kind: str, value: Any) -> bool:
    if kind == "long":
        return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
    if kind == "ip":
        try:
            ip_address(value)
        except ValueError:
            return False
    return isinstance(value, str)
