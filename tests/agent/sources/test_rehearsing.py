from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from virt_preflight.agent.sources import Impossible, Refused, Unreadable
from virt_preflight.agent.sources.rehearsing import Knock, Played, Script, Step, Way, Whole

pytest.importorskip("libvirt", reason="no libvirt binding on this machine")

import libvirt

from virt_preflight.agent.sources.live import entrypoints, notes, rehearsing
from virt_preflight.agent.sources.live.rehearsing import LiveBroom, LiveRehearser, Phases

UUID = "11111111-2222-4333-8444-555555555555"
HERE, THERE = "qemu:///system", "qemu+tcp://h2/system"
TOKEN = "DRY-RUN-REACHED-PERFORM-1"


class Said(libvirt.libvirtError):  # type: ignore[misc]
    """An error of libvirt's, as it comes."""

    def __init__(self, words: str, code: int = libvirt.VIR_ERR_INTERNAL_ERROR) -> None:
        Exception.__init__(self, words)
        self.err = (code, 10, words, 2, None, None, None, 0, 0)


@dataclass
class Domain:
    number: int = 7
    job: dict[str, int] = field(default_factory=lambda: {"type": 0})
    migrated: Exception | None = None
    given: list[tuple[dict[str, Any], int]] = field(default_factory=list)

    def ID(self) -> int:  # noqa: N802 - libvirt's own
        return self.number

    def XMLDesc(self, flags: int) -> str:  # noqa: N802
        return "<domain><seen/></domain>"

    def jobStats(self, flags: int) -> dict[str, int]:  # noqa: N802
        return self.job

    def migrateToURI3(self, uri: str, given: dict[str, Any], flags: int) -> None:  # noqa: N802
        self.given.append((given, flags))
        if self.migrated is not None:
            raise self.migrated


@dataclass
class Connection:
    domains: list[Domain | None]

    def lookupByUUIDString(self, uuid: str) -> Domain:  # noqa: N802
        found = self.domains.pop(0) if len(self.domains) > 1 else self.domains[0]
        if found is None:
            raise Said("no such domain", libvirt.VIR_ERR_NO_DOMAIN)
        return found


@dataclass
class World:
    """Two libvirtds that say what a test has them say, and the diary of what was asked."""

    here: Connection
    there: Connection
    diary: list[str] = field(default_factory=list)
    begin: Exception | None = None
    prepare: Exception | None = None
    finish: Exception | None = None
    unreached: Exception | None = None
    uri: str = ""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(here=Connection([Domain()]), there=Connection([Domain()]))

    @contextmanager
    def connected(uri: str) -> Iterator[Connection]:
        if uri == THERE and world.unreached:
            raise world.unreached
        world.diary.append(f"open {uri}")
        try:
            yield world.here if uri == HERE else world.there
        finally:
            world.diary.append(f"close {uri}")

    def said(step: str, error: Exception | None) -> None:
        world.diary.append(step)
        if error:
            raise error

    def begin(domain: Domain, flags: int, given: Any) -> tuple[bytes, bytes]:
        said("begin", world.begin)
        return b"<domain/>", b"<qemu-migration><capabilities/></qemu-migration>"

    def prepare(there: Connection, flags: int, given: Any, cookie: bytes) -> tuple[bytes, str]:
        assert given["destination_xml"] == "<domain rewritten=''/>"
        said("prepare", world.prepare)
        return b"", world.uri

    monkeypatch.setattr(rehearsing, "_connected", connected)
    monkeypatch.setattr(rehearsing, "_has_phases", lambda: True)
    monkeypatch.setattr(entrypoints, "begin", begin)
    monkeypatch.setattr(entrypoints, "prepare", prepare)
    monkeypatch.setattr(entrypoints, "cancel", lambda *_: said("finish", world.finish))
    return world


SCRIPT = Script(
    uuid=UUID,
    arrives_as="db1",
    destination_uri=THERE,
    begin_flags=1,
    begin_parameters={},
    prepare_flags=1,
    prepare_parameters={"destination_name": "db1"},
    whole=Whole(flags=3, parameters={"persistent_xml": TOKEN}, token=TOKEN),
    only_whole="",
    rewritten=lambda _: b"<domain rewritten=''/>",
    lost=lambda _, seen: ("seen",) if b"<seen/>" in seen else (),
    address=lambda _: None,
    knock=Knock.HELD,
)


