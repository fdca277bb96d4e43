"""Lines of a log, for people or for programs. A line stays one line, whatever strangers sent us."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from virt_preflight.treaty import request_id

# A peer's text may have megabytes; what tells something stands at its beginning.
TEXT_AT_MOST = 8 * 1024
# Of what a record brings along: so many things within things, and so many of each.
DEEP_AT_MOST = 4
THINGS_AT_MOST = 64

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL"}


class LogFormat(StrEnum):
    """The `--log-format` of a service."""

    TEXT = "text"
    JSON = "json"


def log_to_stderr(log_format: LogFormat = LogFormat.TEXT) -> None:
    """From here on, from INFO upwards."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format is LogFormat.JSON else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class TextLines(logging.Formatter):
    """For people: level, message, the question's id. A traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = f"{record.levelname} {_printable(_message(record))}"
        if about := request_id.current():
            line += f" [{about}]"
        return line + "".join(f"\n  {_printable(one)}" for one in _traceback(self, record))


class JsonLines(logging.Formatter):
    """For programs: an object a line, with what the record brings along (`extra=`)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": _LEVELS.get(record.levelname, record.levelname),
            "logger": record.name,
            "message": _cut(_message(record)),
        }
        if about := request_id.current():
            line["requestId"] = about
        for name, value in record.__dict__.items():
            if name not in _OWN and name not in line:
                line[name] = plain(value)
        if traced := _traceback(self, record):
            line["exception"] = _cut("\n".join(traced))
        # Whatever is not ASCII is escaped: no sign of any alphabet can end the line.
        return json.dumps(line, ensure_ascii=True, allow_nan=False)


def plain(value: object, deep: int = 0) -> object:
    """As JSON has it: whatever JSON has no form for, by its own words."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _cut(value)
        case Mapping() if deep < DEEP_AT_MOST:
            some = list(value.items())[:THINGS_AT_MOST]
            return {_cut(str(key)): plain(inner, deep + 1) for key, inner in some}
        case list() | tuple() | set() | frozenset() if deep < DEEP_AT_MOST:
            return [plain(inner, deep + 1) for inner in list(value)[:THINGS_AT_MOST]]
        case _:
            return _cut(_words(value))


def _message(record: logging.LogRecord) -> str:
    """A line that was written wrongly is better than none."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - whatever an argument's own words raise
        return str(record.msg)


def _words(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - the same
        return f"{type(value).__name__} without words: {type(error).__name__}"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    traced = formatter.formatException(record.exc_info) if record.exc_info else ""
    return [*traced.splitlines(), *(record.stack_info or "").splitlines()]


def _printable(text: str) -> str:
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode()
        for sign in _cut(text)
    )


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_AT_MOST else f"{text[:TEXT_AT_MOST]}…"
