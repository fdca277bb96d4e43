"""Plays a rehearsal: libvirt's own Begin, Prepare and Finish, and the window between the last two.

What keeps it harmless is here: Finish follows Prepare whatever happens in between, the connection
to the destination is of its own and closed at the end, which alone ends the waiting QEMU
(AUTODESTROY), and libvirt's event loop with keepalive runs, so that a vanished host ends it too.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from typing import Any
from uuid import UUID

import libvirt

from virt_preflight.agent.sources import Impossible, LibvirtRefused, Refused, Unreadable
from virt_preflight.agent.sources.live import entrypoints
from virt_preflight.agent.sources.live.clearing import remembered
from virt_preflight.agent.sources.live.libvirtd import (
    OPERATIONS,
    WITHIN_S,
    own_connection,
    refusal,
    words,
)
from virt_preflight.agent.sources.live.notes import FOLDER, new_note, notes_called, place_of
from virt_preflight.agent.sources.observer import UNOBSERVED, SourceObserver
from virt_preflight.agent.sources.patience import Patience
from virt_preflight.agent.sources.rehearsing import Knock, Played, Refusal, Script, Step, Way

# Interval and count: libvirtd notices after 30 s that its client has vanished (measured: 29.7 s).
KEEPALIVE = (5, 5)
# The kernel asks again for a connection after 1 and 3 s (tcp_syn_retries): the third is waited for.
REACH_WITHIN_S = 3.5
# Finish takes 0.2 s. A QEMU that stands still until the one who connected says something would
# keep it, and us, for ever: then he lets go.
HELD_WITHIN_S = 3.0
# Of what was there before a rehearsal.
NOTE = "rehearsal-"


class Phases(Enum):
    """How the phases are had. WHOLE is taken by itself where there are no single ones."""

    ONE_BY_ONE = "one by one"
    WHOLE = "whole"


class LiveRehearser:
    """This host's libvirtd and, for one rehearsal at a time, another's. Implements Rehearser."""

    def __init__(
        self,
        uri: str,
        phases: Phases = Phases.ONE_BY_ONE,
        observer: SourceObserver = UNOBSERVED,
    ) -> None:
        self._uri = uri
        self._phases = phases
        self._patience = Patience(time.monotonic, observer)
        self._under_way: set[str] = set()
        self._guard = threading.Lock()

    def rehearse(self, script: Script, within_s: float) -> Played:
        """See there. When the time is up the caller is told so, and it is cancelled behind him."""
        until_s = time.monotonic() + within_s

        def play() -> Played:
            with self._alone(script.uuid), _connected(self._uri) as here:
                return self._play(here, script, until_s)

        return self._patience.ask(f"the rehearsal of {script.uuid}", within_s, play)

    def _play(self, here: Any, script: Script, until_s: float) -> Played:
        domain = here.lookupByUUIDString(script.uuid)
        _left_alone(domain)
        if self._phases is Phases.WHOLE or script.only_whole or not _has_phases():
            return _whole(domain, script)
        return _one_by_one(domain, script, until_s)

    @contextmanager
    def _alone(self, uuid: str) -> Iterator[None]:
        """Two rehearsals of one guest would each take the other for the guest itself."""
        with self._guard:
            if uuid in self._under_way:
                raise Impossible("another rehearsal of it is under way")
            self._under_way.add(uuid)
        try:
            yield
        finally:
            with self._guard:
                self._under_way.discard(uuid)


def _has_phases() -> bool:
    try:
        entrypoints.phases()
    except Impossible:
        return False
    return True


@contextmanager
def _connected(uri: str) -> Iterator[Any]:
    with own_connection(uri) as connection:
        connection.setKeepAlive(*KEEPALIVE)
        yield connection


def _one_by_one(domain: Any, script: Script, until_s: float) -> Played:
    try:
        xml, cookie = entrypoints.begin(domain, script.begin_flags, script.begin_parameters)
    except libvirt.libvirtError as error:
        return _refused(Step.BEGIN, error)
    sent = script.rewritten(xml)
    _in_time(until_s, Step.CONNECT)
    with ExitStack() as held:
        try:
            there = held.enter_context(_connected(script.destination_uri))
        except libvirt.libvirtError as error:
            return _not_connected(error)
        return _at_destination(there, script, sent, cookie, until_s)


def _whole(domain: Any, script: Script) -> Played:
    """Begin and Prepare by libvirt's public call, which Perform then ends: see asks/flags.py.

    It holds the guest's migration job for half a second, and has no window to look through.
    """
    whole = script.whole
    secure = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    with ExitStack() as held:
        try:
            xml = whole.parameters.get("destination_xml") or domain.XMLDesc(secure)
            given = {
                **{key: _listed(value) for key, value in whole.parameters.items()},
                "destination_xml": script.rewritten(str(xml).encode()).decode(),
            }
            if whole.flags & libvirt.VIR_MIGRATE_PEER2PEER:
                domain.migrateToURI3(script.destination_uri, given, whole.flags)
            else:
                there = held.enter_context(_connected(script.destination_uri))
                domain.migrate3(there, given, whole.flags)
        except libvirt.libvirtError as error:
            told = str(error.get_error_message() or "")
            if error.get_error_code() == libvirt.VIR_ERR_XML_DETAIL and whole.token in told:
                return Played()
            return _refused(Step.PREPARE, error)
    raise Unreadable("libvirt has not read the token that was to stop it: see where the guest runs")


def _listed(value: str | int | tuple[str, ...]) -> str | int | list[str]:
    """libvirt-python takes several values of one name as a list."""
    return list(value) if isinstance(value, tuple) else value


def _left_alone(domain: Any) -> None:
    """A migration that is under way is not to meet its own rehearsal."""
    told = domain.jobStats(0)
    operation = OPERATIONS.get(told.get("operation"), "")
    if told.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE and (
        operation.startswith("migration")
    ):
        raise Impossible("it is being migrated")


def _at_destination(
    there: Any, script: Script, sent: bytes, cookie: bytes, until_s: float
) -> Played:
    _in_time(until_s, Step.PREPARE)
    given = {**script.prepare_parameters, "destination_xml": sent.decode()}
    try:
        _, uri = entrypoints.prepare(there, script.prepare_flags, given, cookie)
    except libvirt.libvirtError as error:
        # What is refused libvirt has cleared away itself. A Finish now could only hit another's:
        # that of a real migration of this guest which was there first.
        return _refused(Step.PREPARE, error)
    number = None
    connection = None
    try:
        number = _number(there, script.uuid)
        lost = _read_back(there, script, sent)
        address = None if script.knock is Knock.NOT_AT_ALL else script.address(uri)
        way, way_to, told, connection = _reached(address, until_s)
        if script.knock is Knock.LET_GO:
            _let_go(connection)
    finally:
        late = threading.Timer(HELD_WITHIN_S, _let_go, (connection,))
        late.start()
        try:
            ended = _cancelled(there, script, number)
        finally:
            late.cancel()
            _let_go(connection)
    return Played(refusal=ended, lost=lost, way=way, way_to=way_to, way_words=told)


def _let_go(connection: socket.socket | None) -> None:
    """Once more does no harm."""
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def _number(there: Any, uuid: str) -> int | None:
    """The id of the guest as it runs there, which tells it from one that comes after it."""
    try:
        return int(there.lookupByUUIDString(uuid).ID())
    except libvirt.libvirtError:
        return None


def _read_back(there: Any, script: Script, sent: bytes) -> tuple[str, ...]:
    """What of the guest its libvirt has dropped. That QEMU has ended meanwhile Finish tells."""
    wanted = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    try:
        found = there.lookupByUUIDString(script.uuid).XMLDesc(wanted)
        return script.lost(sent, found.encode())
    except libvirt.libvirtError:
        return ()


def _reached(
    address: tuple[str, int] | None, until_s: float
) -> tuple[Way, str, str, socket.socket | None]:
    """A connection as the source's QEMU would make it; nothing is sent on it."""
    left_s = until_s - time.monotonic()
    if address is None or left_s <= 0:
        return Way.NOT_TRIED, "", "", None
    named = f"{address[0]} port {address[1]}"
    within_s = min(REACH_WITHIN_S, left_s)
    try:
        return Way.OPEN, named, "", socket.create_connection(address, timeout=within_s)
    except socket.gaierror as error:
        return Way.UNKNOWN_NAME, named, error.strerror or str(error), None
    except TimeoutError:
        if within_s < REACH_WITHIN_S:
            return Way.NOT_TRIED, named, "", None
        return Way.NO_WAY, named, f"no answer within {within_s:g} s", None
    except OSError as error:
        return Way.NO_WAY, named, error.strerror or str(error), None


