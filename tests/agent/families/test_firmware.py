from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.firmware import (
    FirmwareDigests,
    FlashFormats,
    GuestFirmware,
    SeenFirmware,
    firmware_digests,
    firmware_openings,
    flash_formats,
    format_unknown,
    guest_bytes,
    guest_doubts,
    guest_firmware,
    missing,
    no_template,
    nvram_folder,
    nvram_to_make,
    other_content,
    other_size,
    rom_of_other_size,
    seen_firmware,
    template_of_other_size,
    unreadable,
    unwritable,
)
from virt_preflight.agent.families.firmware.checks import power_of_two
from virt_preflight.agent.families.firmware.host import (
    LABELLED_WITHIN_S,
    FirmwareOpenings,
    NvramToMake,
    data_folders,
)
from virt_preflight.agent.families.versions import SCHEMA
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import FileStat, SourceError, Unreadable, User, Want

QEMU = User(name="libvirt-qemu", uid=64055, gid=64055, groups=(105, 64055))
OWNING = QemuUser(user=QEMU, dynamic_ownership=True)
LEAVING = QemuUser(user=QEMU, dynamic_ownership=False)
NO_CONF = QemuConf(value_by_key={})
CODE, VARS, TEMPLATE = "/fw/C.fd", "/nvram/g_VARS.fd", "/fw/V.fd"
# As virsh dumpxml shows a running guest that was defined with <os firmware='efi'> (libvirt 9.0).
UEFI = f"""<loader readonly='yes' secure='yes' type='pflash'>{CODE}</loader>
<nvram template='{TEMPLATE}'>{VARS}</nvram>"""
NIC = (
    "<interface type='bridge'><mac address='52:54:00:5a:ff:2d'/><model type='virtio'/>{}"
    "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></interface>"
)
# A descriptor of Debian's ovmf, shortened.
DESCRIPTOR = json.dumps(
    {
        "description": "UEFI firmware for x86_64",
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": CODE, "format": "raw"},
            "nvram-template": {"filename": TEMPLATE, "format": "raw"},
        },
    }
)


def file(
    *, size: int = 131072, mode: int = 0o644, uid: int = 0, kind: str = "file", changed: float = 0
) -> FileStat:
    return FileStat(
        kind=kind,
        size_bytes=size,
        mode=mode,
        uid=uid,
        gid=uid,
        device=1,
        inode=1,
        changed_s=changed,
    )


THERE: Mapping[str, FileStat | SourceError] = {
    CODE: file(size=1966080),
    VARS: file(mode=0o600),
    TEMPLATE: file(),
    "/nvram": file(kind="dir"),
}


def guest(inside: str = "", devices: str = "", machine: str = "other-1.0") -> GuestFirmware:
    found = read(inside, devices, machine)
    assert found is not None
    return found


def read(inside: str = "", devices: str = "", machine: str = "other-1.0") -> GuestFirmware | None:
    return guest_firmware(
        read_domain(
            f"<domain><name>g</name><os><type machine='{machine}'>hvm</type>{inside}</os><devices>"
            f"<emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}</devices></domain>"
        )
    )


def without(*paths: str) -> Mapping[str, FileStat | SourceError]:
    return {path: found for path, found in THERE.items() if path not in paths}


def host(
    stats: Mapping[str, FileStat | SourceError] = THERE,
    texts: Mapping[str, str | SourceError] | None = None,
    mays: Mapping[tuple[str, Want, str], bool | SourceError] | None = None,
    directories: Mapping[str, tuple[str, ...]] | None = None,
) -> FakeSource:
    usual: dict[tuple[str, Want, str], bool | SourceError] = {
        (path, want, user): True
        for path in stats
        for want in (Want.EXISTS, Want.READ, Want.WRITE, Want.EXECUTE)
        for user in (QEMU.name, "root")
    }
    return FakeSource(
        stats=stats,
        texts=texts or {},
        mays={**usual, **(mays or {})},
        directories=directories or {},
        file_systems=dict.fromkeys(stats, "ext4"),
    )


def look(wanted: GuestFirmware, source: FakeSource) -> SeenFirmware:
    return seen_firmware(source, wanted)


