"""A configuration file's text: read whole, or told in one line what is wrong with it and where."""

import re
import tomllib
from collections import Counter
from typing import TypeVar

import msgspec

T = TypeVar("T")

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_HEADING = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_GIVEN = re.compile(r"\s*([^=#]+?)\s*=")


class BadKeyError(ValueError):
    """What a key says is of no use, as is found out when all is read."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key


def placed(content: bytes, error: BadKeyError) -> str:
    """With the line in front at which the file has it, if it can be found."""
    line = _line_of(content.decode(errors="replace"), error.key)
    return f"line {line}: {error}" if line else str(error)


def read_tables(content: bytes, kind: type[T]) -> T:
    """What the text of a file says; ValueError says what is wrong, at which line and key."""
    try:
        text = content.decode()
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(str(error)) from error
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_placed(text, str(error))) from error


def _placed(text: str, message: str) -> str:
    """msgspec's "Expected `int` - at `$.limits.requests`" with its line and key in front."""
    what, _, where = message.rpartition(" - at `$")
    if not what:
        what, where = message, ""
    key = where.strip("`").removeprefix(".")
    if unknown := _UNKNOWN.fullmatch(what):
        key, what = f"{key}.{unknown[1]}".removeprefix("."), "there is no such key"
    elif missing := _MISSING.fullmatch(what):
        what = f"the key {missing[1]} is missing"
    else:
        what = what[:1].lower() + what[1:].replace("`", "")
    line = _line_of(text, key)
    return f"line {line}: {key}: {what}" if line else f"{key}: {what}"


def _line_of(text: str, key: str) -> int | None:
    """Where a key is given, or what it is in begins; None if it is written in a way not looked for.

    The second of tables that are many is `host[1]`, as in the key.
    """
    table, found = "", None
    tables: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := _HEADING.match(line):
            name = re.sub(r"[\s\"']", "", heading[2])
            table = here = f"{name}[{tables[name]}]" if heading[1] == "[[" else name
            tables[name] += 1
        elif given := _GIVEN.match(line):
            name = re.sub(r"[\s\"']", "", given[1])
            here = f"{table}.{name}" if table else name
        else:
            continue
        if here == key:
            return number
        if key.startswith((f"{here}.", f"{here}[")):
            found = number
    return found
