from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks.decided import DECIDED_BY_REHEARSAL, decided
from virt_preflight.agent.asks.flags import (
    NOWHERE,
    Migrate,
    destination_flags,
    refused_in_perform,
    rehearsal_flags,
)
from virt_preflight.agent.asks.rehearsal import address_of, heard, rehearse, script_of
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.residents import Resident
from virt_preflight.agent.sources import Impossible, LibvirtRefused, SourceError, Unreadable
from virt_preflight.agent.sources.rehearsing import Knock, Played, Refusal, Script, Step, Way

UUID = "11111111-2222-4333-8444-555555555555"
DB1 = Resident(name="db1", uuid=UUID, id=3, state="running", persistent=True)
URI = "qemu+tls://h2/system"
LIVE = MigrationOptions(live=True, p2p=True)
PREPARED = (Side.DESTINATION, Phase.PREPARE)


@dataclass(kw_only=True)
class FakeRehearser:
    answer: Played | SourceError = field(default_factory=Played)
    scripts: list[Script] = field(default_factory=list)

    def rehearse(self, script: Script, within_s: float) -> Played:
        self.scripts.append(script)
        if isinstance(self.answer, SourceError):
            raise self.answer
        return self.answer


def source(job: str | None = "") -> FakeSource:
    return FakeSource(answers={("domain-jobs", UUID): json.dumps({"job": job})})


def played(
    answer: Played | SourceError,
    *,
    options: MigrationOptions = LIVE,
    guest: Resident = DB1,
    host: FakeSource | None = None,
) -> tuple[Hearing, FakeRehearser]:
    rehearser = FakeRehearser(answer=answer)
    hearing = rehearse(
        host or source(),
        rehearser,
        guest,
        options,
        destination_uri=URI,
        keep_owner_of=("/srv/a.img",),
        within_s=5,
    )
    return hearing, rehearser


def test_what_passes_has_decided_what_prepare_looks_at() -> None:
    hearing, rehearser = played(Played(way=Way.OPEN))
    assert hearing == Hearing(
        ask="the rehearsal", depth=Depth.REHEARSAL, decides=DECIDED_BY_REHEARSAL
    )
    assert rehearser.scripts[0].destination_uri == URI


def test_a_refusal_of_prepare_is_told_in_libvirts_words() -> None:
    words = "Cannot get interface MTU on 'br9': No such device"
    refusal = Refusal(step=Step.PREPARE, error=LibvirtRefused(words, 38, 0))
    hearing, _ = played(Played(refusal=refusal))
    (said,) = hearing.said
    assert said.check == "nics.bridge-absent"
    assert said.problem.libvirt_error == words
    assert (said.problem.side, said.problem.phase) == PREPARED
    assert said.problem.depth is Depth.REHEARSAL
    assert not hearing.decides


def test_a_refusal_of_begin_is_the_sources() -> None:
    error = LibvirtRefused("cannot migrate domain with 1 snapshots", 55, 10)
    hearing, _ = played(Played(refusal=Refusal(step=Step.BEGIN, error=error)))
    problem = hearing.said[0].problem
    assert (problem.side, problem.phase) == (Side.SOURCE, Phase.BEGIN)


def test_an_address_that_the_source_cannot_resolve_is_found_in_the_window() -> None:
    hearing, _ = played(
        Played(way=Way.UNKNOWN_NAME, way_to="h9 port 49152", way_words="Name or service not known")
    )
    (said,) = hearing.said
    assert said.check == "transport.unknown-name"
    assert said.problem.subject == "the migration's address, h9 port 49152"
    assert (said.problem.side, said.problem.phase) == (Side.SOURCE, Phase.PERFORM)
    # Prepare itself was passed.
    assert hearing.decides == DECIDED_BY_REHEARSAL


def test_an_address_that_cannot_be_reached_is_found_in_the_window() -> None:
    hearing, _ = played(
        Played(way=Way.NO_WAY, way_to="h2 port 49152", way_words="No route to host")
    )
    assert [said.check for said in hearing.said] == ["transport.no-way"]


@pytest.mark.parametrize("way", [Way.OPEN, Way.NOT_TRIED])
def test_a_way_that_is_open_or_was_not_tried_is_no_finding(way: Way) -> None:
    assert played(Played(way=way, way_to="h2 port 49152"))[0].said == ()