def play(
    script: Script = SCRIPT, within_s: float = 5, phases: Phases = Phases.ONE_BY_ONE
) -> Played:
    return LiveRehearser(HERE, phases).rehearse(script, within_s)


def test_finish_follows_prepare_and_both_connections_are_closed(world: World) -> None:
    assert play() == Played(lost=("seen",))
    assert world.diary == [
        f"open {HERE}",
        "begin",
        f"open {THERE}",
        "prepare",
        "finish",
        f"close {THERE}",
        f"close {HERE}",
    ]


def test_what_begin_refuses_never_reaches_the_destination(world: World) -> None:
    world.begin = Said("domain has active block job")
    refusal = play().refusal
    assert refusal is not None
    assert (refusal.step, str(refusal.error)) == (Step.BEGIN, "domain has active block job")
    assert f"open {THERE}" not in world.diary


def test_a_destination_that_is_not_reached_is_a_refusal_of_its_own_step(world: World) -> None:
    world.unreached = Said("unable to connect to server", libvirt.VIR_ERR_SYSTEM_ERROR)
    refusal = play().refusal
    assert refusal is not None
    assert refusal.step is Step.CONNECT


@pytest.mark.parametrize(
    ("words", "sure"),
    [
        ("authentication failed: Failed to verify peer's certificate", True),
        ("authentication failed: SASL negotiation failed", False),
    ],
)
def test_a_certificate_that_is_no_good_is_the_hosts_and_a_password_the_agents(
    world: World, words: str, sure: bool
) -> None:
    world.unreached = Said(words, libvirt.VIR_ERR_AUTH_FAILED)
    if sure:
        refusal = play().refusal
        assert refusal is not None
        assert (refusal.step, str(refusal.error)) == (Step.CONNECT, words)
    else:
        with pytest.raises(Unreadable, match="SASL"):
            play()


def test_after_a_refused_prepare_nothing_is_finished(world: World) -> None:
    """A Finish would end a real migration of the guest that was there first."""
    world.prepare = Said("domain 'db1' is already active")
    refusal = play().refusal
    assert refusal is not None
    assert refusal.step is Step.PREPARE
    assert "finish" not in world.diary


def test_somebody_elses_migration_is_not_finished(world: World) -> None:
    world.there.domains = [Domain(number=7), Domain(number=7), Domain(number=8)]
    with pytest.raises(Unreadable, match="somebody else"):
        play()
    assert "finish" not in world.diary
    assert f"close {THERE}" in world.diary


def test_a_qemu_that_ended_in_the_window_tells_why_at_finish(world: World) -> None:
    world.there.domains = [Domain(), None]
    world.finish = Said("Not a migration stream")
    refusal = play().refusal
    assert refusal is not None
    assert (refusal.step, str(refusal.error)) == (Step.FINISH, "Not a migration stream")


@pytest.mark.parametrize("error", [RuntimeError("broken"), Said("broken")])
def test_whatever_happens_in_the_window_it_is_finished(world: World, error: Exception) -> None:
    def broken(_: bytes, __: bytes) -> tuple[str, ...]:
        raise error

    if isinstance(error, RuntimeError):
        with pytest.raises(Unreadable, match="broken"):
            play(replace(SCRIPT, lost=broken))
    else:
        play(replace(SCRIPT, lost=broken))
    assert world.diary[4:6] == ["finish", f"close {THERE}"]


def test_who_lost_his_right_is_no_refusal(world: World) -> None:
    world.prepare = Said("access denied", libvirt.VIR_ERR_ACCESS_DENIED)
    with pytest.raises(Unreadable, match="access denied"):
        play()


@pytest.mark.parametrize(("operation", "played"), [(5, False), (4, False), (9, True)])
def test_a_guest_that_is_being_migrated_is_left_alone(
    world: World, operation: int, played: bool
) -> None:
    world.here.domains = [Domain(job={"type": 2, "operation": operation})]
    if played:
        play()
    else:
        with pytest.raises(Impossible, match="being migrated"):
            play()
    assert ("begin" in world.diary) is played


