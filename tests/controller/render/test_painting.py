from virt_preflight.controller.render.forms import PLAIN, Look
from virt_preflight.controller.render.painting import columns, indented, paint, unbroken, words


def test_nothing_is_wrapped_where_there_is_no_terminal() -> None:
    long = "word " * 500
    assert paint([words(long)], PLAIN) == long.rstrip() + "\n"


def test_a_terminal_s_width_is_kept() -> None:
    assert max(map(len, paint([words("word " * 50)], Look(width=40)).splitlines())) <= 40


def test_a_command_to_copy_is_never_cut_in_two() -> None:
    command = "virsh " + "x" * 100
    assert paint([unbroken(command)], Look(width=40)) == command + "\n"


def test_the_last_column_wraps_inside_its_own_column() -> None:
    table = columns("HOST", "WHY")
    table.add_row(words("h1"), words("one two three four five"))
    assert paint([indented(table)], Look(width=22)) == (
        "  HOST  WHY\n  h1    one two three\n        four five\n"
    )


def test_markup_and_control_characters_are_shown_and_do_nothing() -> None:
    hostile = "[red]x[/red] [link=http://e]y[/link] \x1b[2J :smile:"
    assert paint([words(hostile)], Look(width=200, colour=True)) == (
        "[red]x[/red] [link=http://e]y[/link] \\x1b[2J :smile:\n"
    )


def test_without_colour_there_is_not_one_escape() -> None:
    assert "\x1b" not in paint([words("x", "bold red"), unbroken("y")], Look(width=80))


def test_with_colour_there_is() -> None:
    assert paint([words("x", "red")], Look(width=80, colour=True)) == "\x1b[31mx\x1b[0m\n"
