import pytest

from virt_preflight.controller.printable import one_line, printable, printable_lines


def test_plain_text_of_any_language_stays_as_it_is() -> None:
    assert printable("Datenbank für Ægir, 数据库 · 4 ×") == "Datenbank für Ægir, 数据库 · 4 ×"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb", "a\\x0db"),
        ("a\nb", "a\\x0ab"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202etxt", "abc\\u202etxt"),
        ("\U000e0001", "\\U000e0001"),
        ("\udcff", "\\udcff"),
        ("\x00", "\\x00"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_and_not_sent(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


def test_longer_text_keeps_its_lines_and_nothing_else() -> None:
    assert printable_lines("one\n\ttwo\x1b\rthree") == ["one", "        two\\x1b\\x0dthree"]


def test_a_foreign_error_is_cut_down_to_one_line() -> None:
    assert one_line("bad\n   thing") == "bad thing"
    assert one_line("x" * 30, at_most=10) == "x" * 9 + "…"
