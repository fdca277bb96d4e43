"""Between two of our processes on one host: a question is a line of JSON, and so is its answer."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from virt_preflight.agent.sources import Absent, Refused, SourceError, Unreadable

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T")

# A question is a path, a user and his groups, or what is there before a rehearsal; an answer is at
# most a text of 1 MiB in JSON.
QUESTION_BYTES_AT_MOST = 1024 * 1024
ANSWER_BYTES_AT_MOST = 8 * 1024 * 1024
# An agent has a line for each of its threads that wait.
LINES_AT_MOST = 128
ERRORS: dict[str, type[SourceError]] = {
    kind.__name__: kind for kind in (Absent, Refused, Unreadable)
}


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found, or the name and the text of a SourceError."""

    found: Any = None
    error: str = ""
    why: str = ""


# ------------------------------------------------------------------------------ who is asked


def answer(whom: str, form: type[Q], line: bytes, put: Callable[[Q], Any]) -> bytes:
    """One question's answer, both as lines of JSON."""
    try:
        given = Answer(found=put(msgspec.convert(json.loads(line), form)))
    except SourceError as error:
        kind = type(error).__name__ if type(error).__name__ in ERRORS else "Unreadable"
        given = Answer(error=kind, why=str(error))
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        given = Answer(error="Unreadable", why=f"{whom} was not understood: {error}")
    # json, not msgspec: a name in a directory may be no UTF-8, and comes back as it was.
    return json.dumps(msgspec.to_builtins(given)).encode() + b"\n"


def serve(listener: socket.socket, answered: Callable[[bytes], bytes]) -> None:
    """Answer whoever the socket's mode lets in, for ever; a thread for each line."""
    lines = threading.BoundedSemaphore(LINES_AT_MOST)
    while True:
        line, _ = listener.accept()
        if not lines.acquire(blocking=False):
            logging.warning("%d lines are open, one more is refused", LINES_AT_MOST)
            line.close()
            continue
        threading.Thread(target=_attend, args=(line, answered, lines), daemon=True).start()


def _attend(
    line: socket.socket, answered: Callable[[bytes], bytes], lines: threading.BoundedSemaphore
) -> None:
    try:
        with line, line.makefile("rb") as heard, suppress(OSError):
            while asked := heard.readline(QUESTION_BYTES_AT_MOST):
                line.sendall(answered(asked))
    finally:
        lines.release()


def listener_of_systemd() -> socket.socket | None:
    """The socket that systemd hands over (sd_listen_fds(3)); None when it hands over none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=3)


# ---------------------------------------------------------------------------------- who asks


class Lines:
    """To one who is asked. A question takes a line on which nobody waits, or makes a new one."""

    def __init__(self, whom: str, address: str) -> None:
        self._whom = whom
        self._address = address
        self._idle: list[socket.socket] = []
        weakref.finalize(self, _hang_up, self._idle)

    def exchange(self, asked: msgspec.Struct, within_s: float) -> Answer:
        """Over an idle line, over a new one when there is none or it was cut."""
        with suppress(IndexError):
            kept = self._idle.pop()
            with suppress(OSError, EOFError):
                return self._over(kept, asked, within_s)
            kept.close()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.settimeout(within_s)
            line.connect(self._address)
            return self._over(line, asked, within_s)
        except (OSError, EOFError) as error:
            line.close()
            raise Unreadable(f"no word from {self._whom} at {self._address}: {error}") from None

    def _over(self, line: socket.socket, asked: msgspec.Struct, within_s: float) -> Answer:
        """The line is kept for the next question once its answer was heard whole."""
        line.settimeout(within_s)
        line.sendall(json.dumps(msgspec.to_builtins(asked)).encode() + b"\n")
        heard = bytearray()
        while not heard.endswith(b"\n"):
            if len(heard) > ANSWER_BYTES_AT_MOST or not (part := line.recv(65536)):
                raise EOFError("the line was cut")
            heard += part
        self._idle.append(line)
        return msgspec.convert(json.loads(heard), Answer)


def _hang_up(lines: list[socket.socket]) -> None:
    for line in lines:
        line.close()


def found(given: Answer, whom: str, form: type[T]) -> T:
    """What an answer holds. Raises the SourceError that it is."""
    if given.error:
        raise ERRORS.get(given.error, Unreadable)(given.why)
    try:
        return msgspec.convert(given.found, form)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"{whom}'s answer: {error}") from None