def origin(sizes: Mapping[str, int], doubts: Mapping[str, str] | None = None) -> GuestOrigin:
    return GuestOrigin(host_name="h1", host_uuid="1", bytes_by_path=sizes, unlearned=doubts or {})


def one(problems: Iterable[Problem | CouldNotTell]) -> Problem:
    (found,) = problems
    assert isinstance(found, Problem), found
    return found


def open_question(problems: Iterable[Problem | CouldNotTell]) -> CouldNotTell:
    (found,) = problems
    assert isinstance(found, CouldNotTell), found
    return found


def making(wanted: GuestFirmware, source: FakeSource, conf: QemuConf = NO_CONF) -> NvramToMake:
    found = nvram_to_make(source, wanted, look(wanted, source), conf, OWNING)
    assert found is not None
    return found


# ------------------------------------------------------------------------- what the XML says


def test_a_guest_that_reads_no_known_file_has_no_firmware() -> None:
    assert read() is None


def test_loader_and_variables_are_read() -> None:
    found = guest(UEFI)
    assert found.loader is not None
    assert found.nvram is not None
    assert (found.loader.path, found.loader.type, found.loader.readonly) == (CODE, "pflash", True)
    assert (found.nvram.path, found.nvram.template) == (VARS, TEMPLATE)


def test_variables_may_have_a_source_of_their_own() -> None:
    found = guest(
        f"<loader type='pflash'>{CODE}</loader>"
        f"<nvram type='file' format='qcow2'><source file='{VARS}'/></nvram>"
    )
    assert found.nvram is not None
    assert (found.nvram.path, found.nvram.format, found.nvram.template) == (VARS, "qcow2", "")


def test_variables_on_a_server_are_left_to_qemu() -> None:
    found = guest(
        f"<loader type='pflash'>{CODE}</loader>"
        "<nvram type='network'><source protocol='nbd' name='e'/></nvram>"
    )
    assert found.nvram is None


def test_network_and_video_cards_have_roms() -> None:
    found = guest(
        devices=NIC.format("") + "<video><model type='vga' primary='yes'/></video>",
        machine="pc-q35-7.2",
    )
    assert found.roms == (
        ("BIOS", "bios-256k.bin"),
        ("interface 52:54:00:5a:ff:2d", "efi-virtio.rom"),
        ("video card", "vgabios-stdvga.bin"),
    )


@pytest.mark.parametrize("rom", ["<rom enabled='no'/>", "<rom bar='off'/>"])
def test_a_rom_that_is_switched_off_is_none(rom: str) -> None:
    assert read(UEFI, NIC.format(rom), "pc-q35-7.2") == guest(UEFI, machine="pc-q35-7.2")


def test_a_rom_file_replaces_qemu_s_own() -> None:
    found = guest(UEFI, NIC.format("<rom file='/x.rom'/>"), "pc-q35-7.2")
    assert (found.rom_files, found.roms) == ((("interface 52:54:00:5a:ff:2d", "/x.rom"),), ())


def test_roms_of_a_distribution_s_own_machine_types_are_not_known() -> None:
    assert read(devices=NIC.format(""), machine="pc-q35-rhel9.2.0") is None


def test_a_guest_with_a_loader_has_no_bios() -> None:
    assert guest(UEFI, machine="pc-q35-7.2").roms == ()


# -------------------------------------------------------------------------- files and sizes


def test_qemu_s_own_files_are_told_by_name() -> None:
    wanted = guest(devices=NIC.format(""), machine="virt-7.2")
    path = "/usr/lib/ipxe/qemu/efi-virtio.rom"
    seen = look(wanted, host({path: file(size=249344)}))
    assert guest_bytes(seen) == {path: 249344, "efi-virtio.rom": 249344}


def test_a_qemu_built_under_a_prefix_has_its_files_there() -> None:
    assert data_folders("/opt/qemu/bin/qemu-system-x86_64") == (
        "/opt/qemu/share/qemu",
        "/opt/qemu/share/qemu-firmware",
    )
    assert "/usr/share/seabios" in data_folders("/usr/libexec/qemu-kvm")


