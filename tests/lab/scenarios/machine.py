"""Machine types, and the QEMU that has them."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.scenarios.pieces import NAMED
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

EMULATOR = "/opt/qemu/qemu-system-x86_64"

SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "machine-too-new",
        "machine.type-unsupported",
        guest=guest(machine="pc-q35-10.0", cpu=NAMED),
        source="h3",
        says="does not support machine type 'pc-q35-10.0'",
    ),
    fails(
        "machine-too-new-pc",
        "machine.type-unsupported",
        guest=guest(machine="pc", cpu=NAMED),
        source="h3",
        says="does not support machine type 'pc-i440fx-10.0'",
    ),
    fails(
        "machine-too-old",
        "machine.type-unsupported",
        guest=guest(machine="pc-i440fx-2.3", cpu=NAMED),
        destination="h3",
        says="does not support machine type 'pc-i440fx-2.3'",
    ),
    # An alias, but only until the guest runs; each host's own `q35` is of no matter.
    migrates("machine-alias-newer", guest=guest(machine="q35"), destination="h3"),
    migrates("machine-deprecated-newer", guest=guest(machine="pc-q35-5.2"), destination="h3"),
    migrates("machine-old", guest=guest(machine="pc-i440fx-2.3")),
    fails(
        "emulator-absent",
        "machine.emulator-absent",
        guest=guest(emulator=EMULATOR),
        on_source=(faults.linked("/usr/bin/qemu-system-x86_64", EMULATOR),),
        says=f"Cannot check QEMU binary {EMULATOR}: No such file or directory",
    ),
    migrates(
        "emulator-elsewhere",
        guest=guest(emulator=EMULATOR),
        **both(faults.linked("/usr/bin/qemu-system-x86_64", EMULATOR)),
    ),
    fails(
        "emulator-removed",
        "machine.emulator-absent",
        on_destination=(faults.moved_away("/usr/bin/qemu-system-x86_64"),),
        says="No such file or directory",
    ),
    fails(
        "emulator-not-executable",
        "machine.emulator-absent",
        guest=guest(emulator=EMULATOR),
        on_source=(faults.linked("/usr/bin/qemu-system-x86_64", EMULATOR),),
        on_destination=(faults.file(EMULATOR),),
        says="is not executable",
    ),
    # Nobody knows what arguments of QEMU's own mean; these mean nothing.
    migrates(
        "raw-arguments",
        guest=guest(
            root_attributes=" xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'",
            top="<qemu:commandline><qemu:arg value='-global'/>"
            "<qemu:arg value='mch.extended-tseg-mbytes=16'/></qemu:commandline>",
        ),
        checks=("machine.raw-arguments",),
    ),
)
