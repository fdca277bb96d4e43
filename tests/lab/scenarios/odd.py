"""Guests, moves and hosts that are odd: where a verdict was wrong, or might easily have been."""

from __future__ import annotations

from dataclasses import replace

from tests.lab import faults
from tests.lab.guests import IMAGES, Guest, Nic
from tests.lab.scenarios.firmware import OVMF, uefi
from tests.lab.scenarios.numa import tuned
from tests.lab.scenarios.options import stored_as
from tests.lab.scenarios.pieces import DISK, NAMED, OWN
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

COPIES_GO = faults.shell(
    "the copies go afterwards",
    ":",
    back=f"rm -f {OWN.path} {IMAGES}/@name-b.qcow2; virsh -q pool-refresh images",
)
IN_NETWORK = (
    "<graphics type='vnc' autoport='yes'><listen type='network' network='neta'/></graphics>"
)
WEBSOCKET = "<graphics type='vnc' autoport='yes' websocket='5777' listen='0.0.0.0'/>"
SCRIPTED = Nic(
    whole="<interface type='ethernet'><script path='/etc/nic-up'/><model type='virtio'/>"
    "<rom enabled='no'/></interface>"
)
SCRIPT = faults.shell(
    "a NIC's script",
    "printf '#!/bin/sh\\nexit 0\\n' >/etc/nic-up; chmod 755 /etc/nic-up",
    back="rm -f /etc/nic-up",
)
TWO_PORTS = (
    faults.port_taken(49998),
    faults.port_taken(49999),
    faults.qemu_conf("migration_port_min = 49998\nmigration_port_max = 49999"),
)


def nvram_at(path: str) -> Guest:
    """Variables of its firmware where libvirt would not put them by itself."""
    own = uefi(f"{OVMF}/OVMF_CODE_4M.fd", f"{OVMF}/OVMF_VARS_4M.fd")
    usual = "/var/lib/libvirt/qemu/nvram/@name_VARS.fd"
    return replace(own, os=own.os.replace(usual, path))


def leading_to(host: str, *checks: str, **parts: str) -> Scenario:
    """The source's QEMU connects to that host, and the destination waits elsewhere."""
    return fails(
        f"uri-leads-to-{host.replace('.', '-')}",
        *checks,
        options=("--unsafe", "--migrateuri", f"tcp://{host}"),
        says=f"unable to connect to server at '{host}:49152': Connection refused",
        **parts,
    )