def test_a_link_to_a_packaged_qemu_has_the_packaged_files() -> None:
    emulator = "/opt/qemu/qemu-system-x86_64"
    bios = "/usr/share/seabios/bios-256k.bin"
    wanted = GuestFirmware(
        name="g",
        loader=None,
        nvram=None,
        boot_files=(),
        rom_files=(),
        roms=(("BIOS", "bios-256k.bin"),),
        emulator=emulator,
        dac=guest(UEFI).dac,
    )
    source = FakeSource(stats={bios: file()}, links={emulator: "/usr/bin/qemu-system-x86_64"})
    assert look(wanted, source).roms == {"bios-256k.bin": bios}


def test_what_was_replaced_after_the_start_is_in_doubt() -> None:
    texts: dict[str, str | SourceError] = {
        "/run/libvirt/qemu/g.pid": "3245",
        "/proc/3245/stat": "3245 (qemu) system) S 1 3244 3244 0 -1 138412416 5834 0 0 0 15 33 0 0 "
        "20 0 4 0 413237 1440649216",
        "/proc/stat": "cpu  1 2\nbtime 1795465290\nprocesses 3",
    }
    wanted = guest(UEFI)
    # libvirtd gives QEMU its files within a moment of the start: that is no replacement.
    older = {**THERE, CODE: file(changed=1795469422.0 + LABELLED_WITHIN_S)}
    newer = {**THERE, CODE: file(changed=1795469423.0 + LABELLED_WITHIN_S)}
    assert guest_doubts(look(wanted, host(older, texts))) == {}
    assert list(guest_doubts(look(wanted, host(newer, texts)))) == [CODE]
    assert guest_doubts(look(wanted, host(newer))) == {}


def test_a_missing_loader_is_told() -> None:
    wanted = guest(UEFI)
    assert one(missing(wanted, look(wanted, host(without(CODE))))) == Problem(
        subject="loader", wanted=CODE, found="nothing there"
    )


def test_missing_variables_are_no_missing_file() -> None:
    wanted = guest(UEFI)
    assert not list(missing(wanted, look(wanted, host(without(VARS)))))


def test_kernel_and_rom_files_have_to_be_there() -> None:
    wanted = guest("<kernel>/k</kernel><initrd>/i</initrd>", NIC.format("<rom file='/x.rom'/>"))
    found = list(missing(wanted, look(wanted, host({"/i": file()}))))
    assert [problem.subject for problem in found] == ["kernel", "interface 52:54:00:5a:ff:2d"]


def fw_cfg(entry: str) -> GuestFirmware | None:
    return guest_firmware(
        read_domain(
            f"<domain><name>g</name><sysinfo type='smbios'/><sysinfo type='fwcfg'>{entry}</sysinfo>"
            "<os><type machine='other-1.0'>hvm</type></os></domain>"
        )
    )


def test_a_file_for_fw_cfg_has_to_be_there() -> None:
    wanted = fw_cfg("<entry name='opt/x/y' file='/only'/>")
    assert wanted is not None
    assert one(missing(wanted, look(wanted, host()))).subject == "fw_cfg opt/x/y"
    assert not list(missing(wanted, look(wanted, host({"/only": file()}))))


def test_a_value_for_fw_cfg_is_no_file() -> None:
    assert fw_cfg("<entry name='opt/x/y'>text</entry>") is None


def test_a_loader_that_cannot_be_looked_at_is_left_open() -> None:
    wanted = guest(UEFI)
    seen = look(wanted, host({**THERE, CODE: Unreadable("stale file handle")}))
    assert open_question(missing(wanted, seen)).why == "stale file handle"


def test_a_loader_of_another_size_breaks_the_stream() -> None:
    wanted = guest(UEFI)
    seen = look(wanted, host())
    same = {CODE: 1966080, VARS: 131072}
    assert not list(other_size(wanted, seen, origin(same)))
    problem = one(other_size(wanted, seen, origin({**same, CODE: 3653632})))
    assert (problem.subject, problem.found) == ("loader", "1966080 bytes")