def test_two_at_once_are_never_played_for_one_guest(world: World) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(_: bytes) -> bytes:
        entered.set()
        go_on.wait(10)
        return b"<domain rewritten=''/>"

    rehearser = LiveRehearser(HERE)
    first = threading.Thread(
        target=rehearser.rehearse, args=(replace(SCRIPT, rewritten=slow), 10.0)
    )
    first.start()
    assert entered.wait(10)
    with pytest.raises(Impossible, match="under way"):
        rehearser.rehearse(SCRIPT, 5)
    go_on.set()
    first.join(10)
    assert rehearser.rehearse(SCRIPT, 5).refusal is None


def test_when_the_time_is_up_it_is_cancelled_behind_the_callers_back(world: World) -> None:
    ended = threading.Event()

    def slow(_: bytes, __: bytes) -> tuple[str, ...]:
        ended.wait(0.5)
        return ()

    with pytest.raises(Unreadable, match="no answer"):
        play(replace(SCRIPT, lost=slow), within_s=0.1)
    for _ in range(100):
        if world.diary[-1] == f"close {HERE}":
            break
        ended.wait(0.05)
    assert "finish" in world.diary


def test_who_has_no_time_left_before_prepare_does_not_prepare(world: World) -> None:
    def slow(_: bytes) -> bytes:
        threading.Event().wait(0.3)
        return b""

    with pytest.raises(Unreadable):
        play(replace(SCRIPT, rewritten=slow), within_s=0.1)
    threading.Event().wait(0.5)
    assert "prepare" not in world.diary


# -------------------------------------------------------------------------------------- the window


def test_the_port_is_held_open_until_after_finish(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A QEMU that waits takes a connection that ends for a broken migration."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        heard: list[bytes | None] = []

        def finish(*_: object) -> None:
            world.diary.append("finish")
            caller, _ = server.accept()
            with caller:
                caller.settimeout(0.2)
                try:
                    heard.append(caller.recv(1))
                except TimeoutError:
                    heard.append(None)

        monkeypatch.setattr(entrypoints, "cancel", finish)
        played = play(replace(SCRIPT, address=lambda _: ("127.0.0.1", port)))
    assert (played.way, played.way_to) == (Way.OPEN, f"127.0.0.1 port {port}")
    assert heard == [None], "nothing is sent, and it is not closed before"


def test_a_port_where_nobody_listens_is_no_way(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    played = play(replace(SCRIPT, address=lambda _: ("127.0.0.1", port)))
    assert (played.way, played.way_words) == (Way.NO_WAY, "Connection refused")


def test_a_name_that_nobody_knows_is_told_as_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    played = play(replace(SCRIPT, address=lambda _: ("h9", 49152)))
    assert (played.way, played.way_words) == (Way.UNKNOWN_NAME, "Name or service not known")


# ------------------------------------------------------------------------------------ the other way


def whole(world: World, error: Exception | None) -> Played:
    world.here.domains = [Domain(migrated=error)]
    return play(phases=Phases.WHOLE)


def test_a_whole_one_has_passed_when_libvirt_stumbles_over_the_token(world: World) -> None:
    error = Said(f"line 1: Start tag expected\n{TOKEN}\n^", libvirt.VIR_ERR_XML_DETAIL)
    assert whole(world, error) == Played()
    assert "begin" not in world.diary


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("another text that is no XML", libvirt.VIR_ERR_XML_DETAIL),
        (f"bridge absent, and {TOKEN}", libvirt.VIR_ERR_SYSTEM_ERROR),
    ],
)
def test_any_other_error_is_a_refusal(world: World, words: str, code: int) -> None:
    refusal = whole(world, Said(words, code)).refusal
    assert refusal is not None
    assert str(refusal.error) == words


def test_a_whole_one_that_went_through_is_an_alarm(world: World) -> None:
    with pytest.raises(Unreadable, match="see where the guest runs"):
        whole(world, None)


