"""What went through has decided: the questions that libvirt and QEMU put themselves meanwhile.

A trial decides only what the stand-in had as the guest has it: memory, pages, name and UUID, files
that were made beside the guest's own, and all that was left out are still the facts' to tell. A
rehearsal decides more, as the guest itself was prepared. What is not listed nobody has decided.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

MACHINE = frozenset(
    (
        "daemon.not-answering",
        "devices.no-lock-daemon",
        "devices.no-vsock",
        "machine.architecture-unsupported",
        "machine.emulator-absent",
        "machine.emulator-broken",
        "machine.emulator-refused",
        "machine.kvm-absent",
        "machine.kvm-forbidden",
        "machine.too-many-vcpus",
        "machine.type-unsupported",
        "machine.virt-type-unsupported",
        "numa.cell-absent",
        "numa.no-numad",
        "pinning.cpu-absent",
    )
)
# Where the stand-in had all of the guest's devices.
WHOLE = frozenset(("devices.not-offered",))
# Where the source's cookie named the CPU that the guest really has.
LIVE_CPU = frozenset(
    (
        "cpu.features-absent",
        "cpu.features-extra",
        "cpu.features-unknown",
        "cpu.forbidden-features",
        "cpu.ht-added",
        "cpu.mode-unsupported",
        "cpu.model-unknown",
        "cpu.tsc-frequency",
    )
)
# By the elements that all have to be in the stand-in.
CHECKS_BY_ELEMENTS: Mapping[tuple[str, ...], frozenset[str]] = {
    ("disk",): frozenset(
        (
            "disks.backing-format",
            "disks.backing-missing",
            "disks.missing",
            "disks.no-driver",
            "disks.no-pool",
            "disks.no-secret",
            "disks.no-volume",
            "disks.unreachable",
            "disks.unreadable",
            "disks.wrong-format",
        )
    ),
    ("interface",): frozenset(
        (
            "nics.bridge-absent",
            "nics.bridge-full",
            "nics.filter-absent",
            "nics.filter-unsupported",
            "nics.lower-device-absent",
            "nics.lower-device-busy",
            "nics.name-taken",
            "nics.network-absent",
            "nics.network-inactive",
            "nics.no-bandwidth-floor",
            "nics.no-device-node",
            "nics.no-traffic-control",
            "nics.not-a-bridge",
            "nics.vlan-unsupported",
        )
    ),
    ("graphics",): frozenset(
        (
            "graphics.address-not-here",
            "graphics.network-unusable",
            "graphics.no-certificates",
            "graphics.no-render-node",
            "graphics.port-in-use",
            "graphics.server-not-offered",
            "graphics.spice-tls-off",
            "graphics.video-not-offered",
        )
    ),
    ("serial", "parallel", "console", "channel", "redirdev", "rng", "smartcard"): frozenset(
        ("chardevs.address-not-here", "chardevs.port-in-use")
    ),
    ("tpm",): frozenset(("tpm.no-secret", "tpm.no-swtpm", "tpm.not-offered")),
    ("filesystem",): frozenset(("shares.no-directory",)),
    ("kernel", "initrd", "dtb", "acpi"): frozenset(("firmware.missing",)),
}

# What the guest itself has and no stand-in: QEMU has started with it, and listens to its port.
ITSELF = frozenset(
    (
        "certificates.chardev-absent",
        "certificates.server-absent",
        "certificates.server-refused",
        "chardevs.device-absent",
        "chardevs.no-directory",
        "chardevs.path-taken",
        "chardevs.peer-absent",
        "chardevs.port-reserved",
        "cpu.hyperv-absent",
        "daemon.tls-forced",
        "definition.word-unknown",
        "devices.no-security-model",
        "devices.no-such-user",
        "devices.node-absent",
        "disks.copy-into-ghost",
        "disks.copy-into-held",
        "disks.copy-needs-target",
        "disks.copy-nowhere",
        "disks.copy-not-openable",
        "disks.copy-of-readonly",
        "disks.copy-without-pool",
        "firmware.no-template",
        "firmware.nvram-folder",
        "firmware.unreadable",
        "graphics.directory-shut",
        "graphics.keymap-absent",
        "graphics.no-directory",
        "graphics.port-reserved",
        "hostdevs.mdev-absent",
        "hostdevs.mdev-in-use",
        "hostdevs.mdev-model",
        "hostdevs.pci-absent",
        "hostdevs.pci-bridge",
        "hostdevs.pci-in-use",
        "hostdevs.pci-not-detached",
        "hostdevs.scsi-absent",
        "hostdevs.usb-absent",
        "hostdevs.usb-ambiguous",
        "hostdevs.usb-in-use",
        "hostdevs.vfio-off",
        "memory.address-space-limit",
        "memory.cannot-be-mapped",
        "memory.file-absent",
        "memory.file-shut",
        "memory.file-too-small",
        "nics.not-an-ovs-bridge",
        "nics.pool-exhausted",
        "nics.model-unknown",
        "nics.script-absent",
        "nics.tap-absent",
        "nics.tap-unfit",
        "nics.virtualport-unsupported",
        "options.name-too-long",
        "options.postcopy-of-files",
        "options.postcopy-refused",
        "pages.no-mount",
        "pages.not-whole",
        "pages.smaller-than-a-page",
        "pages.too-few-free",
        "pinning.no-realtime",
        "resctrl.not-allocatable",
        "shares.no-server",
        "tenants.already-there",
        "tenants.host-nameless",
        "tenants.name-taken",
        "tenants.same-host",
        "tenants.uuid-taken",
        "tpm.device-absent",
        "transport.address-not-here",
        "transport.no-free-port",
        "transport.port-taken",
        "versions.feature-unknown",
    )
)
# By a rehearsal whose Prepare went through, with the cookie that a migration has as well.
DECIDED_BY_REHEARSAL = (
    MACHINE | WHOLE | LIVE_CPU | ITSELF | frozenset().union(*CHECKS_BY_ELEMENTS.values())
)


def decided(left_out: Collection[tuple[str, str]], cookie: bytes) -> frozenset[str]:
    """Ids of checks that a trial without those parts has answered with a yes."""
    lacking = {what.split(" ")[0] for what, _ in left_out}
    found = MACHINE | (LIVE_CPU if b"<cpu" in cookie else frozenset())
    found |= frozenset() if left_out else WHOLE
    for elements, checks in CHECKS_BY_ELEMENTS.items():
        if lacking.isdisjoint(elements):
            found |= checks
    return found
