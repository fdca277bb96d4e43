"""A directory that answers like a host: what its source returned, unparsed, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from virt_preflight.agent.sources import (
    ABOUT_A_GUEST,
    BEYOND_LISTS,
    Absent,
    FileStat,
    Impossible,
    Refused,
    Source,
    SourceError,
    Unreached,
    Unreadable,
    User,
    Want,
)

FORMAT = 1
INDEX = "recording.json"
# Answers that are worth opening by themselves are files of their own.
IN_FILES = {"text", "libvirt", "image_alone", "open_vswitch"}
FORM_BY_VERB: Mapping[str, Any] = {
    "text": str,
    "names": tuple[str, ...],
    "link": str,
    "stat": FileStat,
    "may": bool,
    "file_system": str,
    "head": str,
    "digest": str,
    "image_alone": str,
    "user": User,
    "reach": None,
    "resolve": tuple[str, ...],
    "program": str,
    "bindable": bool,
    "open_vswitch": str,
    "libvirt": str,
}
ERRORS: Mapping[str, type[SourceError]] = {
    kind.__name__: kind for kind in (Absent, Refused, Unreadable, Unreached)
}

Asked = tuple[str, ...]
T = TypeVar("T")


class BadRecording(Exception):
    """The directory cannot be used as a recording; the text says which file and why."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One question and its answer, as the index keeps them: a value, a file or an error."""

    asked: Asked
    value: msgspec.Raw = msgspec.Raw()
    file: str = ""
    error: str = ""
    why: str = ""


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """recording.json."""

    format: int
    host: str
    recorded_at: str
    agent_version: str
    answers: list[Entry]


class Verbs:
    """Every verb of Source as one question: its name and its arguments."""

    def within(self, seconds: float) -> AbstractContextManager[None]:  # noqa: ARG002
        """A recording takes no time."""
        return nullcontext()

    def text(self, path: str) -> str:
        """As Source says, like all that follow."""
        return self._answer(str, "text", path)

    def head(self, path: str) -> str:
        """See Source."""
        return self._answer(str, "head", path)

    def digest(self, path: str) -> str:
        """See Source."""
        return self._answer(str, "digest", path)

    def names(self, path: str) -> tuple[str, ...]:
        """See Source."""
        return self._answer(tuple, "names", path)

    def link(self, path: str) -> str:
        """See Source."""
        return self._answer(str, "link", path)

    def stat(self, path: str) -> FileStat:
        """See Source."""
        return self._answer(FileStat, "stat", path)

    def may(self, path: str, want: Want, user: User) -> bool:
        """See Source."""
        return self._answer(bool, "may", path, want, user)

    def file_system(self, path: str) -> str:
        """See Source."""
        return self._answer(str, "file_system", path)

    def image_alone(self, path: str) -> str:
        """See Source."""
        return self._answer(str, "image_alone", path)

    def user(self, user: str, group: str) -> User:
        """See Source."""
        return self._answer(User, "user", user, group)

    def reach(self, host: str, port: int) -> None:
        """See Source."""
        self._answer(object, "reach", host, port)

    def resolve(self, name: str) -> tuple[str, ...]:
        """See Source."""
        return self._answer(tuple, "resolve", name)

    def program(self, name: str) -> str:
        """See Source."""
        return self._answer(str, "program", name)

    def bindable(self, address: str, port: int) -> bool:
        """See Source."""
        return self._answer(bool, "bindable", address, port)

    def open_vswitch(self) -> str:
        """See Source."""
        return self._answer(str, "open_vswitch")

    def libvirt(self, question: str, *arguments: str) -> str:
        """See Source."""
        return self._answer(str, "libvirt", question, *arguments)

    def _answer(self, form: type[T], verb: str, *arguments: object) -> T:
        raise NotImplementedError


def asked(verb: str, arguments: tuple[object, ...]) -> Asked:
    """The question as a recording keeps it."""
    return (verb, *(_word(argument) for argument in arguments))


def _word(argument: object) -> str:
    match argument:
        case Want():
            return argument.value
        case User():
            return argument.name
        case _:
            return str(argument)


