"""A right that the agent has not opens questions. It finds nothing, and it hides nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.properties.test_laws import HOSTS, XML, ask
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.report import Report
from virt_preflight.agent.sources import QUESTIONS, Unreadable

RIGHT = "the agent needs the right org.libvirt.api.x: access denied"
HOST = HOSTS["h3"]


def denied(question: str) -> Report:
    """By the recorded host, where that question to libvirt is not for the agent to ask."""
    answers = {
        asked: Unreadable(RIGHT) if asked[:2] == ("libvirt", question) else answer
        for asked, answer in HOST.answers.items()
    }
    return ask(replace(HOST, answers=answers), read_domain(XML))


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_a_right_that_is_missing_finds_nothing_and_is_named_where_it_leaves_a_question(
    question: str,
) -> None:
    full, partial = ask(HOST, read_domain(XML)), denied(question)
    assert set(partial.findings) <= set(full.findings)
    for left in set(partial.unanswered) - set(full.unanswered):
        assert RIGHT in left.why, left
    lost = {one.check for one in set(full.findings) - set(partial.findings)}
    assert lost <= {left.check for left in partial.unanswered}, "never silently"


def test_some_questions_do_matter_to_this_guest() -> None:
    known = len(ask(HOST, read_domain(XML)).unanswered)
    assert all(
        len(denied(one).unanswered) > known for one in ("capabilities", "domain-capabilities")
    )
