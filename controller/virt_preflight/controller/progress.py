"""A live counter of hosts on a terminal: one line on stderr, gone when the answer comes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from virt_preflight.controller.printable import one_line

ERASE_LINE = "\r\x1b[K"


@contextmanager
def counter(stream: TextIO) -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """What to tell what is being asked of how many; it gives back what to call per answer."""

    def start(what: str, of: int) -> Callable[[], None]:
        answered = 0

        def show() -> None:
            stream.write(f"{ERASE_LINE}{one_line(what, at_most=40)}: {answered} of {of} hosts")
            stream.flush()

        def count() -> None:
            nonlocal answered
            answered += 1
            show()

        show()
        return count

    try:
        yield start
    finally:
        stream.write(ERASE_LINE)
        stream.flush()
