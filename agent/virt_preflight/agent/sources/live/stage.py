"""What is played on this host and taken back: one act at a time, on a connection of its own.

The connection is what makes it safe: libvirtd ends what was prepared over it as soon as it is
closed, be it by us, by our death or by our silence (AUTODESTROY, keepalive).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt

from virt_preflight.agent.sources import Impossible, SourceError, Unreached, Unreadable
from virt_preflight.agent.sources.live import entrypoints, notes
from virt_preflight.agent.sources.live.clearing import (
    Owners,
    clear,
    is_standin,
    note_owners_again,
    owners_noted,
    shut_out,
)
from virt_preflight.agent.sources.live.libvirtd import (
    KEEPALIVE_COUNT,
    KEEPALIVE_INTERVAL_S,
    own_connection,
    refusal,
    unreached,
    words,
)
from virt_preflight.agent.sources.patience import Patience
from virt_preflight.agent.sources.stage import STANDIN, Act, NoPhases

# A trial took 0.5 to 0.9 s on two busy cores; libvirt itself gives QEMU 30 s to start.
WITHIN_S = 12.0
ASKED = "the trial of a stand-in"
# Of a stand-in, by polkit's names: to prepare and to create it, to look at it, to end it
# (src/remote/remote_protocol.x, "@acl").
RIGHTS = (
    "org.libvirt.api.domain.start, org.libvirt.api.domain.write, org.libvirt.api.domain.stop, "
    "org.libvirt.api.domain.migrate, org.libvirt.api.domain.getattr and org.libvirt.api.domain.read"
)
# After what was cut short it is looked for so often and so long: ten minutes.
SWEEP_EVERY_S = 2.0
SWEEPS = 300


class LiveStage:
    """This host. Implements Stage; see there for what each verb gives."""

    def __init__(self, uri: str, patience: Patience) -> None:
        self._uri = uri
        self._patience = patience
        self._turn = threading.Lock()
        self._sweeping = threading.Lock()

    def trial(self, act: Act) -> bytes:
        """Prepare, look, Finish cancelled."""
        return self._play(act, _prepared)

    def shadow(self, act: Act) -> bytes:
        """Create paused, look, destroy."""
        return self._play(act, _created)

    def tidy(self) -> None:
        """In a thread of its own: libvirtd may hang, and nobody has to wait for that."""
        # Now, so that a trial finds it and makes none.
        with suppress(OSError):
            notes.FOLDER.mkdir(mode=0o700, exist_ok=True)
        if not self._sweeping.acquire(blocking=False):
            return  # somebody sweeps already
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        """Until no note is left, or for a while: then the next trial begins anew."""
        try:
            for _ in range(SWEEPS):
                for note in left_notes():
                    self._sweep_up(note)
                if not left_notes():
                    return
                time.sleep(SWEEP_EVERY_S)
        finally:
            self._sweeping.release()

    def _sweep_up(self, note: Path) -> None:
        """One act that nobody plays any more; one that somebody plays is locked."""
        with suppress(OSError, ValueError, KeyError, TypeError), note.open("r+") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = opened.read()
            if not text:
                note.unlink()  # killed before it began
                return
            noted = json.loads(text)
            uuid, files = str(noted["uuid"]), [*map(str, noted["files"])]
            # Twice: a libvirtd that wakes up goes on with what it was asked before it sees that
            # whoever asked is gone.
            for _ in range(2):
                if self._runs(note.name):
                    return
                time.sleep(SWEEP_EVERY_S)
            clear(note.name, uuid, files)
            note_owners_again(noted["owners"])
            note.unlink()
            logging.info("cleared up after %s, which had been cut short", note.name)

    def _runs(self, name: str) -> bool:
        """Also when nobody can tell."""
        try:
            with _connected(self._uri) as connection:
                return not _is_gone(connection, name)
        except SourceError:
            return True

    def _play(self, act: Act, scene: Callable[[Any, Act], bytes]) -> bytes:
        """One act at a time. Who waits no longer gets no act, or its end without him."""
        assert is_standin(act.name, act.uuid), "only a stand-in is played, never a guest"
        if folder := shut_out():
            raise Impossible(f"the agent may not remove what a stand-in leaves in {folder}")
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
            if left_notes():
                self.tidy()


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
    with ExitStack() as held:
        try:
            connection = held.enter_context(own_connection(uri))
        except libvirt.libvirtError as error:
            raise unreached(error) from error
        # Some drivers (test:///) have no connection to keep alive.
        with suppress(libvirt.libvirtError):
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        yield connection


def _prepared(connection: Any, act: Act) -> bytes:
    try:
        entrypoints.phases()
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
    if error.get_error_code() == libvirt.VIR_ERR_ACCESS_DENIED:
        return Unreadable(f"the agent needs the rights {RIGHTS}: {words(error)}")
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
    """Written down beforehand, cleared up afterwards; where libvirtd went away, later."""
    try:
        opened = notes.new_note(act.name)
    except OSError as error:
        raise Unreadable(f"{notes.FOLDER}: {error.strerror}") from None
    note = notes.place_of(act.name)
    owners = owners_noted(act.opened)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        told = {"uuid": act.uuid, "files": act.files, "owners": owners}
        os.write(opened, json.dumps(told).encode())
        yield
    except Unreached:
        _cross_out(note, act, owners)  # nobody was asked for anything
        raise
    except Unreadable:
        # libvirtd may go on without us: its files are cleared when it is seen to be done.
        raise
    except BaseException:
        _cross_out(note, act, owners)
        raise
    else:
        _cross_out(note, act, owners)
    finally:
        os.close(opened)


def _cross_out(note: Path, act: Act, owners: Owners) -> None:
    clear(act.name, act.uuid, act.files)
    note_owners_again(owners)
    note.unlink(missing_ok=True)


def left_notes() -> list[Path]:
    """Of all acts that were not seen to their end, those under way among them."""
    return notes.notes_called(STANDIN)