SCENARIOS: tuple[Scenario, ...] = (
    # The ways of writing XML.
    migrates(
        "odd-comment-in-name", rewrite=(("<name>@name</name>", "<name><!-- a -->@name</name>"),)
    ),
    migrates(
        "odd-metadata",
        guest=guest(
            top="<metadata><a:devices xmlns:a='urn:a'><a:interface type='bridge'>"
            "<a:source bridge='br77'/></a:interface></a:devices><devices xmlns='urn:b'>"
            "<disk type='file'><source file='/nowhere'/></disk></devices></metadata>"
        ),
    ),
    migrates("odd-path", guest=guest(disks=(replace(DISK, path="/srv/shared/a,b=c:d%20.qcow2"),))),
    # CPUs.
    migrates("odd-cpu-maximum-lesser", guest=guest(cpu="maximum"), destination="h4"),
    fails(
        "odd-cpu-minimum-lesser",
        "cpu.features-absent",
        guest=guest(
            cpu="<cpu mode='custom' match='minimum'><model>Nehalem</model></cpu>",
        ),
        destination="h4",
        says="missing features",
        needs=("kvm",),
    ),
    # Disks and media.
    fails(
        "odd-optional-disk-missing",
        "disks.missing",
        guest=guest(disks=(DISK, replace(OWN, target="vdb", startup_policy="optional"))),
        says="No such file or directory",
    ),
    migrates(
        "odd-copy-two-named",
        guest=guest(disks=(OWN, replace(OWN, path=f"{IMAGES}/@name-b.qcow2", target="vdb"))),
        options=("--copy-storage-all", "--migrate-disks", "vda,vdb"),
        on_destination=(COPIES_GO,),
    ),
    # NICs and screens.
    fails(
        "odd-portgroup-of-ovs",
        "nics.not-an-ovs-bridge",
        guest=guest(nics=(Nic(network="neta"),)),
        on_source=(faults.network("neta"),),
        on_destination=(
            faults.network(
                "neta",
                inside="<portgroup name='x' default='yes'><virtualport type='openvswitch'/>"
                "</portgroup>",
            ),
        ),
        says="to OVS bridge br0",
    ),
    fails(
        "odd-nic-script-absent",
        "nics.script-absent",
        guest=guest(nics=(SCRIPTED,)),
        on_source=(SCRIPT,),
        says="cannot execute binary /etc/nic-up: No such file or directory",
    ),
    fails(
        "odd-vnc-websocket-taken",
        "graphics.port-in-use",
        guest=guest(devices=WEBSOCKET),
        on_destination=(faults.port_taken(5777),),
        says="Failed to find an available port",
    ),
    fails(
        "odd-vnc-network-without-bridge",
        "graphics.network-unusable",
        guest=guest(devices=IN_NETWORK),
        on_source=(faults.network("neta"),),
        on_destination=(faults.network("neta", onto="br9"),),
        says="no IP address found for interface 'br9'",
    ),
    # To listen there a network need not be active.
    migrates(
        "odd-vnc-network-inactive",
        guest=guest(devices=IN_NETWORK),
        on_source=(faults.network("neta"),),
        on_destination=(faults.network("neta", state="inactive"),),
    ),
    # What is kept for the next start is not held against the host.
    migrates(
        "odd-stored-bridge-absent",
        guest=guest(nics=(Nic(bridge="br0"),)),
        then_on_source=(stored_as("s|br0|br77|"),),
        options=("--unsafe", "--persistent"),
    ),
    migrates(
        "odd-vcpu-unplugged-pinned",
        guest=guest(vcpus=2, vcpu_attributes=" current='1'"),
        rewrite=tuned("<cputune><vcpupin vcpu='1' cpuset='77'/></cputune>"),
    ),
    fails(
        "odd-watchdog-unknown-to-older",
        "definition.word-unknown",
        guest=guest(cpu=NAMED, devices="<watchdog model='itco' action='none'/>"),
        source="h3",
        says="unknown watchdog model 'itco'",
    ),
    # What every machine of that kind has is left out for the older one.
    migrates(
        "odd-watchdog-of-the-machine-older",
        guest=guest(cpu=NAMED, devices="<watchdog model='itco' action='reset'/>"),
        source="h3",
    ),
    # The firmware's variables.
    migrates(
        "odd-nvram-elsewhere",
        guest=nvram_at("/var/lib/libvirt/vars/@name.fd"),
        **both(faults.directory("/var/lib/libvirt/vars")),
    ),
    fails(
        "odd-nvram-folder-absent",
        "firmware.nvram-folder",
        guest=nvram_at("/var/lib/libvirt/vars/@name.fd"),
        on_source=(faults.directory("/var/lib/libvirt/vars"),),
        says="No such file or directory",
    ),
    migrates(
        "odd-nvram-shared",
        guest=nvram_at("/srv/shared/@name.fd"),
        on_source=(faults.shell("they go afterwards", ":", back="rm -f /srv/shared/@name.fd"),),
    ),
    # The way.
    leading_to("10.78.0.1", "transport.leads-to-itself"),
    leading_to("127.0.0.1", "transport.leads-to-itself"),
    leading_to(
        "10.78.0.4",
        "transport.not-this-host",
        "transport.no-way",
        told_from="rehearsal",
        beyond="addresses may be translated on the way",
    ),
    fails(
        "odd-ports-all-taken",
        "transport.no-free-port",
        on_destination=TWO_PORTS,
        says="Unable to find an unused port in range 'migration' (49998-49999)",
    ),
    migrates("odd-one-port-left", on_destination=TWO_PORTS[1:]),
    fails(
        "odd-migration-address-absent",
        "transport.address-not-here",
        on_destination=(faults.qemu_conf('migration_address = "10.78.0.99"'),),
        says="Cannot assign requested address",
    ),
    fails(
        "odd-migration-host-unknown",
        "transport.own-name-unknown",
        "transport.unknown-name",
        on_destination=(faults.qemu_conf('migration_host = "no-such-host"'),),
        says="Unable to resolve address 'no-such-host'",
    ),
    migrates(
        "odd-lock-daemon-at-source-only",
        guest=guest(disks=(DISK,)),
        on_source=(faults.lock_manager(daemon="running"),),
    ),
)
