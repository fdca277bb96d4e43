"""A deputy with the rights over files that the agent has not: it looks, and answers in a few words.

The agent hears strangers and parses what they send; so it runs as an ordinary user. Whether QEMU's
user may open a file, and what an image's header says, takes rights of root; so that is asked of
another process, which nobody else reaches and which has no network. It gives no file's content
away but of those in TEXTS.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from virt_preflight.agent.sources import (
    Absent,
    FileStat,
    Refused,
    SourceError,
    Unreadable,
    User,
    Want,
)
from virt_preflight.agent.sources.live import programs
from virt_preflight.agent.sources.live.machine import FILE_WITHIN_S, KERNEL_FILES, LiveSource
from virt_preflight.agent.sources.observer import UNOBSERVED, SourceObserver

T = TypeVar("T")

# libvirt's settings, which only root may read; process ids of guests; what a kernel was built with.
TEXTS = re.compile(
    r"/etc/libvirt/[\w.-]+\.conf"
    r"|(?:/var)?/run/libvirt/qemu/[^/]+\.pid"
    r"|(?:/usr)?/lib/modules/[^/]+/modules\.(?:builtin|dep)"
)
# A question is a path, a user and his groups; an answer at most a text of 1 MiB in JSON.
QUESTION_BYTES_AT_MOST = 1024 * 1024
ANSWER_BYTES_AT_MOST = 8 * 1024 * 1024
# An agent has a line for each of its threads that wait.
LINES_AT_MOST = 128
# Beyond the deputy's own time for an answer.
MARGIN_S = 0.5
ERRORS: dict[str, type[SourceError]] = {
    kind.__name__: kind for kind in (Absent, Refused, Unreadable)
}


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of VERBS about a path; what `may` asks besides; the time that the asker has."""

    verb: str
    path: str = ""
    want: Want = Want.EXISTS
    user: User | None = None
    within_s: float = FILE_WITHIN_S


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found, or the name and the text of a SourceError."""

    found: Any = None
    error: str = ""
    why: str = ""


# ------------------------------------------------------------------------------ the deputy's side


def _text(source: LiveSource, asked: Question) -> str:
    if not TEXTS.fullmatch(posixpath.normpath(asked.path)):
        raise Unreadable(f"{asked.path}: the deputy reads no such file out")
    return source.text(asked.path)


def _may(source: LiveSource, asked: Question) -> bool:
    if asked.user is None:
        raise Unreadable("as whom?")
    return source.may(asked.path, asked.want, asked.user)


VERBS: dict[str, Callable[[LiveSource, Question], Any]] = {
    "text": _text,
    "may": _may,
    "head": lambda source, asked: source.head(asked.path),
    "digest": lambda source, asked: source.digest(asked.path),
    "names": lambda source, asked: source.names(asked.path),
    "link": lambda source, asked: source.link(asked.path),
    "stat": lambda source, asked: source.stat(asked.path),
    "file_system": lambda source, asked: source.file_system(asked.path),
    "image_alone": lambda source, asked: source.image_alone(asked.path),
    "open_vswitch": lambda source, _: source.open_vswitch(),
}


def answer(source: LiveSource, line: bytes) -> bytes:
    """One question's answer, both as lines of JSON."""
    try:
        asked = msgspec.convert(json.loads(line), Question)
        verb = VERBS.get(asked.verb)
        if verb is None:
            raise Unreadable(f"the deputy has no word {asked.verb!r}")
        with source.within(asked.within_s):
            given = Answer(found=verb(source, asked))
    except SourceError as error:
        kind = type(error).__name__ if type(error).__name__ in ERRORS else "Unreadable"
        given = Answer(error=kind, why=str(error))
    except (ValueError, msgspec.MsgspecError) as error:
        given = Answer(error="Unreadable", why=f"the deputy was not understood: {error}")
    # json, not msgspec: a name in a directory may be no UTF-8, and comes back as it was.
    return json.dumps(msgspec.to_builtins(given)).encode() + b"\n"


