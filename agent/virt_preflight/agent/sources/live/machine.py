"""The machine itself, through the verbs of Source."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from virt_preflight.agent.sources import Absent, FileStat, User, Want
from virt_preflight.agent.sources.live import files, programs, sockets
from virt_preflight.agent.sources.live.libvirtd import Libvirtd
from virt_preflight.agent.sources.live.stage import LiveStage
from virt_preflight.agent.sources.observer import UNOBSERVED, SourceObserver
from virt_preflight.agent.sources.patience import Patience

T = TypeVar("T")

FILE_WITHIN_S = 1.0
# The kernel's own files do not hang: no thread is spent on them.
KERNEL_FILES = ("/proc/", "/sys/")
IMAGES_AT_MOST = 4096
DIGESTS_AT_MOST = 4096


class LiveSource:
    """This host. Implements Source; see there for what each verb gives."""

    def __init__(self, uri: str = "qemu:///system", observer: SourceObserver = UNOBSERVED) -> None:
        self._patience = Patience(time.monotonic, observer)
        self._libvirtd = Libvirtd(uri, self._patience, observer)
        # The time that `within` gives is given to both doors.
        self.stage = LiveStage(uri, self._patience)
        self._images: dict[tuple[object, ...], str] = {}
        self._digests: dict[tuple[object, ...], str] = {}

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """See Source."""
        return self._patience.within(seconds)

    def generation(self) -> int:
        """Changes when libvirtd was restarted."""
        return self._libvirtd.generation()

    def text(self, path: str) -> str:
        """The text of a small file."""
        return self._file(path, lambda: files.read_text(path))

    def head(self, path: str) -> str:
        """The first bytes, read and no more."""
        return self._file(path, lambda: files.head(path))

    def digest(self, path: str) -> str:
        """Read again only when the file is another or was changed."""
        key = self._file(path, lambda: files.file_key(path))
        found = self._digests.get(key)
        if found is None:
            found = self._file(path, lambda: files.digest(path))
            if len(self._digests) >= DIGESTS_AT_MOST:
                self._digests.clear()
            self._digests[key] = found
        return found

    def names(self, path: str) -> tuple[str, ...]:
        """The names in a directory."""
        return self._file(path, lambda: tuple(sorted(os.listdir(path))))

    def link(self, path: str) -> str:
        """Where a symbolic link points."""
        return self._file(path, lambda: os.readlink(path))

    def stat(self, path: str) -> FileStat:
        """What is at the path."""
        return self._file(path, lambda: files.stat_of(path))

    def may(self, path: str, want: Want, user: User) -> bool:
        """access(2) as that user."""
        return self._file(path, lambda: files.may_as(path, want, user))

    def file_system(self, path: str) -> str:
        """The type of the file system."""
        return self._file(path, lambda: files.mounted(os.path.realpath(path))[1])

    def image_alone(self, path: str) -> str:
        """qemu-img's view of one image; asked again only when its header is another."""
        key = self._file(path, lambda: files.image_key(path))
        found = self._images.get(key)
        if found is None:
            command = [*programs.QEMU_IMG, "info", "--output=json", "-U", f"file:{path}"]
            found = self._patience.ask(
                files.holder(path),
                programs.WITHIN_S + 0.5,
                lambda: programs.run(command, programs.WITHIN_S),
            )
            if len(self._images) >= IMAGES_AT_MOST:
                self._images.clear()
            self._images[key] = found
        return found

    def user(self, user: str, group: str) -> User:
        """From the host's own user database."""
        return self._patience.ask(
            "the user database", FILE_WITHIN_S, lambda: files.look_up(user, group)
        )

    def reach(self, host: str, port: int) -> None:
        """A TCP connection, closed at once."""
        where = f"{host} port {port}"
        self._patience.ask(where, sockets.REACH_WITHIN_S + 0.5, lambda: sockets.connect(host, port))

    def resolve(self, name: str) -> tuple[str, ...]:
        """By getaddrinfo(3), as libvirtd does."""
        return self._patience.ask(
            "the resolver", sockets.RESOLVE_WITHIN_S, lambda: sockets.resolve(name)
        )

    def program(self, name: str) -> str:
        """Looked up where libvirtd would."""
        return programs.find(name)

    def bindable(self, address: str, port: int) -> bool:
        """From the kernel's tables; nothing is bound."""
        return sockets.could_listen(address, port)

    def open_vswitch(self) -> str:
        """The bridges of Open vSwitch."""
        return programs.run(["ovs-vsctl", "--timeout=2", "list-br"], 3.0)

    def libvirt(self, question: str, *arguments: str) -> str:
        """One of libvirt's documents."""
        return self._libvirtd.ask(question, arguments)

    def _file(self, path: str, question: Callable[[], T]) -> T:
        if not path.startswith("/") or "\0" in path:
            raise Absent(f"{path!r} is no absolute path")

        def put() -> T:
            try:
                return question()
            except OSError as error:
                raise files.file_error(path, error) from None

        if path.startswith(KERNEL_FILES):
            return put()
        # A dead mount is known by its mount point: its other files are then not asked at all.
        return self._patience.ask(files.holder(path), FILE_WITHIN_S, put)
