"""What listens where an agent should be is none: the line carries noise, or hardly anything."""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.controller.fakes import running
from tests.controller.samples import DOMAIN_XML, destination, source
from tests.service.controllers import best, controller
from virt_preflight.controller.answers import Heard, Silent
from virt_preflight.controller.client import Controller
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.question import GuestFile, Question, Questions

MORE_S = 30.0
DB1 = Question(guest="db1", options=MigrationOptions(live=True, p2p=True), questions=Questions())

# An HTTP/2 frame is its length, type, flags and stream (RFC 9113, 4.1); type 4 is SETTINGS.
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
NONSENSE = {
    "random bytes": random.Random(4).randbytes(4096),
    "a web page": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhoi\n",
    "half a frame": SETTINGS + b"\x00\x40\x00\x00",
    "data for a call that nobody made": SETTINGS + b"\x00\x00\x04\x00\x01\x00\x00\x00\x09junk",
    "hung up at once": b"",
}


@contextlib.contextmanager
def talking(path: str, says: bytes, pause_s: float) -> Iterator[None]:
    """A socket where each caller is told that, and is hung up on.

    With a pause it comes byte by byte, and nobody is hung up on.
    """
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def talk(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            if not pause_s:
                line.sendall(says)
                return
            for byte in says:
                line.sendall(bytes([byte]))
                if ended.wait(pause_s):
                    return
            ended.wait()

    def accept(listener: socket.socket) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                line, _ = listener.accept()
                threads.append(threading.Thread(target=talk, args=(line,)))
                threads[-1].start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        listener.settimeout(0.1)
        accepting = threading.Thread(target=accept, args=(listener,))
        accepting.start()
        try:
            yield
        finally:
            ended.set()
            accepting.join()
            for one in threads:
                one.join()
    Path(path).unlink()


def why_missing(says: bytes, pause_s: float = 0.0) -> str:
    """What is said of such a host; an agent in its place is then found without further ado."""
    with tempfile.TemporaryDirectory(prefix="vp-") as place, contextlib.ExitStack() as until:
        at = Path(place) / "h2"
        fleet = until.enter_context(running(source(), destination("h3")))
        address = until.enter_context(controller(f"{fleet.hosts},h2=unix:{at}"))
        asked = until.enter_context(Controller(address))
        with talking(str(at), says, pause_s):
            started = time.monotonic()
            said, _ = asked.dry_run(DB1, timeout_s=3, within_s=MORE_S)
            assert time.monotonic() - started < MORE_S
        with running(destination("h2")) as real:
            at.symlink_to(real.addresses["h2"].removeprefix("unix:"))
            assert best(asked.rank("db1", within_s=MORE_S)) == ["h2", "h3"]
    answers = {one.host: one for one in said.answers}
    assert isinstance(answers["h3"], Heard)
    assert isinstance(answers["h2"], Silent)
    return answers["h2"].why


@pytest.mark.parametrize("says", NONSENSE.values(), ids=NONSENSE)
def test_a_line_that_talks_nonsense_is_one_missing_host(says: bytes) -> None:
    assert why_missing(says)


@pytest.mark.parametrize("says", [SETTINGS * 50, b""], ids=["a byte at a time", "never a word"])
def test_a_line_that_says_next_to_nothing_is_given_up_at_its_time(says: bytes) -> None:
    assert why_missing(says, pause_s=0.3) == "no answer within 3 s"


def test_a_line_that_never_says_a_word_is_not_waited_for_much_longer_than_others(
    tmp_path: Path,
) -> None:
    guest = GuestFile(name="new.xml", xml=DOMAIN_XML)
    at = str(tmp_path / "h1")
    with (
        talking(at, b"", 0.3),
        controller(f"h1=unix:{at}") as address,
        Controller(address) as asked,
    ):
        said, _ = asked.dry_run(replace(DB1, guest=guest), timeout_s=40)
    (answer,) = said.answers
    assert isinstance(answer, Silent)
    assert answer.why == "who listens there does not answer"
