"""What is asked of `virsh migrate`, and the way that the guest takes."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.guests import IMAGES, Nic
from tests.lab.scenarios.pieces import DISK, NAMED, OWN
from tests.lab.scenarios.scenario import Scenario, fails, guest, migrates

STORED = faults.shell(
    "the guest is persistent",
    "virsh -q dumpxml --inactive @name >/tmp/d; virsh -q define /tmp/d >/dev/null; rm /tmp/d",
)
PIPEWIRE = 's|<audio id=.1. type=.none./>|<audio id="1" type="pipewire"/>|'
OFF = (STORED, faults.virsh("destroy @name >/dev/null"))


def stored_as(change: str) -> faults.Fault:
    """What the guest will be at its next start is another than what runs."""
    return faults.shell(
        f"the guest is persistent, and another one ({change})",
        f"virsh -q dumpxml --inactive @name | sed '{change}' >/tmp/d; "
        "virsh -q define /tmp/d >/dev/null; rm /tmp/d",
    )


SCENARIOS: tuple[Scenario, ...] = (
    migrates("not-live", mode=("--p2p",)),
    migrates("persistent", guest=guest(disks=(DISK,)), options=("--unsafe", "--persistent")),
    migrates(
        "moved-for-good",
        then_on_source=(STORED,),
        options=("--unsafe", "--persistent", "--undefinesource"),
    ),
    migrates("paused", then_on_source=(faults.virsh("suspend @name >/dev/null"),)),
    migrates("suspended-there", options=("--unsafe", "--suspend")),
    migrates("tunnelled", options=("--unsafe", "--tunnelled")),
    migrates("parallel", options=("--unsafe", "--parallel", "--parallel-connections", "2")),
    migrates("auto-converge", options=("--unsafe", "--auto-converge")),
    migrates("compressed", options=("--unsafe", "--compressed")),
    migrates("postcopy", options=("--unsafe", "--postcopy")),
    migrates(
        "offline",
        then_on_source=(
            STORED,
            faults.virsh("destroy @name >/dev/null"),
        ),
        mode=("--offline", "--p2p"),
        options=("--persistent",),
    ),
    fails(
        "tls-no-certificates",
        "certificates.server-absent",
        options=("--unsafe", "--tls"),
        says="Unable to access credentials",
    ),
    fails(
        "tunnelled-with-copy",
        "options.tunnelled-with-storage",
        guest=guest(disks=(OWN,)),
        options=("--tunnelled", "--copy-storage-all"),
        on_destination=(
            faults.shell(
                "the copy goes afterwards",
                ":",
                back=f"rm -f {OWN.path}; virsh -q pool-refresh images",
            ),
        ),
        says="",
    ),
    fails(
        "uri-dead-address",
        "transport.no-way",
        options=("--unsafe", "--migrateuri", "tcp://10.78.0.99"),
        unsure_ok="who is silent for a second may only drop what he does not know",
        says="unable to connect to server at '10.78.0.99:49152': No route to host",
    ),
    fails(
        "uri-unresolvable",
        "transport.unknown-name",
        options=("--unsafe", "--migrateuri", "tcp://no-such-host"),
        says="Unable to resolve address 'no-such-host'",
    ),
    migrates("uri-fixed-port", options=("--unsafe", "--migrateuri", "tcp://10.78.0.2:49999")),
    fails(
        "uri-fixed-port-taken",
        "transport.port-taken",
        options=("--unsafe", "--migrateuri", "tcp://10.78.0.2:49999"),
        on_destination=(faults.port_taken(49999),),
        says="Address already in use",
    ),
    migrates("postcopy-parallel-older", options=("--unsafe", "--postcopy", "--parallel")),
    fails(
        "postcopy-parallel",
        "options.postcopy-parallel",
        guest=guest(cpu=NAMED),
        source="h3",
        destination="h1",
        options=("--unsafe", "--postcopy", "--parallel"),
        says="Postcopy is not yet compatible with multifd",
    ),
    migrates("first-port-taken", on_destination=(faults.port_taken(49152),)),
    fails(
        "libvirtd-stopped",
        "daemon.not-answering",
        on_destination=(faults.libvirtd_stopped(),),
        says="unable to connect to server at 'h2:16509': Connection refused",
        unsure_ok="without its libvirtd the agent cannot answer for most of the host",
    ),
    migrates(
        "rewritten-title",
        rewrite=(("<memory ", "<title>moved</title><memory "),),
    ),
    fails(
        "rewritten-memory",
        "options.changed-xml",
        rewrite=(("<memory unit='KiB'>65536<", "<memory unit='KiB'>131072<"),),
        says="Target domain max memory 131072 does not match source 65536",
    ),
    fails(
        "rewritten-machine",
        "options.changed-xml",
        rewrite=(("machine='pc-q35-7.2'", "machine='pc-q35-7.1'"),),
        says="pc-q35-7.1",
    ),
    fails(
        "rewritten-mac",
        "options.changed-xml",
        guest=guest(nics=(Nic(bridge="br0"),)),
        rewrite=(("<mac address='52:54:00:", "<mac address='52:54:01:"),),
        says="Target network card",
    ),
    migrates(
        "rewritten-disk-path",
        guest=guest(disks=(OWN,)),
        on_destination=(faults.image(f"{IMAGES}/@name-there.qcow2"),),
        rewrite=(("@name.qcow2", "@name-there.qcow2"),),
    ),
    fails(
        "postcopy-paused",
        "options.postcopy-not-live",
        then_on_source=(faults.virsh("suspend @name >/dev/null"),),
        options=("--unsafe", "--postcopy"),
        says="post-copy migration is not supported with non-live or paused migration",
    ),
    fails(
        "offline-not-persistent",
        "options.offline-not-persistent",
        then_on_source=OFF,
        mode=("--offline", "--p2p"),
        options=(),
        says="offline migration must be specified with the persistent flag set",
    ),
    fails(
        "offline-emulator-absent",
        "machine.emulator-absent",
        then_on_source=OFF,
        on_destination=(faults.moved_away("/usr/bin/qemu-system-x86_64"),),
        mode=("--offline", "--p2p"),
        options=("--persistent",),
        says="Cannot check QEMU binary /usr/bin/qemu-system-x86_64: No such file or directory",
    ),
    fails(
        "offline-feature-unknown",
        "versions.feature-unknown",
        guest=guest(cpu=NAMED, features="<acpi/><ps2 state='off'/>"),
        source="h3",
        then_on_source=OFF,
        mode=("--offline", "--p2p"),
        options=("--persistent",),
        says="unexpected feature 'ps2'",
    ),
    migrates(
        "offline-disk-absent",
        guest=guest(disks=(OWN,)),
        then_on_source=OFF,
        mode=("--offline", "--p2p"),
        options=("--persistent",),
    ),
    # The definition that is kept for the next start travels, too, and is read when all has moved.
    fails(
        "persistent-feature-unknown",
        "definition.stored-refused",
        guest=guest(cpu=NAMED),
        source="h3",
        then_on_source=(stored_as('s|<acpi/>|<acpi/><ps2 state="on"/>|'),),
        options=("--unsafe", "--persistent"),
        says="unexpected feature 'ps2'",
    ),
    fails(
        "persistent-value-unknown",
        "definition.stored-refused",
        guest=guest(cpu=NAMED),
        source="h3",
        then_on_source=(stored_as(PIPEWIRE),),
        options=("--unsafe", "--persistent"),
        says="Invalid value for attribute 'type' in element 'audio': 'pipewire'",
    ),
    migrates(
        "persistent-value-unknown-newer",
        guest=guest(cpu=NAMED),
        source="h3",
        destination="h6",
        then_on_source=(stored_as(PIPEWIRE),),
        options=("--unsafe", "--persistent"),
    ),
    # What is kept is not held against the QEMU that is there: it will not start, that is all.
    migrates(
        "persistent-machine-unknown",
        guest=guest(cpu=NAMED),
        source="h3",
        then_on_source=(stored_as("s|pc-q35-7.2|pc-q35-10.0|"),),
        options=("--unsafe", "--persistent"),
    ),
)
