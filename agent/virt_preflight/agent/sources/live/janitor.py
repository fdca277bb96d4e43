"""A janitor with rights over files: puts a destination back after a rehearsal, and no more.

The agent hears strangers, so it may change nothing. What libvirt made or took for a guest that was
rehearsed is put back by another process, which nobody else reaches and which has no network. It
believes nobody: what an agent says was absent, or whose, it sees for itself before it writes that
down; afterwards it removes what it had seen to be absent, gives back to whom it had seen it belong,
and refuses the rest.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import libvirt
import msgspec

from virt_preflight.agent.sources import Absent, Refused, Unreadable
from virt_preflight.agent.sources.live import lines
from virt_preflight.agent.sources.live.clearing import remembered
from virt_preflight.agent.sources.live.libvirtd import WITHIN_S, own_connection, words
from virt_preflight.agent.sources.observer import UNOBSERVED, SourceObserver
from virt_preflight.agent.sources.patience import Patience
from virt_preflight.agent.sources.rehearsing import NVRAM_DIRECTORY, SWTPM_DIRECTORY

WHOM = "the janitor"
# Its notes; the unit makes the folder, and a reboot removes it, as it does all that a rehearsal
# could have left running.
FOLDER = Path("/run/virt-preflight-janitor")
# The right without which libvirt says that there is no such volume.
SEEING = "org.libvirt.api.storage-vol.getattr"
# Rehearsals under way on one host.
NOTES_AT_MOST = 64
# Beyond the janitor's own time for an answer.
MARGIN_S = 1.0


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of VERBS, about a guest or a path."""

    verb: str
    uuid: str = ""
    path: str = ""
    notes: str = ""
    uid: int = -1
    gid: int = -1


class Owner(msgspec.Struct, frozen=True):
    """Which file it is, and whose."""

    device: int
    inode: int
    uid: int
    gid: int


class Said(msgspec.Struct, frozen=True):
    """What of an agent's notes (asks/attendance.py, Notes) the janitor answers for."""

    absent_files: tuple[str, ...]
    absent_directories: tuple[str, ...]
    absent_images: tuple[str, ...]
    absent_volumes: tuple[tuple[str, str], ...]
    owned: Mapping[str, Owner]
    remembered: Mapping[str, Mapping[str, bytes]]


class Seen(msgspec.Struct, frozen=True):
    """A note as it is kept: the agent's words, and the folders that what was absent would be in."""

    notes: str
    said: Said
    # By path: device and inode of its folder; a path whose folder is not there is in none.
    folders: Mapping[str, tuple[int, int]]


# ----------------------------------------------------------------------------- the janitor's side