def serve(listener: socket.socket, source: LiveSource) -> None:
    """Answer whoever the socket's mode lets in, for ever; a thread for each line."""
    lines = threading.BoundedSemaphore(LINES_AT_MOST)
    while True:
        line, _ = listener.accept()
        if not lines.acquire(blocking=False):
            logging.warning("%d lines are open, one more is refused", LINES_AT_MOST)
            line.close()
            continue
        threading.Thread(target=_attend, args=(line, source, lines), daemon=True).start()


def _attend(line: socket.socket, source: LiveSource, lines: threading.BoundedSemaphore) -> None:
    try:
        with line, line.makefile("rb") as heard, suppress(OSError):
            while asked := heard.readline(QUESTION_BYTES_AT_MOST):
                line.sendall(answer(source, asked))
    finally:
        lines.release()


def listener_of_systemd() -> socket.socket | None:
    """The socket that systemd hands over (sd_listen_fds(3)); None when it hands over none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=3)


# ------------------------------------------------------------------------------- the agent's side


class ByDeputy(LiveSource):
    """This host, its files by way of the deputy. The kernel's own are there for everybody."""

    def __init__(self, uri: str, deputy: str, observer: SourceObserver = UNOBSERVED) -> None:
        super().__init__(uri, observer)
        self._deputy = deputy
        # Lines on which nobody waits: a question takes one, or makes one.
        self._idle: list[socket.socket] = []
        weakref.finalize(self, _hang_up, self._idle)

    def text(self, path: str) -> str:
        """Of most files anybody may."""
        if TEXTS.fullmatch(posixpath.normpath(path)):
            return self._of("text", path, str)
        return super().text(path)

    def head(self, path: str) -> str:
        """See Source."""
        return self._of("head", path, str)

    def digest(self, path: str) -> str:
        """See Source."""
        return self._of("digest", path, str)

    def names(self, path: str) -> tuple[str, ...]:
        """See Source."""
        if path.startswith(KERNEL_FILES):
            return super().names(path)
        return self._of("names", path, tuple[str, ...])

    def link(self, path: str) -> str:
        """See Source."""
        if path.startswith(KERNEL_FILES):
            return super().link(path)
        return self._of("link", path, str)

    def stat(self, path: str) -> FileStat:
        """See Source."""
        return self._of("stat", path, FileStat)

    def may(self, path: str, want: Want, user: User) -> bool:
        """See Source."""
        return self._ask(Question(verb="may", path=path, want=want, user=user), bool)

    def file_system(self, path: str) -> str:
        """See Source."""
        return self._of("file_system", path, str)

    def image_alone(self, path: str) -> str:
        """See Source."""
        return self._of("image_alone", path, str, within_s=programs.WITHIN_S + 0.5)

    def open_vswitch(self) -> str:
        """See Source."""
        return self._of("open_vswitch", "", str, within_s=3.0)

    def _of(self, verb: str, path: str, form: type[T], within_s: float = FILE_WITHIN_S) -> T:
        return self._ask(Question(verb=verb, path=path, within_s=within_s), form)

    def _ask(self, asked: Question, form: type[T]) -> T:
        within_s = min(asked.within_s, self._patience.left_s())
        asked = msgspec.structs.replace(asked, within_s=within_s)
        given = self._patience.ask(
            "the deputy", within_s + MARGIN_S, lambda: self._exchange(asked, within_s + MARGIN_S)
        )
        if given.error:
            raise ERRORS.get(given.error, Unreadable)(given.why)
        try:
            return msgspec.convert(given.found, form)
        except msgspec.MsgspecError as error:
            raise Unreadable(f"the deputy's answer: {error}") from None

    def _exchange(self, asked: Question, within_s: float) -> Answer:
        """Over an idle line, over a new one when there is none or it was cut."""
        with suppress(IndexError):
            kept = self._idle.pop()
            with suppress(OSError, EOFError):
                return self._over(kept, asked, within_s)
            kept.close()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.settimeout(within_s)
            line.connect(self._deputy)
            return self._over(line, asked, within_s)
        except (OSError, EOFError) as error:
            line.close()
            raise Unreadable(f"no word from the deputy at {self._deputy}: {error}") from None

    def _over(self, line: socket.socket, asked: Question, within_s: float) -> Answer:
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
