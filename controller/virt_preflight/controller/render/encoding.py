"""Documents written down: JSON, JSON lines, YAML, or only the names.

All of it is ASCII with escapes, so what guests and hosts are called stays harmless on a terminal.
"""

import json
from collections.abc import Iterable

from virt_preflight.controller.render.documents import Document


def as_json(document: Document) -> str:
    """One document, indented."""
    return json.dumps(document, indent=2) + "\n"


def as_json_lines(documents: Iterable[Document]) -> str:
    """One document a line."""
    return "".join(json.dumps(document) + "\n" for document in documents)


def as_yaml(document: Document) -> str:
    """One document, its keys in the order of the JSON form."""
    # Here, because it takes a tenth of a second that only this form needs to pay.
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, default_flow_style=False, width=10_000)
    return text


def as_names(names: Iterable[str]) -> str:
    """One name a line."""
    return "".join(f"{name}\n" for name in names)