def test_what_the_destination_dropped_is_named() -> None:
    hearing, _ = played(Played(lost=("devices/disk/driver/@queue_size",)))
    (said,) = hearing.said
    assert (said.check, said.problem.subject) == (
        "libvirt.element-unknown",
        "devices/disk/driver/@queue_size",
    )


def test_no_answer_is_a_doubt_and_no_finding() -> None:
    hearing, _ = played(Unreadable("no answer within 5 s"))
    assert (hearing.doubt, hearing.said, hearing.decides) == (
        "no answer within 5 s",
        (),
        frozenset(),
    )


def test_a_host_that_cannot_rehearse_says_so() -> None:
    hearing, _ = played(Impossible("another rehearsal of it is under way"))
    assert hearing.impossible == "another rehearsal of it is under way"


def test_a_destination_that_only_the_client_has_to_reach_is_no_finding_with_direct() -> None:
    error = LibvirtRefused("unable to connect to server at 'h2:16509': No route to host", 38, 7)
    answer = Played(refusal=Refusal(step=Step.CONNECT, error=error))
    direct = MigrationOptions(live=True, p2p=False, direct=True)
    assert "No route to host" in heard(answer, direct).impossible
    assert not heard(answer, direct).said
    assert heard(answer, LIVE).said
    assert not heard(answer, LIVE).impossible


# Blockers of the destination's Prepare that a rehearsal leaves open, each with the reason.
NOT_DECIDED = {
    "hostdevs.pci-group-not-free": "QEMU opens none that only comes after the guest",
    "options.compressed-parallel": "the source's libvirt has a say when it performs",
    "transport.no-place-for-socket": "a move by way of a socket is not rehearsed: it would stay",
    "libvirt.refused": "it is what libvirt said, no question of ours",
}


def test_each_blocker_of_prepare_is_known_to_be_a_rehearsals_to_decide_or_not() -> None:
    of_prepare = {
        check.id
        for check in catalogue().checks
        if check.side is not Side.SOURCE
        and check.phase is Phase.PREPARE
        and check.severity is Severity.BLOCKER
    }
    assert not DECIDED_BY_REHEARSAL - of_prepare, "no such check"
    assert not DECIDED_BY_REHEARSAL & NOT_DECIDED.keys()
    assert not of_prepare - DECIDED_BY_REHEARSAL - NOT_DECIDED.keys(), "decide who decides"


def test_a_trial_decides_nothing_that_a_rehearsal_does_not() -> None:
    assert decided((), b"<cpu/>") < DECIDED_BY_REHEARSAL


# ------------------------------------------------------------------------------------------ guards


def test_an_offline_move_is_never_rehearsed() -> None:
    hearing, rehearser = played(Played(), options=MigrationOptions(offline=True, p2p=True))
    assert "--offline" in hearing.impossible
    assert not rehearser.scripts


def test_a_guest_that_is_shut_off_is_not_rehearsed() -> None:
    hearing, rehearser = played(Played(), guest=Resident("db1", UUID, None, "shut off", True))
    assert hearing.impossible == "the guest is shut off"
    assert not rehearser.scripts


def test_a_paused_guest_is_rehearsed() -> None:
    _, rehearser = played(Played(), guest=Resident("db1", UUID, 3, "paused", True))
    assert len(rehearser.scripts) == 1


@pytest.mark.parametrize("job", ["migration-out", "migration-in"])
def test_a_guest_that_is_being_migrated_is_not_rehearsed(job: str) -> None:
    hearing, rehearser = played(Played(), host=source(job))
    assert hearing.impossible == "it is being migrated"
    assert not rehearser.scripts


def test_a_guest_of_which_that_cannot_be_told_is_not_rehearsed() -> None:
    hearing, rehearser = played(Played(), host=FakeSource())
    assert "could not be told" in hearing.impossible
    assert not rehearser.scripts


def test_another_job_is_libvirts_to_refuse() -> None:
    _, rehearser = played(Played(), host=source("backup"))
    assert len(rehearser.scripts) == 1


# ------------------------------------------------------------------------------- flags and scripts


