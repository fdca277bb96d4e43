"""What is played on this host and taken back: one act at a time, on a connection of its own.

The connection is what makes it safe: libvirtd ends what was prepared over it as soon as it is
closed, be it by us, by our death or by our silence (AUTODESTROY, keepalive).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt

from virt_preflight.agent.sources import Impossible, SourceError, Unreadable
from virt_preflight.agent.sources.live import entrypoints
from virt_preflight.agent.sources.live.libvirtd import (
    KEEPALIVE_COUNT,
    KEEPALIVE_INTERVAL_S,
    refusal,
    run_event_loop,
    unreached,
    words,
)
from virt_preflight.agent.sources.patience import Patience
from virt_preflight.agent.sources.stage import STANDIN, Act, NoPhases

# A trial took 0.5 to 0.9 s on two busy cores; libvirt itself gives QEMU 30 s to start.
WITHIN_S = 12.0
ASKED = "the trial of a stand-in"
# Which acts are under way, so that the next agent can clear up after a killed one.
NOTES = Path("/run/virt-preflight")
NAME = re.compile(re.escape(STANDIN) + r"[0-9a-f]{8}")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# libvirtd ends a guest in 0.2 s, and kills it after 15 (virProcessKillPainfully).
GONE_WITHIN_S = 20.0
# What libvirt leaves of any guest that ever started, by its name.
LOGS = ("/var/log/libvirt/qemu/{name}.log", "/var/log/swtpm/libvirt/qemu/{name}-swtpm.log")
# Of an emulated TPM, by the guest's UUID.
TPM_STATE = "/var/lib/libvirt/swtpm/{uuid}"


class LiveStage:
    """This host. Implements Stage; see there for what each verb gives."""

    def __init__(self, uri: str, patience: Patience) -> None:
        self._uri = uri
        self._patience = patience
        self._turn = threading.Lock()

    def trial(self, act: Act) -> bytes:
        """Prepare, look, Finish cancelled."""
        return self._play(act, _prepared)

    def shadow(self, act: Act) -> bytes:
        """Create paused, look, destroy."""
        return self._play(act, _created)

    def tidy(self) -> None:
        """After acts whose agent was killed; those of an agent that lives are locked."""
        with suppress(OSError):
            NOTES.mkdir(mode=0o700, exist_ok=True)
        for note in sorted(NOTES.glob(f"{STANDIN}*")):
            with suppress(OSError, ValueError, KeyError, TypeError), note.open("r+") as opened:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                noted = json.load(opened)
                name, uuid, files = note.name, str(noted["uuid"]), [*map(str, noted["files"])]
                if not self._runs(name):
                    clear(name, uuid, files)
                    note.unlink()
                    logging.info("cleared up after %s, whose agent had ended", name)

    def _runs(self, name: str) -> bool:
        """Also when nobody can tell."""
        run_event_loop()
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError:
            return True
        try:
            return not _is_gone(connection, name)
        finally:
            connection.close()

    def _play(self, act: Act, scene: Callable[[Any, Act], bytes]) -> bytes:
        """One act at a time. Who waits no longer gets no act, or its end without him."""
        if not NAME.fullmatch(act.name) or not UUID.fullmatch(act.uuid):
            raise ValueError(f"{act.name!r} is no stand-in")
        if not self._turn.acquire(timeout=min(WITHIN_S, self._patience.left_s())):
            raise Unreadable("another trial is under way on this host")
        ticket = _Ticket(self._turn)
        try:
            return self._patience.ask(ASKED, WITHIN_S, lambda: self._in_turn(ticket, act, scene))
        finally:
            ticket.give_up()

    def _in_turn(self, ticket: _Ticket, act: Act, scene: Callable[[Any, Act], bytes]) -> bytes:
        if not ticket.take():
            raise Unreadable("nobody waits for this trial any more")
        try:
            with _noted(act), _connected(self._uri) as connection:
                try:
                    return scene(connection, act)
                finally:
                    _end(connection, act.name)
        finally:
            ticket.done()


class _Ticket:
    """A turn that is given back once: by whom has taken it, or by whom waited in vain."""

    def __init__(self, turn: threading.Lock) -> None:
        self._turn = turn
        self._guard = threading.Lock()
        self._taken = False
        self._given_up = False

    def take(self) -> bool:
        with self._guard:
            self._taken = not self._given_up
            return self._taken

    def done(self) -> None:
        self._turn.release()

    def give_up(self) -> None:
        with self._guard:
            if not self._taken:
                self._given_up = True
                self._turn.release()


@contextmanager
def _connected(uri: str) -> Iterator[Any]:
    run_event_loop()
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise unreached(error) from error
    try:
        # Some drivers (test:///) have no connection to keep alive.
        with suppress(libvirt.libvirtError):
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        yield connection
    finally:
        with suppress(libvirt.libvirtError):
            connection.close()


def _prepared(connection: Any, act: Act) -> bytes:
    try:
        entrypoints.library()
    except Impossible as error:
        raise NoPhases(str(error)) from None
    try:
        parameters = {**act.parameters, "destination_xml": act.domain_xml.decode()}
        entrypoints.prepare(connection, act.flags, parameters, act.cookie)
        try:
            return _looked_at(connection, act.name)
        finally:
            entrypoints.cancel(connection, act.flags, {"destination_name": act.name})
    except libvirt.libvirtError as error:
        raise _answer(connection, error) from error


def _created(connection: Any, act: Act) -> bytes:
    flags = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
    try:
        connection.createXML(act.domain_xml.decode(), flags)
        return _looked_at(connection, act.name)
    except libvirt.libvirtError as error:
        raise _answer(connection, error) from error


def _answer(connection: Any, error: libvirt.libvirtError) -> SourceError:
    """What libvirtd said; that it went away in the middle says nothing of the guest."""
    if not connection.isAlive():
        return Unreadable(f"libvirtd went away during the trial: {words(error)}")
    return refusal(error)


def _looked_at(connection: Any, name: str) -> bytes:
    xml = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
    return str(xml).encode()


def _is_gone(connection: Any, name: str) -> bool:
    """Only when that is sure."""
    try:
        connection.lookupByName(name)
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
    return False


def _end(connection: Any, name: str) -> None:
    """Belt and braces: after Finish, and after a refusal, nobody of that name is there."""
    try:
        domain = connection.lookupByName(name)
    except libvirt.libvirtError:
        return  # gone, as it should be; or the connection is, and what was on it ends with it
    with suppress(libvirt.libvirtError):
        domain.destroy()


# ------------------------------------------------------------------------------- clearing up


@contextmanager
def _noted(act: Act) -> Iterator[None]:
    """Written down beforehand, cleared up afterwards."""
    try:
        NOTES.mkdir(mode=0o700, exist_ok=True)
        # Nobody else's folder: what stands there is removed by a later agent.
        found = os.lstat(NOTES)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise Unreadable(f"{NOTES} is not a folder of our own")
        note = NOTES / act.name
        opened = os.open(note, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unreadable(f"{NOTES}: {error.strerror}") from None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        os.write(opened, json.dumps({"uuid": act.uuid, "files": act.files}).encode())
        yield
    finally:
        clear(act.name, act.uuid, act.files)
        note.unlink(missing_ok=True)
        os.close(opened)


def clear(name: str, uuid: str, files: Sequence[str]) -> None:
    """Remove what came to be with a stand-in: only what is called after it, and no links' ends."""
    if not NAME.fullmatch(name) or not UUID.fullmatch(uuid):
        raise ValueError(f"{name!r} is no stand-in")
    for path in (*files, *(log.format(name=name) for log in LOGS)):
        if os.path.basename(path).startswith(name):
            # A directory of that name is nobody's of ours: unlink(2) refuses it.
            with suppress(OSError):
                os.unlink(path)
    with suppress(OSError):
        _remove_tree(TPM_STATE.format(uuid=uuid))


def _remove_tree(path: str) -> None:
    """A TPM's folder holds one folder for its version, and that holds files."""
    with _opened_folder(path, None) as above:
        for inner in os.listdir(above):
            with suppress(OSError), _opened_folder(inner, above) as folder:
                for name in os.listdir(folder):
                    with suppress(OSError):
                        os.unlink(name, dir_fd=folder)
            with suppress(OSError):
                os.rmdir(inner, dir_fd=above)
    os.rmdir(path)


@contextmanager
def _opened_folder(path: str, above: int | None) -> Iterator[int]:
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        yield opened
    finally:
        os.close(opened)
