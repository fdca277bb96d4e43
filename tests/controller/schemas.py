"""The published schemas, taken strictly: what they do not describe must not be there."""

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

from virt_preflight.controller.render.documents import Document


def schema(kind: str) -> Any:
    """The published schema, and no property beyond those it describes."""
    published = files("virt_preflight.controller") / "schemas" / f"{kind.lower()}.schema.json"
    return _closed(json.loads(published.read_text()))


def _closed(part: Any) -> Any:
    if isinstance(part, list):
        return [_closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    return closed | {"additionalProperties": False} if "properties" in part else closed


def validate(document: Document) -> None:
    plain = json.loads(json.dumps(document))
    Draft202012Validator(schema(str(document["kind"]))).validate(plain)
