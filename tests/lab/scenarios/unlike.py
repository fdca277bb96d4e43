"""Moves that once were said to go well and failed, each beside one like it that goes well."""

from __future__ import annotations

from dataclasses import replace

from tests.lab import faults
from tests.lab.guests import IMAGES, SHARED, Guest
from tests.lab.scenarios.firmware import OVMF, uefi
from tests.lab.scenarios.options import OFF, STORED
from tests.lab.scenarios.pieces import OWN
from tests.lab.scenarios.scenario import Scenario, fails, guest, migrates, newest

QCOW2_VARS = f"{SHARED}/@name.qcow2"
VARS_IN_QCOW2 = faults.shell(
    "variables in qcow2",
    f"qemu-img convert -f raw -O qcow2 {OVMF}/OVMF_VARS_4M.fd {QCOW2_VARS}",
    back=f"rm -f {QCOW2_VARS}",
)
SETTLED = faults.shell("its firmware has written its variables", "sleep 5")
CONF = "/etc/libvirt/qemu"
NOT_KEPT = faults.shell(
    "definitions cannot be written",
    f"mount --bind {CONF} {CONF}; mount -o remount,bind,ro {CONF}",
    # libvirt has a guest that is moved offline in mind all the same, until it starts anew.
    back=f"umount {CONF}\n{faults.RESTART_LIBVIRTD}",
)


def held(how: str) -> faults.Fault:
    """Somebody else has the image open that is to be copied into; `how` are qemu-nbd's options."""
    return faults.shell(
        f"the image is open ({how})",
        f"qemu-img create -q -f qcow2 {OWN.path} 16M; "
        f"qemu-nbd --fork {how} -k /run/held.sock --pid-file=/run/held.pid {OWN.path}",
        back=f"kill $(cat /run/held.pid); sleep 0.1; rm -f /run/held.pid /run/held.sock {OWN.path}",
    )


RAW = replace(OWN, path=f"{IMAGES}/@name.raw", format="raw")


HELD_RAW = faults.shell(
    "the raw image is open",
    held("-f raw").do.replace("qcow2", "raw"),
    back=held("").undo.replace("qcow2", "raw"),
)
UNLOCKED = faults.shell(
    "the image is open without a lock",
    f"qemu-img create -q -f qcow2 {OWN.path} 16M; qemu-nbd --fork -r -k /run/held.sock "
    "--pid-file=/run/held.pid --image-opts driver=qcow2,file.driver=file,"
    f"file.locking=off,file.filename={OWN.path}",
    back=held("").undo,
)


def variables(nvram: str) -> Guest:
    """A guest with that <nvram>."""
    own = uefi(f"{OVMF}/OVMF_CODE_4M.fd", f"{OVMF}/OVMF_VARS_4M.fd")
    return replace(own, os=own.os.partition("<nvram")[0] + nvram)


def by_socket(directory: str) -> tuple[str, ...]:
    return ("--unsafe", "--migrateuri", f"unix://{directory}/@name.sock")


COPIED = guest(disks=(OWN,))
KEPT_NOWHERE = fails(
    "persistent-kept-nowhere",
    "definition.no-place",
    options=("--unsafe", "--persistent"),
    on_destination=(NOT_KEPT,),
    says=f"Failed to create file '{CONF}/",
)
QCOW2_FIRMWARE = fails(
    "nvram-qcow2-older",
    "firmware.format-unknown",
    guest=variables(f"<nvram format='qcow2'>{QCOW2_VARS}</nvram>"),
    source="h3",
    destination="h1",
    on_source=(VARS_IN_QCOW2,),
    then_on_source=(SETTLED,),
    says="",
)
COMPRESSED_PARALLEL = migrates(
    "compressed-parallel", options=("--unsafe", "--compressed", "--parallel")
)