@pytest.mark.parametrize("why", ["asked", "no phases"])
def test_the_other_way_is_taken_where_there_are_no_phases(
    world: World, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    error = Said(TOKEN, libvirt.VIR_ERR_XML_DETAIL)
    world.here.domains = [Domain(migrated=error)]
    if why == "no phases":
        monkeypatch.setattr(rehearsing, "_has_phases", lambda: False)
        assert play() == Played()
    else:
        assert play(replace(SCRIPT, only_whole="a tunnel")) == Played()
    assert "begin" not in world.diary


# ---------------------------------------------------------------------------------------- the broom


def test_what_is_gone_already_is_as_good_as_removed(tmp_path: Path) -> None:
    broom = LiveBroom("test:///default")
    kept = tmp_path / "kept"
    kept.write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    broom.remove_file(str(tmp_path / "gone"))
    broom.remove_file(str(kept))
    broom.remove_directory(str(tmp_path / "full"))
    assert list(tmp_path.iterdir()) == []


def test_notes_are_kept_once_and_outlive_whoever_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "FOLDER", tmp_path / "notes")
    LiveBroom(HERE).write_down(UUID, "what was there")
    with pytest.raises(Refused, match="under way"):
        LiveBroom(HERE).write_down(UUID, "another")
    assert LiveBroom(HERE).written_down() == {UUID: "what was there"}
    LiveBroom(HERE).cross_out(UUID)
    LiveBroom(HERE).cross_out(UUID)
    assert LiveBroom(HERE).written_down() == {}


def test_a_uuid_that_is_none_makes_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "FOLDER", tmp_path)
    with pytest.raises(Unreadable):
        LiveBroom(HERE).write_down("../../etc/passwd", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: nobody else gives files away")
def test_a_file_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_text("")
    LiveBroom(HERE).give_back(str(path), 107, 108)
    assert (path.stat().st_uid, path.stat().st_gid) == (107, 108)


def test_a_file_of_which_libvirt_remembers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_text("")
    assert LiveBroom(HERE).remembered(str(path)) == {}
    assert LiveBroom(HERE).remembered(str(tmp_path / "gone")) == {}


# ------------------------------------------------------------------------------- the connection


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """Where the waiting QEMU listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


def knocking(port: socket.socket, knock: Knock) -> Script:
    return replace(SCRIPT, address=lambda _: port.getsockname(), knock=knock)


def finishing(monkeypatch: pytest.MonkeyPatch, port: socket.socket, within_s: float) -> list[str]:
    """A Finish that notes whether who connected is still there, for so long at most."""
    seen: list[str] = []

    def cancel(*_: object) -> None:
        connection, _address = port.accept()
        with connection:
            connection.settimeout(within_s)
            try:
                seen.append("gone" if connection.recv(1) == b"" else "talks")
            except TimeoutError:
                seen.append("waits")

    monkeypatch.setattr(entrypoints, "cancel", cancel)
    return seen


def test_the_connection_is_held_until_after_finish(
    world: World, monkeypatch: pytest.MonkeyPatch, port: socket.socket
) -> None:
    seen = finishing(monkeypatch, port, 0.2)
    assert play(knocking(port, Knock.HELD)).way is Way.OPEN
    assert seen == ["waits"]


def test_a_qemu_that_wants_a_first_word_is_let_go_before_finish(
    world: World, monkeypatch: pytest.MonkeyPatch, port: socket.socket
) -> None:
    seen = finishing(monkeypatch, port, 10)
    assert play(knocking(port, Knock.LET_GO)).way is Way.OPEN
    assert seen == ["gone"]


def test_a_qemu_that_does_not_forgive_is_not_knocked_at(world: World, port: socket.socket) -> None:
    assert play(knocking(port, Knock.NOT_AT_ALL)).way is Way.NOT_TRIED
    port.settimeout(0.2)
    with pytest.raises(TimeoutError):
        port.accept()


def test_a_qemu_that_hears_nobody_while_it_is_held_is_let_go_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch, port: socket.socket
) -> None:
    monkeypatch.setattr(rehearsing, "HELD_WITHIN_S", 0.2)
    seen = finishing(monkeypatch, port, 10)
    assert play(knocking(port, Knock.HELD)).way is Way.OPEN
    assert seen == ["gone"]