class Janitor:
    """This host's files and volumes, and what was seen of them before."""

    def __init__(self, uri: str, folder: Path = FOLDER) -> None:
        self._uri = uri
        self._folder = folder
        self._patience = Patience(time.monotonic)
        self._guard = threading.Lock()

    def answer(self, line: bytes) -> bytes:
        """One order's answer, both as lines of JSON."""
        return lines.answer(WHOM, Order, line, self._do)

    def _do(self, order: Order) -> Any:
        verb = VERBS.get(order.verb)
        if verb is None:
            raise Unreadable(f"{WHOM} has no word {order.verb!r}")
        # A dead mount under one path, a libvirtd that hangs: nobody else waits for it.
        return self._patience.ask(order.path or order.uuid, WITHIN_S, lambda: verb(self, order))

    # --------------------------------------------------------------------------------- notes

    def write_down(self, order: Order) -> None:
        """After having seen for itself that it is so."""
        place = self._place(order.uuid)
        try:
            said = msgspec.json.decode(order.notes, type=Said)
        except msgspec.MsgspecError as error:
            raise Refused(f"{WHOM} was not understood: notes: {error}") from None
        folders = {}
        for path in (*said.absent_files, *said.absent_directories, *said.absent_images):
            # What is for this guest's TPM alone, and nothing else, goes with all that is in it.
            if path in said.absent_directories and path != f"{SWTPM_DIRECTORY}/{place.name}":
                raise Refused(f"{path} is not where libvirt keeps the TPM of {place.name}")
            if (folder := _absent_in(path)) is not None:
                folders[path] = folder
        for path, owner in said.owned.items():
            if _owner(os.stat, path) != owner:
                raise Refused(f"{path} is not as it was noted")
        for path, kept in said.remembered.items():
            if path not in said.owned or _remembered(path) != kept:
                raise Refused(f"what libvirt has written down at {path} is not as it was noted")
        self._no_such_volumes(said.absent_volumes)
        for path in said.absent_images:
            # Whether libvirt lets us in at all has to be known before it makes one.
            with suppress(Absent), self._libvirt() as here:
                here.storageVolLookupByPath(path)
        seen = Seen(notes=order.notes, said=said, folders=folders)
        with self._guard:
            if len(os.listdir(self._folder)) >= NOTES_AT_MOST:
                raise Refused(f"{NOTES_AT_MOST} rehearsals are under way")
            try:
                with open(place, "xb") as note:
                    note.write(msgspec.json.encode(seen))
            except FileExistsError:
                raise Refused("another rehearsal of the guest is under way") from None

    def written_down(self, _: Order) -> Mapping[str, str]:
        """The agent's own words, by the guest's UUID."""
        return {place.name: seen.notes for place, seen in self._notes()}

    def cross_out(self, order: Order) -> None:
        """Nothing of that guest's is put back any more."""
        self._place(order.uuid).unlink(missing_ok=True)

    def _place(self, uuid: str) -> Path:
        return self._folder / str(UUID(uuid))

    def _notes(self) -> Iterator[tuple[Path, Seen]]:
        for place in sorted(self._folder.iterdir()):
            # Killed as it wrote, before anything was rehearsed: no note.
            with suppress(OSError, msgspec.MsgspecError):
                yield place, msgspec.json.decode(place.read_bytes(), type=Seen)

    # ------------------------------------------------------------------------- what is removed

    def remove_file(self, order: Order) -> None:
        """A file or socket that was seen to be absent, and that nobody has written to since."""
        path = order.path
        folder = self._folder_of(path, lambda said: said.absent_files)
        with _opened(folder, path) as (above, name):
            found = os.lstat(name, dir_fd=above) if above is not None else None
            if found is None:
                return
            # Only libvirt makes files where it keeps firmware's variables, and it fills them.
            libvirts = path.startswith(NVRAM_DIRECTORY)
            ours = stat.S_ISREG(found.st_mode) or stat.S_ISSOCK(found.st_mode)
            if not ours or (found.st_size and not libvirts):
                raise Refused(f"{path}: somebody has written to it")
            os.unlink(name, dir_fd=above)

    def remove_directory(self, order: Order) -> None:
        """Of an emulated TPM that was seen to be absent."""
        folder = self._folder_of(order.path, lambda said: said.absent_directories)
        assert shutil.rmtree.avoids_symlink_attacks, "Linux has openat(2)"
        with _opened(folder, order.path) as (above, name):
            if above is not None:
                shutil.rmtree(name, dir_fd=above)

    def _folder_of(
        self, path: str, listed: Callable[[Said], tuple[str, ...]]
    ) -> tuple[int, int] | None:
        """Of a path that was seen to be absent; None when not even its folder was there."""
        for _, seen in self._notes():
            if path in listed(seen.said):
                return seen.folders.get(path)
        raise Refused(f"{path} was not seen to be absent")

    def remove_volume(self, order: Order) -> None:
        """By libvirt, so that its pool knows."""
        try:
            with self._libvirt() as here:
                volume = here.storageVolLookupByPath(order.path)
                found = (volume.storagePoolLookupByVolume().name(), volume.name())
                for _, seen in self._notes():
                    if order.path in seen.said.absent_images or found in seen.said.absent_volumes:
                        volume.delete(0)
                        return
                raise Refused(f"{order.path} was not seen to be absent")
        except Absent as error:
            # Gone already is as good; but libvirt says the same to who may not see it.
            if os.path.lexists(order.path):
                raise Refused(f"{error}, and there it is: {SEEING} is missing") from None

    def _no_such_volumes(self, volumes: tuple[tuple[str, str], ...]) -> None:
        for pool, name in volumes:
            with suppress(Absent), self._libvirt() as here:
                if name in here.storagePoolLookupByName(pool).listVolumes():
                    raise Refused(f"the volume {name} of pool {pool} is there")

    @contextmanager
    def _libvirt(self) -> Iterator[Any]:
        try:
            with own_connection(self._uri) as connection:
                yield connection
        except libvirt.libvirtError as error:
            gone = (libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_NO_STORAGE_POOL)
            if error.get_error_code() in gone:
                raise Absent(words(error)) from None
            raise Refused(words(error)) from None

    # --------------------------------------------------------------------- what is given back

    def remembered(self, order: Order) -> Mapping[str, str]:
        """In hexadecimal, for the line."""
        return {name: value.hex() for name, value in _remembered(order.path).items()}

    def remember(self, order: Order) -> None:
        """As it was seen: what the agent says now does not count."""
        for _, seen in self._notes():
            if (kept := seen.said.remembered.get(order.path)) is not None:
                with _very(order.path, seen.said.owned[order.path]) as held:
                    for name, value in kept.items():
                        os.setxattr(held, name, value)
                return
        raise Refused(f"nothing was noted of {order.path}")

    def give_back(self, order: Order) -> None:
        """To whom it was seen to belong, and nobody else."""
        for _, seen in self._notes():
            owner = seen.said.owned.get(order.path)
            if owner is not None and (owner.uid, owner.gid) == (order.uid, order.gid):
                with _very(order.path, owner) as held:
                    os.chown(held, owner.uid, owner.gid)
                return
        raise Refused(f"{order.path} did not belong to {order.uid}:{order.gid}")


