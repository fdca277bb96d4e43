"""A deputy with the rights over files that the agent has not: it looks, and answers in a few words.

The agent hears strangers and parses what they send; so it runs as an ordinary user. Whether QEMU's
user may open a file, and what an image's header says, takes rights of root; so that is asked of
another process, which nobody else reaches and which has no network. It gives no file's content
away but of those in TEXTS.
"""

from __future__ import annotations

import posixpath
import re
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from virt_preflight.agent.sources import FileStat, Unreadable, User, Want
from virt_preflight.agent.sources.live import lines, programs
from virt_preflight.agent.sources.live.machine import FILE_WITHIN_S, KERNEL_FILES, LiveSource
from virt_preflight.agent.sources.observer import UNOBSERVED, Failed, SourceObserver

T = TypeVar("T")

WHOM = "the deputy"
# libvirt's settings, which only root may read; process ids of guests; what a kernel was built with.
TEXTS = re.compile(
    r"/etc/libvirt/[\w.-]+\.conf"
    r"|(?:/var)?/run/libvirt/qemu/[^/]+\.pid"
    r"|(?:/usr)?/lib/modules/[^/]+/modules\.(?:builtin|dep)"
)
# Beyond the deputy's own time for an answer.
MARGIN_S = 0.5


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of VERBS about a path; what `may` asks besides; the time that the asker has."""

    verb: str
    path: str = ""
    want: Want = Want.EXISTS
    user: User | None = None
    within_s: float = FILE_WITHIN_S


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

    def put(asked: Question) -> Any:
        verb = VERBS.get(asked.verb)
        if verb is None:
            raise Unreadable(f"{WHOM} has no word {asked.verb!r}")
        with source.within(asked.within_s):
            return verb(source, asked)

    return lines.answer(WHOM, Question, line, put)


def serve(listener: socket.socket, source: LiveSource) -> None:
    """Answer whoever the socket's mode lets in, for ever."""
    lines.serve(listener, partial(answer, source))


# ------------------------------------------------------------------------------- the agent's side


class ByDeputy(LiveSource):
    """This host, its files by way of the deputy. The kernel's own are there for everybody."""

    def __init__(self, uri: str, deputy: str, observer: SourceObserver = UNOBSERVED) -> None:
        super().__init__(uri, observer)
        self._observer = observer
        self._lines = lines.Lines(WHOM, deputy)

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
            WHOM, within_s + MARGIN_S, lambda: self._exchange(asked, within_s + MARGIN_S)
        )
        return lines.found(given, WHOM, form)

    def _exchange(self, asked: Question, within_s: float) -> lines.Answer:
        """In a thread that nobody may wait for any more; the observer is told all the same."""
        started = time.monotonic()
        failed: Failed | None = Failed.GARBLED
        try:
            given = self._lines.exchange(asked, within_s)
            failed = Failed.UNREADABLE if given.error == Unreadable.__name__ else None
            return given
        except Unreadable:
            failed = Failed.UNREACHED
            raise
        finally:
            self._observer.deputy_answered(asked.verb, time.monotonic() - started, failed)
