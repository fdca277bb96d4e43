"""Text from guests and hosts, made harmless for a terminal.

A domain's name, a path or an error text may hold escape sequences that recolour, retitle or
rewrite what an operator sees, or marks that turn the reading direction around. We show such
characters, and never send them.
"""


def printable(text: str) -> str:
    """The same text on one line, every character that is not plain print written as an escape."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_lines(text: str) -> list[str]:
    """The lines of a longer text, each made printable. Only line feeds part lines."""
    return [printable(line) for line in text.expandtabs().split("\n")]


def one_line(text: str, *, at_most: int = 240) -> str:
    """A foreign error text cut down to what fits into one sentence of ours."""
    short = printable(" ".join(text.split()))
    return short if len(short) <= at_most else short[: at_most - 1] + "…"


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
