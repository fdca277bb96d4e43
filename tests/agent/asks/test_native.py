import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.asks.native import spoken_of, write_out
from virt_preflight.agent.depth import Depth
from virt_preflight.agent.domain import Domain, read_domain
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Impossible, LibvirtRefused, SourceError, Unreadable
from virt_preflight.agent.xml import Element, text_form


def guest(devices: str = "", top: str = "") -> Domain:
    return read_domain(f"<domain><name>g</name>{top}<devices>{devices}</devices></domain>")


def devices_of(root: Element) -> list[str]:
    return [str(device.tag) for device in root.findall("devices/*")]


def asked(domain: Domain, answer: str | SourceError) -> FakeSource:
    return FakeSource(answers={("native", text_form(spoken_of(domain)).decode()): answer})


@pytest.mark.parametrize(
    "touching",
    [
        "<interface type='bridge'><source bridge='br0'/></interface>",
        "<hostdev mode='subsystem' type='pci'/>",
        "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        "<disk device='cdrom'><source file='/a.iso' startupPolicy='optional'/></disk>",
    ],
)
def test_what_would_touch_the_host_or_mislead_is_taken_out(touching: str) -> None:
    domain = guest(f"{touching}<rng/>{touching}")
    assert devices_of(spoken_of(domain)) == ["rng"]
    assert len(devices_of(domain.root)) == 3, "the guest itself stays as it is"


@pytest.mark.parametrize(
    "harmless",
    [
        "<tpm><backend type='emulator'/></tpm>",
        "<disk><source file='/a.qcow2'/></disk>",
    ],
)
def test_what_touches_nothing_stays(harmless: str) -> None:
    assert len(devices_of(spoken_of(guest(harmless)))) == 1


def test_a_volume_that_a_copy_would_make_is_not_looked_up() -> None:
    """Seen: --copy-storage-all makes it, and the move goes well (libvirt 9.0 to 11.3)."""
    disks = "".join(
        f"<disk type='{kind}' device='disk'><source {source}/><target dev='{target}'/></disk>"
        for kind, source, target in (
            ("volume", "pool='p' volume='v'", "vda"),
            ("volume", "pool='p' volume='w'", "vdb"),
            ("file", "file='/a'", "vdc"),
        )
    )
    domain = guest(disks)

    def targets(options: MigrationOptions) -> list[str | None]:
        return [one.get("dev") for one in spoken_of(domain, options).findall("devices/disk/target")]

    assert targets(MigrationOptions()) == ["vda", "vdb", "vdc"]
    assert targets(MigrationOptions(copy_storage_all=True)) == ["vdc"]
    chosen = MigrationOptions(copy_storage_all=True, migrate_disks=("vdb",))
    assert targets(chosen) == ["vda", "vdc"]


def test_placement_that_numad_would_choose_is_left_out() -> None:
    top = "<vcpu placement='auto'>2</vcpu><numatune><memory placement='auto'/></numatune>"
    root = spoken_of(guest(top=top))
    assert root.find("numatune") is None
    assert root.find("vcpu") is not None
    assert root.find("vcpu[@placement]") is None


def test_placement_by_hand_stays() -> None:
    top = "<vcpu placement='static'>2</vcpu><numatune><memory nodeset='0'/></numatune>"
    root = spoken_of(guest(top=top))
    assert root.find("numatune/memory[@nodeset='0']") is not None
    assert root.find("vcpu[@placement='static']") is not None


def test_firmware_that_is_there_is_not_chosen_anew() -> None:
    chosen = "<os firmware='efi'><firmware/><loader>/OVMF.fd</loader></os>"
    os = spoken_of(guest(top=chosen)).find("os")
    assert os is not None
    assert not os.attrib
    assert [child.tag for child in os] == ["loader"]


def test_firmware_that_is_still_to_be_chosen_is() -> None:
    os = spoken_of(guest(top="<os firmware='efi'><loader secure='yes'/></os>")).find("os")
    assert os is not None
    assert os.get("firmware") == "efi"


def test_a_guest_that_libvirt_can_write_out_has_nothing_said_of_it() -> None:
    domain = guest()
    hearing = write_out(asked(domain, ""), domain)
    assert (hearing.said, hearing.doubt, hearing.impossible) == ((), "", "")
    assert not hearing.decides, "what starts the guest is another matter"


def test_a_refusal_is_a_blocker_in_libvirts_words() -> None:
    domain = guest()
    words = "Secret not found: no secret with matching uuid '0b0b0b0b-1111-2222-3333-444444444444'"
    (said,) = write_out(asked(domain, LibvirtRefused(words, 66, 30)), domain).said
    assert (said.check, said.problem.libvirt_error) == ("disks.no-secret", words)
    assert (said.problem.side, said.problem.phase) == (Side.DESTINATION, Phase.PREPARE)
    assert said.problem.severity is Severity.BLOCKER


def test_no_answer_is_a_doubt() -> None:
    domain = guest()
    assert write_out(asked(domain, Unreadable("gone")), domain).doubt == "gone"


def test_a_libvirt_of_another_hypervisor_says_so() -> None:
    domain = guest()
    hearing = write_out(asked(domain, Impossible("not supported")), domain)
    assert (hearing.impossible, hearing.depth) == ("not supported", Depth.LIBVIRT)