@dataclass(frozen=True, kw_only=True)
class Recording(Verbs):
    """A Source that knows only what was asked when it was recorded."""

    host: str
    recorded_at: str
    agent_version: str
    # A raw answer, or the error that was the answer.
    answers: Mapping[Asked, object | SourceError]

    def generation(self) -> int:
        """A recording never changes."""
        return 0

    def _answer(self, form: type[T], verb: str, *arguments: object) -> T:
        question = asked(verb, arguments)
        if verb == "libvirt" and arguments[0] in ABOUT_A_GUEST:
            raise Impossible("a recording has no libvirt that could be asked")
        if verb == "resolve" and question not in self.answers:
            raise Impossible("a recording has no resolver that could be asked")
        if verb == "libvirt" and arguments[0] in BEYOND_LISTS and question not in self.answers:
            raise Absent("not in the recording's lists, which are taken to be whole")
        if question not in self.answers:
            raise Unreadable(f"not in the recording: {' '.join(question)}")
        answer = self.answers[question]
        if isinstance(answer, SourceError):
            # A kept exception that is raised again and again would keep every traceback with it.
            raise type(answer)(*answer.args)
        assert isinstance(answer, form)
        return answer


@dataclass(kw_only=True)
class Recorder(Verbs):
    """A Source that hands every question to another and keeps what came back."""

    source: Source
    answers: dict[Asked, object | SourceError] = field(default_factory=dict)

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Of the other."""
        return self.source.within(seconds)

    def generation(self) -> int:
        """Of the other."""
        return self.source.generation()

    def _answer(self, form: type[T], verb: str, *arguments: object) -> T:
        question = asked(verb, arguments)
        try:
            answer = getattr(self.source, verb)(*arguments)
        except SourceError as error:
            self.answers[question] = error
            raise
        self.answers[question] = answer
        assert isinstance(answer, form)
        return answer


def save(recording: Recording, directory: Path) -> None:
    """Write it into a directory that is new or empty. Raises BadRecording, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BadRecording(f"{directory} is not empty")
    entries = []
    for question, answer in sorted(recording.answers.items()):
        if isinstance(answer, SourceError):
            entries.append(Entry(asked=question, error=type(answer).__name__, why=str(answer)))
        elif question[0] in IN_FILES:
            name = f"answers/{len(entries):04}-{_file_name(question)}"
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(str(answer), encoding="utf-8")
            entries.append(Entry(asked=question, file=name))
        else:
            entries.append(Entry(asked=question, value=msgspec.Raw(msgspec.json.encode(answer))))
    index = Index(
        format=FORMAT,
        host=recording.host,
        recorded_at=recording.recorded_at,
        agent_version=recording.agent_version,
        answers=entries,
    )
    written = msgspec.json.format(msgspec.json.encode(index), indent=1)
    (directory / INDEX).write_bytes(written + b"\n")


def _file_name(question: Asked) -> str:
    """Something readable: proc-meminfo, domain-capabilities-x86_64..."""
    words = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(question)).strip("-.")
    return words[:80]


def load(directory: Path) -> Recording:
    """Raises BadRecording, which names the file and what is wrong with it."""
    path = directory / INDEX
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except OSError as error:
        raise BadRecording(f"{path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise BadRecording(f"{path}: {error}") from None
    if index.format != FORMAT:
        raise BadRecording(f"{path}: format {index.format}, this agent reads {FORMAT}")
    return Recording(
        host=index.host,
        recorded_at=index.recorded_at,
        agent_version=index.agent_version,
        answers={
            entry.asked: _loaded(directory, f"{path}: answer {number}", entry)
            for number, entry in enumerate(index.answers)
        },
    )


def _loaded(directory: Path, where: str, entry: Entry) -> object | SourceError:
    if entry.error:
        if entry.error not in ERRORS:
            raise BadRecording(f"{where}: no such error as {entry.error!r}")
        return ERRORS[entry.error](entry.why)
    if not entry.asked or entry.asked[0] not in FORM_BY_VERB:
        raise BadRecording(f"{where}: nobody asks {' '.join(entry.asked)!r}")
    if entry.file:
        return _text(directory, entry.file)
    if not entry.value:
        raise BadRecording(f"{where}: has neither value nor file nor error")
    try:
        answer: object = msgspec.json.decode(entry.value, type=FORM_BY_VERB[entry.asked[0]])
    except msgspec.MsgspecError as error:
        raise BadRecording(f"{where}: {error}") from None
    return answer


def _text(directory: Path, name: str) -> str:
    path = (directory / name).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise BadRecording(f"{directory / name}: outside the recording")
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRecording(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadRecording(f"{path}: {error}") from None