VERBS: dict[str, Callable[[Janitor, Order], Any]] = {
    "write_down": Janitor.write_down,
    "written_down": Janitor.written_down,
    "cross_out": Janitor.cross_out,
    "remove_file": Janitor.remove_file,
    "remove_directory": Janitor.remove_directory,
    "remove_volume": Janitor.remove_volume,
    "remembered": Janitor.remembered,
    "remember": Janitor.remember,
    "give_back": Janitor.give_back,
}


def _absent_in(path: str) -> tuple[int, int] | None:
    """The folder of something that is not there; None when the folder is not either."""
    if not posixpath.isabs(path) or posixpath.normpath(path) != path:
        raise Refused(f"{path} is no plain path")
    with suppress(FileNotFoundError):
        os.lstat(path)
        raise Refused(f"{path} is there")
    try:
        found = os.stat(posixpath.dirname(path))
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _opened(folder: tuple[int, int] | None, path: str) -> Iterator[tuple[int | None, str]]:
    """The very folder that was seen, not one that a link leads to since; None when it is gone."""
    above, name = posixpath.split(path)
    try:
        opened = os.open(above, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield None, name
        return
    try:
        found = os.fstat(opened)
        if folder is not None and (found.st_dev, found.st_ino) != folder:
            raise Refused(f"{above} is another folder than before")
        with suppress(FileNotFoundError):
            yield opened, name
    finally:
        os.close(opened)


@contextmanager
def _very(path: str, owner: Owner) -> Iterator[str]:
    """A name for the very file that was seen, whatever the path leads to in a moment."""
    held = os.open(path, os.O_PATH)
    try:
        found = os.fstat(held)
        if (found.st_dev, found.st_ino) != (owner.device, owner.inode):
            raise Refused(f"{path} is another file than before")
        yield f"/proc/self/fd/{held}"
    finally:
        os.close(held)


def _owner(look: Callable[[str], os.stat_result], path: str) -> Owner:
    found = look(path)
    return Owner(device=found.st_dev, inode=found.st_ino, uid=found.st_uid, gid=found.st_gid)


def _remembered(path: str) -> Mapping[str, bytes]:
    """Fine when there is no such file, or none of its file system has such notes."""
    try:
        return remembered(path)
    except OSError:
        return {}


# ----------------------------------------------------------------------------- the agent's side


class BroomOfJanitor:
    """Implements Broom by asking the janitor."""

    def __init__(self, address: str, observer: SourceObserver = UNOBSERVED) -> None:
        self._lines = lines.Lines(WHOM, address)
        self._patience = Patience(time.monotonic, observer)

    def write_down(self, uuid: str, notes: str) -> None:
        """See Broom."""
        self._order(Order(verb="write_down", uuid=uuid, notes=notes))

    def written_down(self) -> Mapping[str, str]:
        """See Broom."""
        return self._told(Order(verb="written_down"))

    def cross_out(self, uuid: str) -> None:
        """See Broom."""
        self._order(Order(verb="cross_out", uuid=uuid))

    def remove_file(self, path: str) -> None:
        """See Broom."""
        self._order(Order(verb="remove_file", path=path))

    def remove_directory(self, path: str) -> None:
        """See Broom."""
        self._order(Order(verb="remove_directory", path=path))

    def remove_volume(self, path: str) -> None:
        """See Broom."""
        self._order(Order(verb="remove_volume", path=path))

    def remembered(self, path: str) -> Mapping[str, bytes]:
        """See Broom."""
        told = self._told(Order(verb="remembered", path=path))
        return {name: bytes.fromhex(value) for name, value in told.items()}

    def remember(self, path: str, remembered: Mapping[str, bytes]) -> None:
        """See Broom."""
        del remembered  # the janitor goes by its own
        self._order(Order(verb="remember", path=path))

    def give_back(self, path: str, uid: int, gid: int) -> None:
        """See Broom."""
        self._order(Order(verb="give_back", path=path, uid=uid, gid=gid))

    def _order(self, order: Order) -> None:
        """Of which nothing is told but that it was done."""
        lines.found(self._exchange(order), WHOM, type(None))

    def _told(self, order: Order) -> Mapping[str, str]:
        return lines.found(self._exchange(order), WHOM, dict[str, str])

    def _exchange(self, order: Order) -> lines.Answer:
        within_s = WITHIN_S + MARGIN_S
        whom = f"{WHOM} about {order.path or order.uuid}"
        return self._patience.ask(
            whom, within_s + MARGIN_S, lambda: self._lines.exchange(order, within_s)
        )


class NoBroom:
    """Implements Broom for an agent that may put nothing back: it attends no rehearsal."""

    WHY = "this host's agent may put nothing back, and has no janitor that would: serve --janitor"

    def _refuse(self, *_: object) -> NoReturn:
        raise Refused(self.WHY)

    def written_down(self) -> Mapping[str, str]:
        """See Broom."""
        return {}

    write_down = cross_out = remove_file = remove_directory = remove_volume = _refuse
    remembered = remember = give_back = _refuse
