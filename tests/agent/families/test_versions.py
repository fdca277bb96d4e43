import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.versions import (
    GuestElements,
    GuestNewcomers,
    HostVersions,
    KnownElements,
    device_dropped,
    feature_unknown,
    guest_elements,
    guest_newcomers,
    host_versions,
    known_elements,
    libvirt_older,
    part_dropped,
    qemu_older,
    written,
)
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Unreadable

BOOKWORM = HostVersions(libvirt=9_000_000, qemu=7_002_022)


def origin(libvirt: int | None, qemu: int | None) -> GuestOrigin:
    return GuestOrigin(host_name="h3", host_uuid="", libvirt_version=libvirt, qemu_version=qemu)


def newcomers(devices: str, cpu: str = "") -> GuestNewcomers | None:
    return guest_newcomers(
        read_domain(f"<domain><name>g</name>{cpu}<devices>{devices}</devices></domain>")
    )


def test_versions_are_read_as_libvirt_writes_them() -> None:
    source = FakeSource(answers={("version",): '{"libvirt": 9000000, "qemu": 7002022}'})
    assert host_versions(source) == BOOKWORM
    assert written(7_002_022) == "7.2.22"


def test_an_answer_without_versions_tells_nothing() -> None:
    with pytest.raises(Unreadable):
        host_versions(FakeSource(answers={("version",): '{"libvirt": null}'}))


def test_an_older_libvirt_is_a_risk() -> None:
    (problem,) = libvirt_older(origin(11_003_000, 10_000_000), BOOKWORM)
    assert problem == Problem(subject="libvirt", wanted="11.3.0 as on h3", found="9.0.0")
    assert libvirt_older.severity is Severity.RISK


def test_an_older_qemu_is_a_risk() -> None:
    (problem,) = qemu_older(origin(11_003_000, 10_000_002), BOOKWORM)
    assert problem == Problem(subject="QEMU", wanted="10.0.2 as on h3", found="7.2.22")
    assert qemu_older.severity is Severity.RISK


def test_a_newer_host_is_fine() -> None:
    here = HostVersions(libvirt=11_003_000, qemu=10_000_002)
    assert not list(libvirt_older(origin(9_000_000, 7_002_022), here))
    assert not list(qemu_older(origin(9_000_000, 7_002_022), here))


def test_repairs_do_not_count() -> None:
    assert not list(qemu_older(origin(9_000_003, 7_002_099), BOOKWORM))
    assert not list(libvirt_older(origin(9_000_003, 7_002_099), BOOKWORM))


def test_unknown_versions_of_the_source_are_left_open() -> None:
    for found in (
        *libvirt_older(origin(None, None), BOOKWORM),
        *qemu_older(origin(None, None), BOOKWORM),
    ):
        assert isinstance(found, CouldNotTell)


def test_a_part_that_breaks_the_stream_when_it_is_dropped_is_a_blocker() -> None:
    guest = newcomers("<disk><driver name='qemu' page_per_vq='on'/></disk>")
    assert guest is not None
    (problem,) = part_dropped(guest, HostVersions(libvirt=7_000_000, qemu=5_002_000))
    assert isinstance(problem, Problem)
    assert problem.subject == "<driver page_per_vq>"
    assert problem.severity is Severity.BLOCKER
    assert problem.wanted == "libvirt 7.9.0 or newer"


def test_a_part_that_only_changes_the_guest_is_a_risk() -> None:
    guest = newcomers("<disk><driver queue_size='512'/></disk>", "<cpu><maxphysaddr/></cpu>")
    assert guest is not None
    problems = list(part_dropped(guest, HostVersions(libvirt=7_000_000, qemu=5_002_000)))
    assert len(problems) == 2
    assert all(isinstance(found, Problem) and found.severity is None for found in problems)


def test_a_libvirt_that_knows_the_part_keeps_it() -> None:
    guest = newcomers("<interface><driver page_per_vq='on'/></interface>")
    assert guest is not None
    assert not list(part_dropped(guest, BOOKWORM))


def test_a_part_that_is_off_or_not_there_is_no_newcomer() -> None:
    assert newcomers("<disk><driver page_per_vq='off'/></disk>") is None
    assert newcomers("<disk><driver name='qemu'/></disk>") is None


SCHEMA = "/usr/share/libvirt/schemas/domaincommon.rng"


def elements(inside: str) -> GuestElements | None:
    return guest_elements(read_domain(f"<domain><name>g</name>{inside}</domain>"))


def schema(*names: str) -> KnownElements:
    text = "".join(f'<define name="x"><element name="{name}"/></define>' for name in names)
    wanted = GuestElements(features=(), devices=())
    return known_elements(FakeSource(texts={SCHEMA: text}), wanted)


PS2 = "<features><acpi/><ps2 state='off'/></features>"
PSTORE = "<devices><disk/><pstore backend='acpi-erst'/></devices>"


def test_a_guest_with_nothing_new_is_not_held_against_the_schema() -> None:
    assert elements("<features><acpi/></features><devices><disk/><rng/></devices>") is None


def test_a_feature_that_libvirt_does_not_know_is_refused() -> None:
    guest = elements(PS2)
    assert guest is not None
    (problem,) = feature_unknown(guest, schema("acpi"))
    assert isinstance(problem, Problem)
    assert problem.subject == "<features><ps2>"
    assert feature_unknown.offline


def test_a_feature_of_the_schema_is_fine() -> None:
    guest = elements(PS2)
    assert guest is not None
    assert not list(feature_unknown(guest, schema("acpi", "ps2")))


def test_a_device_that_libvirt_does_not_know_is_dropped() -> None:
    guest = elements(PSTORE)
    assert guest is not None
    (problem,) = device_dropped(guest, schema("disk"))
    assert isinstance(problem, Problem)
    assert problem.subject == "<pstore>"


def test_a_device_of_the_schema_is_fine() -> None:
    guest = elements(PSTORE)
    assert guest is not None
    assert not list(device_dropped(guest, schema("disk", "pstore")))
