import io

import pytest

from virt_preflight.controller.progress import ERASE_LINE, counter


def test_hosts_are_counted_on_one_line_that_is_gone_at_the_end() -> None:
    stream = io.StringIO()
    with counter(stream) as watch:
        count = watch("asking", 2)
        count()
        count()
    assert stream.getvalue().split(ERASE_LINE) == [
        "",
        "asking: 0 of 2 hosts",
        "asking: 1 of 2 hosts",
        "asking: 2 of 2 hosts",
        "",
    ]


def interrupted(stream: io.StringIO) -> None:
    with counter(stream) as watch:
        watch("looking for \x1b[2J", 1)
        raise KeyboardInterrupt


def test_the_line_is_gone_after_an_error_too() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        interrupted(stream)
    assert stream.getvalue().endswith(ERASE_LINE)
    assert "\x1b[2J" not in stream.getvalue()