def test_variables_have_to_be_of_the_same_size_too() -> None:
    wanted = guest(UEFI)
    sizes = {CODE: 1966080, VARS: 540672}
    assert one(other_size(wanted, look(wanted, host()), origin(sizes))).subject == "NVRAM"


def test_a_size_that_the_source_does_not_tell_is_left_open() -> None:
    wanted = guest(UEFI)
    said = open_question(other_size(wanted, look(wanted, host()), origin({CODE: 1966080})))
    assert said.subject == "NVRAM"


def test_a_replaced_file_of_another_size_is_left_open() -> None:
    wanted = guest(UEFI)
    told = origin({CODE: 1, VARS: 131072}, {CODE: f"{CODE} was replaced after the start"})
    assert "replaced" in open_question(other_size(wanted, look(wanted, host()), told)).why


# ------------------------------------------------------------------------------ who may open


def opened(
    qemu: QemuUser,
    path: str,
    mode: int,
    *,
    may: tuple[bool, bool] = (False, False),
    inside: str = UEFI,
) -> tuple[GuestFirmware, SeenFirmware, FirmwareOpenings]:
    wanted = guest(inside)
    source = host(
        {**THERE, "/k": file(mode=mode), path: file(mode=mode)},
        mays={(path, Want.READ, QEMU.name): may[0], (path, Want.WRITE, QEMU.name): may[1]},
    )
    seen = look(wanted, source)
    return wanted, seen, firmware_openings(source, wanted, seen, qemu)


def test_nobody_gives_a_loader_away() -> None:
    for qemu in (OWNING, LEAVING):
        assert one(unreadable(*opened(qemu, CODE, 0o600))) == Problem(
            subject="loader",
            wanted=f"{CODE} readable for libvirt-qemu",
            found="mode 0600, owner 0:0",
        )


def test_variables_are_given_to_qemu_by_dynamic_ownership_alone() -> None:
    wanted, seen, openings = opened(OWNING, VARS, 0o600)
    assert not list(unreadable(wanted, seen, openings))
    assert not list(unwritable(wanted, openings))
    assert one(unreadable(*opened(LEAVING, VARS, 0o600))).subject == "NVRAM"


def test_variables_that_cannot_be_written_fail_at_the_end() -> None:
    wanted, seen, openings = opened(LEAVING, VARS, 0o644, may=(True, False))
    assert not list(unreadable(wanted, seen, openings))
    assert one(unwritable(wanted, openings)).wanted == f"{VARS} writable for libvirt-qemu"


def test_a_kernel_is_given_to_qemu() -> None:
    kernel = "<kernel>/k</kernel>"
    assert not list(unreadable(*opened(OWNING, "/k", 0o600, inside=kernel)))
    assert one(unreadable(*opened(LEAVING, "/k", 0o600, inside=kernel))).subject == "kernel"


# ---------------------------------------------------------------- variables that are not there


def test_variables_that_are_there_need_no_template() -> None:
    wanted = guest(UEFI)
    source = host(without(TEMPLATE))
    assert nvram_to_make(source, wanted, look(wanted, source), NO_CONF, OWNING) is None


def test_variables_are_made_from_their_template() -> None:
    wanted = guest(UEFI)
    made = making(wanted, host(without(VARS)))
    assert not list(no_template(wanted, made))
    assert not list(nvram_folder(made))
    assert not list(template_of_other_size(wanted, made, origin({VARS: 131072})))


def test_a_missing_template_is_told() -> None:
    wanted = guest(UEFI)
    made = making(wanted, host(without(VARS, TEMPLATE)))
    assert one(no_template(wanted, made)).wanted == f"{VARS}, or its template {TEMPLATE}"


def test_a_template_of_another_size_does_not_fit() -> None:
    wanted = guest(UEFI)
    made = making(wanted, host(without(VARS)))
    problem = one(template_of_other_size(wanted, made, origin({VARS: 540672})))
    assert (problem.subject, problem.found) == ("NVRAM", "131072 bytes")


def test_a_loader_that_nobody_knows_has_no_template() -> None:
    wanted = guest(f"<loader type='pflash'>{CODE}</loader><nvram>{VARS}</nvram>")
    made = making(wanted, host(without(VARS)))
    assert one(no_template(wanted, made)).wanted == f"{VARS}, or a template for {CODE}"