SCENARIOS: tuple[Scenario, ...] = (
    # libvirt 9.0 drops the format, and QEMU takes the file for raw.
    QCOW2_FIRMWARE,
    migrates(
        "nvram-qcow2-newest",
        guest=QCOW2_FIRMWARE.guest,
        source="h3",
        destination="h6",
        on_source=(VARS_IN_QCOW2,),
        then_on_source=(SETTLED,),
    ),
    # The source's QEMU connects to a socket of its own host, and nobody carries it over.
    fails(
        "uri-unix",
        "transport.no-socket",
        options=by_socket("/var/lib/libvirt"),
        on_destination=(
            faults.shell("its socket stays", ":", back="rm -f /var/lib/libvirt/@name.sock"),
        ),
        says="Failed to connect socket to '/var/lib/libvirt/uri-unix.sock'",
        unsure_ok="who carries it over may begin with it at the last moment",
    ),
    # One kernel for both: what the destination's QEMU makes is the source's, too.
    migrates(
        "uri-unix-shared",
        options=by_socket(SHARED),
        unsure_ok="it is not there before the destination's QEMU makes it",
    ),
    fails(
        "uri-unix-no-directory",
        "transport.no-place-for-socket",
        options=by_socket("/var/lib/libvirt/socks"),
        on_source=(faults.directory("/var/lib/libvirt/socks"),),
        says="Failed to bind socket to /var/lib/libvirt/socks/",
    ),
    fails(
        "uri-unix-shut-directory",
        "transport.no-place-for-socket",
        destination="h5",
        options=by_socket("/var/lib/libvirt/socks"),
        on_source=(faults.directory("/var/lib/libvirt/socks"),),
        on_destination=(faults.directory("/var/lib/libvirt/socks"),),
        says="Failed to bind socket to /var/lib/libvirt/socks/",
    ),
    fails(
        "desturi-unix-nobody",
        "transport.no-connection",
        options=("--unsafe", "--desturi", "qemu+unix:///system?socket=/var/lib/libvirt/h2.sock"),
        says="Failed to connect socket to '/var/lib/libvirt/h2.sock': No such file or directory",
    ),
    *(
        fails(
            f"copy-onto-held{name}",
            "disks.copy-into-held",
            guest=COPIED,
            options=("--copy-storage-all",),
            on_destination=(held(how),),
            says="",
        )
        for name, how in (("", "-f qcow2"), ("-by-reader", "-r -f qcow2"), ("-raw", "-f raw"))
    ),
    # Neither of two that write to a raw image minds the other, which is for their owner to mind.
    migrates(
        "copy-raw-onto-held",
        guest=guest(disks=(RAW,)),
        options=("--copy-storage-all",),
        on_destination=(HELD_RAW,),
    ),
    # Who opens it without a lock is in nobody's way.
    migrates(
        "copy-onto-peeked-at",
        guest=COPIED,
        options=("--copy-storage-all",),
        on_destination=(UNLOCKED,),
    ),
    # All has arrived, and libvirt ends it: the guest goes on at the source.
    KEPT_NOWHERE,
    newest(KEPT_NOWHERE),
    fails(
        "offline-kept-nowhere",
        "definition.no-place",
        then_on_source=OFF,
        mode=("--offline", "--p2p"),
        options=("--persistent",),
        on_destination=(NOT_KEPT,),
        says=f"Failed to create file '{CONF}/",
    ),
    # What only runs is written nowhere.
    migrates("not-persistent-kept-nowhere", then_on_source=(STORED,), on_destination=(NOT_KEPT,)),
    COMPRESSED_PARALLEL,
    fails(
        "compressed-parallel-newest",
        "options.compressed-parallel",
        source="h3",
        destination="h6",
        options=COMPRESSED_PARALLEL.options,
        says="No compression algorithm selected for parallel migration",
    ),
    fails(
        "compressed-parallel-newer",
        "options.compressed-parallel",
        destination="h3",
        options=COMPRESSED_PARALLEL.options,
        says="Compression method 'xbzrle' isn't supported with parallel migration",
    ),
    # What such a command did libvirt does not know. One that plugged a device in ended the move:
    # "Unknown savevm section or instance '0000:00:01.0:00.0/virtio-rng' 0".
    migrates(
        "monitor-asked",
        then_on_source=(faults.virsh("qemu-monitor-command @name --hmp info status >/dev/null"),),
        checks=("state.custom-monitor",),
    ),
)