@pytest.mark.parametrize(
    "options",
    [
        LIVE,
        MigrationOptions(live=True, direct=True, persistent=True, unsafe=True),
        MigrationOptions(live=True, p2p=True, tls=True, parallel=True, postcopy=True),
        MigrationOptions(live=True, p2p=True, copy_storage_all=True, auto_converge=True),
    ],
)
def test_flags_never_make_it_a_migration(options: MigrationOptions) -> None:
    assert not rehearsal_flags(options) & (Migrate.OFFLINE | Migrate.CHANGE_PROTECTION)
    flags, parameters = refused_in_perform(options, "TOKEN")
    assert not flags & Migrate.OFFLINE
    assert flags & Migrate.PERSIST_DEST
    assert parameters["persistent_xml"] == "TOKEN"


def test_offline_flags_are_not_even_made() -> None:
    offline = MigrationOptions(offline=True, p2p=True)
    with pytest.raises(AssertionError):
        rehearsal_flags(offline)
    with pytest.raises(AssertionError):
        refused_in_perform(offline, "TOKEN")


@pytest.mark.parametrize("token", ["", "<domain/>"])
def test_a_token_that_libvirt_might_parse_is_refused(token: str) -> None:
    with pytest.raises(AssertionError):
        refused_in_perform(LIVE, token)


def test_should_the_token_be_overlooked_the_address_leads_nowhere() -> None:
    assert refused_in_perform(LIVE, "TOKEN")[1]["migrate_uri"] == NOWHERE == "tcp://dry-run.invalid"
    given = replace(LIVE, migrateuri="tcp://h2")
    assert refused_in_perform(given, "TOKEN")[1]["migrate_uri"] == "tcp://h2"


def test_each_rehearsal_has_a_token_of_its_own() -> None:
    one, two = (script_of(DB1, LIVE, URI, ()).whole.token for _ in range(2))
    assert one != two
    assert script_of(DB1, LIVE, URI, ()).whole.flags & Migrate.PERSIST_DEST


def test_auto_converge_is_the_sources_alone() -> None:
    flags = rehearsal_flags(replace(LIVE, auto_converge=True))
    assert destination_flags(flags) == flags & ~Migrate.AUTO_CONVERGE


def test_the_script_is_the_real_migration() -> None:
    options = replace(LIVE, unsafe=True, dname="db2", migrate_disks=("vda", "vdb"))
    script = script_of(DB1, options, URI, ())
    assert (script.uuid, script.arrives_as) == (UUID, "db2")
    assert script.begin_flags == Migrate.LIVE | Migrate.PEER2PEER | Migrate.UNSAFE
    assert script.prepare_parameters["destination_name"] == "db2"
    assert script.prepare_parameters["migrate_disks"] == ("vda", "vdb")
    assert script_of(DB1, LIVE, URI, ()).arrives_as == "db1"
    assert not script.only_whole


def test_a_tunnel_is_rehearsed_as_a_whole() -> None:
    script = script_of(DB1, replace(LIVE, tunnelled=True), URI, ())
    assert script.only_whole
    assert "migrate_uri" not in script.whole.parameters


@pytest.mark.parametrize(
    ("uri", "asked", "address"),
    [
        ("tcp:h2:49152", "", ("h2", 49152)),
        ("tcp://h2:49152", "", ("h2", 49152)),
        ("tcp:[fd00::2]:49153", "", ("fd00::2", 49153)),
        ("", "tcp://10.0.0.2:5000", ("10.0.0.2", 5000)),
        ("tcp://h2:49152", "tcp://h9", ("h2", 49152)),
        ("", "tcp://h2", None),
        ("", "", None),
        ("unix:///run/x.sock", "", None),
        ("rdma://h2:49152", "", None),
        ("tcp://h2:port", "", None),
        ("tcp://[::1", "", None),
    ],
)
def test_the_address_is_the_one_that_the_sources_qemu_is_given(
    uri: str, asked: str, address: tuple[str, int] | None
) -> None:
    assert address_of(uri, asked) == address


def test_a_qemu_that_wants_a_first_word_is_not_kept_waiting() -> None:
    assert script_of(DB1, LIVE, URI, ()).knock is Knock.HELD
    assert script_of(DB1, replace(LIVE, tls=True), URI, ()).knock is Knock.LET_GO
    assert script_of(DB1, replace(LIVE, tls=True, parallel=True), URI, ()).knock is Knock.LET_GO
    assert script_of(DB1, replace(LIVE, parallel=True), URI, ()).knock is Knock.NOT_AT_ALL