def _cancelled(there: Any, script: Script, number: int | None) -> Refusal | None:
    """Finish, cancelled. None: as it should be; a refusal is how QEMU ended before its time."""
    now = _number(there, script.uuid)
    if now is not None and number is not None and now != number:
        # Ours is gone and another has come: somebody really moves the guest. His is not ended.
        raise Unreadable("it was taken down there by somebody else")
    try:
        named = {"destination_name": script.arrives_as}
        entrypoints.cancel(there, script.prepare_flags, named)
    except libvirt.libvirtError as error:
        return _refused(Step.FINISH, error).refusal
    return None


def _refused(step: Step, error: libvirt.libvirtError) -> Played:
    """A no of libvirt; what is none, and says nothing of the guest, is raised."""
    told = refusal(error)
    if not isinstance(told, LibvirtRefused):
        raise told
    return Played(refusal=Refusal(step=step, error=told))


def _not_connected(error: libvirt.libvirtError) -> Played:
    """Who may not connect may be the agent alone; whose certificate is no good is the host."""
    if error.get_error_code() == libvirt.VIR_ERR_AUTH_FAILED and "certificate" in words(error):
        refused = LibvirtRefused(words(error), error.get_error_code(), error.get_error_domain())
        return Played(refusal=Refusal(step=Step.CONNECT, error=refused))
    return _refused(Step.CONNECT, error)