def test_descriptors_and_qemu_conf_name_templates() -> None:
    wanted = guest(f"<loader type='pflash'>{CODE}</loader><nvram>{VARS}</nvram>")
    described = host(
        without(VARS),
        texts={
            "/usr/share/qemu/firmware/50-x.json": "{",
            "/usr/share/qemu/firmware/60-x.json": DESCRIPTOR,
        },
        directories={"/usr/share/qemu/firmware": ("50-x.json", "60-x.json", "README")},
    )
    assert making(wanted, described).template == TEMPLATE
    conf = QemuConf(value_by_key={"nvram": f'[\n  "{CODE}:{TEMPLATE}"\n]'})
    assert making(wanted, host(without(VARS)), conf).template == TEMPLATE


def test_what_libvirt_was_built_to_know_is_left_open() -> None:
    code = "/usr/share/edk2/CODE.fd"
    wanted = guest(f"<loader type='pflash'>{code}</loader><nvram>{VARS}</nvram>")
    assert code in open_question(no_template(wanted, making(wanted, host(without(VARS))))).why


def test_the_folder_of_the_variables_is_not_made() -> None:
    wanted = guest(UEFI)
    problem = one(nvram_folder(making(wanted, host(without(VARS, "/nvram")))))
    assert (problem.found, problem.commands) == ("no such directory", ("mkdir -p /nvram",))


def test_qemu_has_to_reach_the_variables() -> None:
    wanted = guest(UEFI)
    source = host(without(VARS), mays={("/nvram", Want.EXECUTE, QEMU.name): False})
    assert one(nvram_folder(making(wanted, source))).found == "libvirt-qemu may not search it"


# --------------------------------------------------------------------------------- QEMU's own


def rom(
    size: int, told: Mapping[str, int], name: str = "efi-virtio.rom"
) -> tuple[GuestFirmware, SeenFirmware, GuestOrigin]:
    devices = NIC.format("") if name == "efi-virtio.rom" else ""
    machine = "virt-7.2" if devices else "pc-q35-7.2"
    wanted = guest(devices=devices, machine=machine)
    return wanted, look(wanted, host({f"/usr/share/qemu/{name}": file(size=size)})), origin(told)


def test_roms_of_the_same_power_of_two_fit() -> None:
    assert not list(rom_of_other_size(*rom(200000, {"efi-virtio.rom": 249344})))


@pytest.mark.parametrize("size", [60000, 300000])
def test_roms_of_another_power_of_two_do_not(size: int) -> None:
    problem = one(rom_of_other_size(*rom(size, {"efi-virtio.rom": 249344})))
    assert problem.found == f"{size} bytes"


def test_the_bios_has_to_be_of_the_very_size() -> None:
    asked = rom(131072, {"bios-256k.bin": 262144}, "bios-256k.bin")
    assert one(rom_of_other_size(*asked)).subject == "BIOS"


def test_a_rom_that_is_found_nowhere_is_left_open() -> None:
    wanted = guest(devices=NIC.format(""), machine="virt-7.2")
    told = origin({"efi-virtio.rom": 1})
    assert open_question(rom_of_other_size(wanted, look(wanted, host({})), told))


@pytest.mark.parametrize(("size", "rounded"), [(0, 1), (1, 1), (3, 4), (4, 4), (249344, 262144)])
def test_sizes_of_roms_are_rounded_up(size: int, rounded: int) -> None:
    assert power_of_two(size) == rounded


# ------------------------------------------------------------------------------- the content

KERNEL = "<kernel>/boot/k</kernel>"
BOOTED = guest(UEFI + KERNEL)
MINE = FirmwareDigests(by_path={CODE: "aa", "/boot/k": "bb"})


def came(unlearned: Mapping[str, str] | None = None, **digests: str) -> GuestOrigin:
    by_path = {"/boot/k" if key == "kernel" else CODE: told for key, told in digests.items()}
    return GuestOrigin(
        host_name="h1", host_uuid="1", digest_by_path=by_path, unlearned=unlearned or {}
    )


