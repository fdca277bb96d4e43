from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from virt_preflight.treaty import request_id


def test_outside_of_any_question_there_is_no_id() -> None:
    assert request_id.current() == ""


def test_a_question_has_one_id_however_deep_it_is_asked() -> None:
    with request_id.asking() as outer:
        assert request_id.is_one(outer)
        with request_id.asking() as inner:
            assert inner == outer == request_id.current()
    assert request_id.current() == ""


def test_two_questions_have_two_ids() -> None:
    with request_id.asking() as first:
        pass
    with request_id.asking() as second:
        pass
    assert first != second


def test_what_is_sent_is_the_id_of_the_question() -> None:
    with request_id.asking("nightly-7"):
        assert request_id.carried() == (("x-request-id", "nightly-7"),)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a" * 65,
        "two words",
        "line\nbreak",
        "line\n",
        'quote"',
        "ÿ",
        "١",
        b"bytes",
        "\x1b[31m",
    ],
)
def test_an_id_that_could_break_a_line_is_replaced(value: str | bytes) -> None:
    def taken() -> str:
        return request_id.taken_over([("x-request-id", value)])

    given = copy_context().run(taken)
    assert given != value
    assert request_id.is_one(given)


@pytest.mark.parametrize("value", ["a" * 64, "8e1b-0.A_z:9", "00-4bf92f3577b34da6-01"])
def test_an_id_as_others_make_them_is_kept(value: str) -> None:
    def taken() -> str:
        return request_id.taken_over([("other", "x"), ("x-request-id", value)])

    assert copy_context().run(taken) == value


def test_of_two_ids_neither_counts() -> None:
    def taken() -> str:
        return request_id.taken_over([("x-request-id", "one"), ("x-request-id", "two")])

    assert copy_context().run(taken) not in {"one", "two"}


def test_questions_of_several_threads_are_apart() -> None:
    meet = threading.Barrier(4)

    def ask(name: str) -> str:
        with request_id.asking(name):
            meet.wait(10)
            return request_id.current()

    names = ["a", "b", "c", "d"]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, names)) == names
