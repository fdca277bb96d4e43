"""Configuration files: what is wrong is told with its line and key."""

from __future__ import annotations

import msgspec
import pytest

from virt_preflight.treaty.tables import BadKeyError, placed, read_tables


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    size: int = 1


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    one: Inner = Inner(name="x")
    many: list[Inner] = []
    labels: dict[str, str] = {}


def told(text: str) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        read_tables(text.encode(), Outer)
    return str(error.value)


def test_what_is_right_is_read() -> None:
    read = read_tables(b"[one]\nname = 'a'\n[[many]]\nname = 'b'\n", Outer)
    assert read == Outer(one=Inner(name="a"), many=[Inner(name="b")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nsize = 1\n", "line 2: size: there is no such key"),
        ("[one]\nname = 'a'\nweight = 1", "line 3: one.weight: there is no such key"),
        ("[one]\nsize = 1", "line 1: one: the key name is missing"),
        ("one = {name = 'a', size = 'b'}", "line 1: one.size: expected int, got str"),
        ("[labels]\nrack = 1", "line 1: labels[...]: expected str, got int"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_key(text: str, said: str) -> None:
    assert told(text) == said


def test_of_tables_that_are_many_the_line_is_that_of_the_one_that_is_wrong() -> None:
    text = "[[many]]\nname='a'\nsize=1\n[[many]]\nname='b'\nsize='c'\n"
    assert told(text) == "line 6: many[1].size: expected int, got str"
    text = "[[many]]\nname='a'\n[one]\nname='x'\n[[many]]\nsize=1\n"
    assert told(text) == "line 5: many[1]: the key name is missing"


def test_a_key_that_is_written_in_a_way_not_looked_for_is_told_without_a_line() -> None:
    assert told('"o\\u006ee" = 1') == "one: expected object, got int"


def test_what_is_found_out_later_is_told_with_its_line_too() -> None:
    text = b"[[many]]\nname='a'\n[[many]]\nname='a'\n"
    error = BadKeyError("many[1].name", "a is listed more than once")
    assert placed(text, error) == "line 4: many[1].name: a is listed more than once"
    assert placed(b"", error) == "many[1].name: a is listed more than once"
    assert placed(b"\xff\n", error) == "many[1].name: a is listed more than once"