def test_a_kernel_of_another_content_is_booted_next_time() -> None:
    problem = one(other_content(BOOTED, MINE, came(kernel="cc", loader="aa")))
    assert (problem.subject, problem.severity) == ("kernel", Severity.RISK)
    assert problem.wanted == "/boot/k as on h1"


def test_a_loader_of_another_content_is_worth_a_note() -> None:
    problem = one(other_content(BOOTED, MINE, came(loader="cc")))
    assert (problem.subject, problem.severity) == ("loader", Severity.NOTE)


def test_the_same_content_or_one_that_nobody_told_is_fine() -> None:
    assert not list(other_content(BOOTED, MINE, came(kernel="bb", loader="aa")))
    assert not list(other_content(BOOTED, MINE, came()))


def test_a_kernel_that_was_replaced_since_the_start_is_left_open() -> None:
    replaced = came({"/boot/k": "/boot/k was replaced after the guest was started"}, kernel="cc")
    assert "is another one here" in open_question(other_content(BOOTED, MINE, replaced)).why


def test_what_cannot_be_read_through_has_no_digest() -> None:
    stats = {**THERE, "/boot/k": file(), "/boot/i": file()}
    source = replace(
        host(stats), digests={CODE: "aa", "/boot/k": Unreadable("only files of at most 64 MiB")}
    )
    seen = look(BOOTED, source)
    assert firmware_digests(source, BOOTED, seen) == FirmwareDigests(by_path={CODE: "aa"})
    assert firmware_digests(FakeSource(), BOOTED, look(BOOTED, FakeSource())) is None


def test_a_loader_that_the_guest_writes_to_is_its_own() -> None:
    wanted = guest(UEFI.replace("readonly='yes'", "readonly='no'"))
    source = replace(host(), digests={CODE: "aa"})
    assert firmware_digests(source, wanted, look(wanted, source)) is None


IN_QCOW2 = UEFI.replace("<nvram", "<nvram format='qcow2'")
# As libvirt 9.0 and 11.3 have <os><nvram>, shortened; another of that name is a device of pSeries.
DEVICE = "<element name='nvram'><optional><ref name='address'/></optional></element>"
OF_OLD = f'<element name="nvram"><attribute name="template"/></element>{DEVICE}'
OF_NEW = f'<element name="nvram"><ref name="pflashFormat"/></element>{DEVICE}'


def flash(
    schema: str, inside: str = IN_QCOW2, sizes: Mapping[str, int] | None = None
) -> tuple[GuestFirmware, SeenFirmware, FlashFormats, GuestOrigin]:
    wanted, source = guest(inside), host(texts={SCHEMA: schema})
    formats = flash_formats(source, wanted)
    assert formats is not None
    told = {VARS: 540672} if sizes is None else sizes
    return wanted, look(wanted, source), formats, origin(told)


def test_an_older_libvirt_takes_flash_in_qcow2_for_raw() -> None:
    problem = one(format_unknown(*flash(OF_OLD)))
    assert (problem.subject, problem.wanted) == ("NVRAM", "a libvirt that knows qcow2 flash")
    assert problem.found == f"one that takes {VARS} for raw"
    loader = UEFI.replace("<loader", "<loader format='qcow2'")
    assert one(format_unknown(*flash(OF_OLD, loader, {CODE: 3653632}))).subject == "loader"


def test_a_newer_libvirt_knows_of_formats() -> None:
    assert not list(format_unknown(*flash(OF_NEW)))


def test_raw_flash_of_just_that_size_is_taken_for_what_it_is() -> None:
    assert not list(format_unknown(*flash(OF_OLD, sizes={VARS: 131072})))
    assert open_question(format_unknown(*flash(OF_OLD, sizes={}))).subject == "NVRAM"


def test_a_guest_with_raw_flash_needs_no_such_libvirt() -> None:
    assert flash_formats(host(), guest(UEFI)) is None


def test_a_schema_without_variables_is_not_understood() -> None:
    with pytest.raises(Unreadable, match="not understood"):
        flash_formats(host(texts={SCHEMA: "<grammar/>"}), guest(IN_QCOW2))
