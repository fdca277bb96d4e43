"""The forms an answer can take, and what the place where it is shown can do."""

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """The `-o` of the command line."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A terminal has a width and perhaps colours; a file or a pipe has neither."""

    width: int | None = None
    colour: bool = False


PLAIN = Look()
