"""Every line of an event stream against what is published of it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema_rs

PUBLISHED: Final = Path(__file__).resolve().parents[2] / "docs" / "events.schema.json"


def check(document: dict[str, Any]) -> None:
    """Raises AssertionError with all that is wrong with a line of a stream."""
    found = flaws(document)
    assert not found, f"{found} in {json.dumps(document)}"


def flaws(document: dict[str, Any]) -> list[str]:
    """What is wrong with a line. Nothing is allowed in it that the schema does not name."""
    if _validator().is_valid(document):
        return []
    return [f"{'.'.join(map(str, one.instance_path))}: {one.message}" for one in _validator().iter_errors(document)]


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