def _in_time(until_s: float, step: Step) -> None:
    if time.monotonic() >= until_s:
        raise Unreadable(f"no time left for {step.value}")


def _note(uuid: str) -> str:
    return f"{NOTE}{UUID(uuid)}"


class LiveBroom:
    """This host's files and volumes, put back after a rehearsal. Implements Broom."""

    def __init__(self, uri: str, observer: SourceObserver = UNOBSERVED) -> None:
        self._uri = uri
        self._patience = Patience(time.monotonic, observer)

    def write_down(self, uuid: str, notes: str) -> None:
        """See Broom."""

        def write() -> None:
            try:
                with os.fdopen(new_note(_note(uuid)), "w") as opened:
                    opened.write(notes)
            except FileExistsError:
                raise Refused("another rehearsal of the guest is under way") from None

        self._put(str(FOLDER), write)

    def written_down(self) -> Mapping[str, str]:
        """See Broom."""
        found = {}
        for note in notes_called(NOTE):
            with suppress(OSError, UnicodeDecodeError):
                found[note.name.removeprefix(NOTE)] = note.read_text()
        return found

    def cross_out(self, uuid: str) -> None:
        """See Broom."""
        self._put(str(FOLDER), lambda: place_of(_note(uuid)).unlink())

    def remove_file(self, path: str) -> None:
        """See Broom."""
        self._put(path, lambda: os.unlink(path))

    def remove_directory(self, path: str) -> None:
        """See Broom."""
        assert shutil.rmtree.avoids_symlink_attacks, "Linux has openat(2)"
        self._put(path, lambda: shutil.rmtree(path))

    def remove_volume(self, path: str) -> None:
        """See Broom."""

        def remove() -> None:
            with _connected(self._uri) as here:
                here.storageVolLookupByPath(path).delete(0)

        self._put("libvirtd", remove)

    def remembered(self, path: str) -> Mapping[str, bytes]:
        """See Broom."""

        def read() -> Mapping[str, bytes]:
            try:
                return remembered(path)
            except OSError as error:
                if error.errno in (errno.ENOTSUP, errno.ENOENT):
                    return {}
                raise Unreadable(f"{path}: {error.strerror}") from None

        return self._patience.ask(path, WITHIN_S, read)

    def remember(self, path: str, remembered: Mapping[str, bytes]) -> None:
        """See Broom."""

        def write() -> None:
            for name, value in remembered.items():
                os.setxattr(path, name, value)

        self._put(path, write)

    def give_back(self, path: str, uid: int, gid: int) -> None:
        """See Broom."""
        self._put(path, lambda: os.chown(path, uid, gid))

    def _put(self, whom: str, work: Callable[[], None]) -> None:
        def put() -> None:
            # Gone already is as good.
            with suppress(FileNotFoundError):
                try:
                    work()
                except libvirt.libvirtError as error:
                    raise Refused(str(error)) from None

        self._patience.ask(whom, WITHIN_S, put)
