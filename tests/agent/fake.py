"""A host made of dictionaries: each test writes down just what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar

from virt_preflight.agent.sources import (
    BEYOND_LISTS,
    Absent,
    FileStat,
    SourceError,
    Unreadable,
    User,
    Want,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSource:
    """An entry may be an error, which is then raised; what has no entry is Absent or Unreadable."""

    texts: Mapping[str, str | SourceError] = field(default_factory=dict)
    # Hexadecimal; a path without an entry begins with nothing that anybody knows.
    heads: Mapping[str, str | SourceError] = field(default_factory=dict)
    digests: Mapping[str, str | SourceError] = field(default_factory=dict)
    directories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, FileStat | SourceError] = field(default_factory=dict)
    # (path, want, user's name)
    mays: Mapping[tuple[str, Want, str], bool | SourceError] = field(default_factory=dict)
    file_systems: Mapping[str, str] = field(default_factory=dict)
    images_alone: Mapping[str, str | SourceError] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    reaches: Mapping[tuple[str, int], SourceError | None] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, ...] | SourceError] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    bindables: Mapping[tuple[str, int], bool] = field(default_factory=dict)
    switches: str | SourceError = field(default_factory=lambda: Absent("no Open vSwitch"))
    # (question, *arguments)
    answers: Mapping[tuple[str, ...], str | SourceError] = field(default_factory=dict)

    def within(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def generation(self) -> int:
        return 0

    def text(self, path: str) -> str:
        return given(self.texts.get(path, Absent(path)))

    def head(self, path: str) -> str:
        return given(self.heads.get(path, "00" * 16))

    def digest(self, path: str) -> str:
        return given(self.digests.get(path, Unreadable(path)))

    def names(self, path: str) -> tuple[str, ...]:
        return given(self.directories.get(path, Absent(path)))

    def link(self, path: str) -> str:
        return given(self.links.get(path, Absent(path)))

    def stat(self, path: str) -> FileStat:
        return given(self.stats.get(path, Absent(path)))

    def may(self, path: str, want: Want, user: User) -> bool:
        return given(self.mays.get((path, want, user.name), Absent(path)))

    def file_system(self, path: str) -> str:
        return given(self.file_systems.get(path, Unreadable(path)))

    def image_alone(self, path: str) -> str:
        return given(self.images_alone.get(path, Absent(path)))

    def user(self, user: str, group: str) -> User:
        return given(self.users.get(user, Absent(user)))

    def reach(self, host: str, port: int) -> None:
        return given(self.reaches.get((host, port), Unreadable(host)))

    def resolve(self, name: str) -> tuple[str, ...]:
        return given(self.addresses.get(name, Absent(f"{name}: Name or service not known")))

    def program(self, name: str) -> str:
        return given(self.programs.get(name, Absent(name)))

    def bindable(self, address: str, port: int) -> bool:
        return given(self.bindables.get((address, port), Unreadable(address)))

    def open_vswitch(self) -> str:
        return given(self.switches)

    def libvirt(self, question: str, *arguments: str) -> str:
        unanswered = Absent(question) if question in BEYOND_LISTS else Unreadable(question)
        return given(self.answers.get((question, *arguments), unanswered))


T = TypeVar("T")


def given(answer: T | SourceError) -> T:
    if isinstance(answer, SourceError):
        raise copy(answer)
    return answer
