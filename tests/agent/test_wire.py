from __future__ import annotations

from virt_preflight.agent.asks.decided import DECIDED_BY_REHEARSAL
from virt_preflight.agent.asks.rehearsal import ASK
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.hearing import Hearing
from virt_preflight.agent.origin import FileIdentity, GuestOrigin, Lookup
from virt_preflight.agent.wire import origin, origin_message, rehearsal, rehearsal_message
from virt_preflight.v1 import agent_pb2, report_pb2


def test_what_the_source_says_arrives_as_it_was_said() -> None:
    told = GuestOrigin(
        host_name="h1",
        host_uuid="1",
        libvirt_version=9_000_000,
        host_model_name="EPYC",
        host_model_vendor="AMD",
        host_model_features=frozenset({"avx"}),
        bytes_by_path={"/a": 0, "/b": 512},
        identity_by_path={
            "/a": FileIdentity(file_system="ext4", inode=2**63, born_ns=1_700_000_000_123_456_789),
            "/dev/c": FileIdentity(serial="naa.600a"),
        },
        backing_by_path={"/a": "/base"},
        digest_by_path={"/d": "ab" * 32},
        lock_manager="lockd",
        stored_xml=b"<domain/>",
        tls_authority="-----BEGIN CERTIFICATE-----",
        tls_client="-----BEGIN CERTIFICATE-----\n",
        pci_ids_by_address={"0000:3b:00.0": "8086:154c"},
        begin_cookie=b"<qemu-migration/>",
        lookup_by_name={"h2": Lookup(), "h3": Lookup(fault="no"), "h4": Lookup(doubt="late")},
        unlearned={"HostCpu": "hung"},
    )
    assert origin(origin_message(told)) == told


def test_what_the_source_does_not_know_stays_unknown() -> None:
    told = GuestOrigin(host_name="h1", host_uuid="")
    assert origin(origin_message(told)) == told


def test_an_older_agent_on_the_source_says_no_more_than_that_prepare_went_through() -> None:
    older = agent_pb2.Rehearsal(settled=[report_pb2.PHASE_PREPARE])
    assert rehearsal(older).decides == DECIDED_BY_REHEARSAL
    assert not rehearsal(agent_pb2.Rehearsal(settled=[report_pb2.PHASE_BEGIN])).decides
    assert not rehearsal(agent_pb2.Rehearsal()).decides


def test_an_older_agent_on_the_destination_is_told_that_prepare_went_through() -> None:
    passed = Hearing(ask=ASK, depth=Depth.REHEARSAL, decides=DECIDED_BY_REHEARSAL)
    assert list(rehearsal_message(passed).settled) == [report_pb2.PHASE_PREPARE]
    refused = Hearing(ask=ASK, depth=Depth.REHEARSAL, impossible="hooks")
    assert not rehearsal_message(refused).settled
