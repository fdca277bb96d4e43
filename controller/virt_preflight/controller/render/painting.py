"""Draw tables and text to a string: in the width and colours of a terminal, or plain.

Foreign text becomes rich's Text and never its markup, after it has been made printable, so what
a guest is called cannot colour, move or hide anything.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from virt_preflight.controller.answers import Verdict
from virt_preflight.controller.printable import printable
from virt_preflight.controller.render.forms import Look

# Wider than any line: nothing that goes to a file or a pipe is ever wrapped.
UNWRAPPED = 1_000_000
MARGIN = (0, 0, 0, 2)

STYLE_BY_VERDICT = {
    Verdict.CLEAR: "green",
    Verdict.RISKY: "yellow",
    Verdict.UNSURE: "magenta",
    Verdict.BLOCKED: "red",
}


@dataclass(frozen=True, slots=True)
class Unbroken:
    """Text that is never wrapped."""

    text: Text


Part = RenderableType | Unbroken


def paint(parts: Sequence[Part], look: Look) -> str:
    """The parts below each other. Lines have no trailing blanks."""
    canvas = io.StringIO()
    console = Console(
        file=canvas,
        width=look.width or UNWRAPPED,
        force_terminal=look.colour,
        color_system="standard" if look.colour else None,
        no_color=not look.colour,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        # Rich reads the environment for width and colour; that has been decided already.
        _environ={},
    )
    for part in parts:
        if isinstance(part, Unbroken):
            console.print(part.text, soft_wrap=True)
        else:
            console.print(part)
    return "".join(f"{line.rstrip(' ')}\n" for line in canvas.getvalue().splitlines())


def words(text: str, style: str = "") -> Text:
    """Text of whatever origin, harmless."""
    return Text(printable(text), style=style)


def unbroken(text: str) -> Unbroken:
    """A line to be copied: longer than the terminal, it runs on rather than being cut in two."""
    return Unbroken(words(text, "bold"))


def columns(*headings: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; the columns named in `right` hold numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        last = heading == headings[-1]
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=not last,
            overflow="fold",
        )
    return table


def indented(part: RenderableType) -> Padding:
    """Two blanks in from the left."""
    return Padding(part, MARGIN, expand=False)
