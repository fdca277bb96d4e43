import logging

import pytest

from virt_preflight.treaty import audit


def test_a_question_is_one_line_and_its_values_are_in_the_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "virt_preflight.audit"):
        audit.note(
            caller="CN=nova",
            role="scheduler",
            method="Rank",
            depth="facts",
            guests=["db1", "db2"],
            outcome="CLEAR",
            took_ms=12,
        )
    (record,) = caplog.records
    assert record.getMessage() == (
        'caller="CN=nova" role="scheduler" method="Rank" depth="facts" guests="db1 db2" '
        'outcome="CLEAR" took_ms="12"'
    )
    assert {key: getattr(record, key) for key in ("caller", "role", "method", "depth")} == {
        "caller": "CN=nova",
        "role": "scheduler",
        "method": "Rank",
        "depth": "facts",
    }
    assert (record.__dict__["guests"], record.__dict__["outcome"]) == ("db1 db2", "CLEAR")


def test_a_long_name_does_not_hide_those_after_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "virt_preflight.audit"):
        audit.note(
            caller="CN=nova",
            role="scheduler",
            method="Rank",
            depth="facts",
            guests=["x" * 10_000, "db1"],
            outcome="CLEAR",
            took_ms=1,
        )
    assert caplog.records[0].__dict__["guests"] == "x" * 63 + "… db1"


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", 'a" role="admin', "a\u202eb", "a\u2028b"])
def test_a_hostile_name_stays_on_its_line_and_in_its_quotes(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.INFO, "virt_preflight.audit"):
        audit.note(
            caller=name,
            role="viewer",
            method="Rank",
            depth="",
            guests=[name, "x" * 10_000],
            outcome=name,
            took_ms=1,
        )
    line = caplog.records[0].getMessage()
    assert line.isprintable()
    assert 'a" role=' not in line
    assert len(line) < 1200
