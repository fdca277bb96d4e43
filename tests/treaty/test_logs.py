from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virt_preflight.controller.grammar import LOG_FORMATS
from virt_preflight.treaty import request_id
from virt_preflight.treaty.logs import JsonLines, LogFormat, TextLines, log_to_stderr


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("virt_preflight.tried").makeRecord(
        "virt_preflight.tried", logging.WARNING, __file__, 1, message, args, None, extra=extra
    )
    made.created = 1764288000.0625
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonLines().format(made)
    assert "\n" not in line
    assert line.isascii()
    found: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return found


def test_a_line_says_when_how_grave_who_and_what() -> None:
    assert as_json(record("%d hosts", 3)) == {
        "time": "2025-11-28T00:00:00.062Z",
        "level": "WARNING",
        "logger": "virt_preflight.tried",
        "message": "3 hosts",
    }


def test_a_line_within_a_question_has_its_id() -> None:
    with request_id.asking("q-1"):
        assert as_json(record("heard"))["requestId"] == "q-1"
        assert TextLines().format(record("heard")) == "WARNING heard [q-1]"


def test_what_a_record_brings_along_is_in_the_object() -> None:
    line = as_json(
        record("asked", caller="CN=nova", guests=2, method="DryRun", depth="trial", outcome=None)
    )
    assert line["caller"] == "CN=nova"
    assert line["guests"] == 2
    assert line["outcome"] is None


def test_nothing_that_a_record_brings_along_can_pass_for_our_own() -> None:
    with request_id.asking("q-1"):
        line = as_json(record("asked", time="never", level="OK", logger="x", requestId="forged"))
    assert line["time"].startswith("2025-")
    assert (line["level"], line["logger"]) == ("WARNING", "virt_preflight.tried")
    assert line["requestId"] == "q-1"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (b"\xff", "b'\\xff'"),
        ({"a": {1}}, {"a": [1]}),
        (("x", 1.5), ["x", 1.5]),
        (LogFormat.JSON, "json"),
        (Mute(), "Mute without words: RuntimeError"),
        ([[[[["deep"]]]]], [[[["['deep']"]]]]),
        (list(range(100)), list(range(64))),
    ],
)
def test_what_json_has_no_form_for_is_told_in_words(value: object, shown: object) -> None:
    assert as_json(record("odd", value=value))["value"] == shown


def test_a_message_whose_arguments_do_not_fit_is_still_a_line() -> None:
    assert as_json(record("%d of %d", "x"))["message"] == "%d of %d"
    assert as_json(record("%s", Mute()))["message"] == "%s"


def test_text_of_megabytes_is_cut() -> None:
    line = JsonLines().format(record("%s", "x" * 3_000_000, what="y" * 3_000_000))
    assert len(line) < 20_000


def test_a_traceback_stays_within_the_object_and_is_indented_for_people() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        made = record("it broke")
        made.exc_info = sys.exc_info()
    assert "ValueError: first\nsecond" in as_json(made)["exception"]
    first, *rest = TextLines().format(made).split("\n")
    assert first == "WARNING it broke"
    assert all(line.startswith("  ") for line in rest)


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_no_text_of_strangers_breaks_a_line(said: str, extra: str, inner: dict[str, str]) -> None:
    line = as_json(record("%s", said, caller=extra, inner=inner))
    assert line["message"] == said
    assert line["caller"] == extra
    shown = TextLines().format(record("%s", said))
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1


@pytest.fixture
def own_handlers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("own_handlers")
def test_the_last_format_that_was_chosen_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    log_to_stderr()
    log_to_stderr(LogFormat.JSON)
    logging.getLogger("x").info("one")
    logging.getLogger("x").debug("not shown")
    assert json.loads(written.getvalue())["message"] == "one"


def test_the_command_line_knows_the_formats_that_there_are() -> None:
    assert tuple(LogFormat) == LOG_FORMATS
