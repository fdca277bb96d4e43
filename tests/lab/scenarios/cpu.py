"""What becomes of a guest's CPU on a lesser, an older or a newer host."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.scenarios.pieces import NAMED, custom, host_model
from tests.lab.scenarios.scenario import Scenario, fails, guest, migrates

CORES = "<cpu mode='host-model'><topology sockets='1' cores='2' threads='1'/></cpu>"
SOCKETS = "<cpu mode='host-model'><topology sockets='2' cores='1' threads='1'/></cpu>"
NO_SUCH = "guest CPU doesn't match specification: missing features"

SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "cpu-host-model-lesser",
        "cpu.features-absent",
        guest=guest(cpu="host-model"),
        destination="h4",
        says=NO_SUCH,
        needs=("kvm",),
    ),
    *(
        # check=none and check=partial promise nothing on the source, and yet: once the guest runs,
        # its real CPU is what the destination has to give in full.
        fails(
            f"cpu-{check}-lesser",
            "cpu.features-absent",
            guest=guest(cpu=custom("Nehalem", "require @lesser0", "require @lesser1", check=check)),
            destination="h4",
            says=NO_SUCH,
            needs=("kvm",),
        )
        for check in ("none", "partial")
    ),
    fails(
        "cpu-full-lesser",
        "cpu.features-absent",
        # Its whole CPU is written down, as only a host can do that has it.
        guest=guest(cpu=custom("Nehalem", "require @lesser0", "require @lesser1", check="partial")),
        then_on_source=(
            faults.shell(
                "started as what it is",
                "virsh -q dumpxml @name >/tmp/d; grep -q \"check='full'\" /tmp/d; "
                "virsh -q destroy @name; virsh -q create /tmp/d; rm /tmp/d",
            ),
        ),
        destination="h4",
        says=NO_SUCH,
        needs=("kvm",),
    ),
    fails(
        "cpu-optional-lesser",
        "cpu.features-absent",
        # Optional at the start; but the guest got it, so by now it is required.
        guest=guest(cpu=custom("Nehalem", "optional @lesser0", check="partial")),
        destination="h4",
        says=NO_SUCH,
        needs=("kvm",),
    ),
    migrates(
        "cpu-disabled-lesser",
        guest=guest(cpu=host_model("disable @lesser0", "disable @lesser1")),
        destination="h4",
        needs=("kvm",),
    ),
    migrates(
        "cpu-other-model-lesser",
        guest=guest(cpu=custom("Nehalem", check="partial")),
        destination="h4",
    ),
    # Nothing compares a passed-through CPU: it migrates, and may crash later.
    migrates(
        "cpu-passthrough-lesser",
        guest=guest(cpu="host-passthrough"),
        destination="h4",
        needs=("kvm",),
    ),
    migrates("cpu-passthrough", guest=guest(cpu="host-passthrough"), needs=("kvm",)),
    migrates(
        "cpu-passthrough-newer",
        guest=guest(cpu="host-passthrough"),
        destination="h3",
        needs=("kvm",),
    ),
    migrates(
        "cpu-passthrough-older",
        guest=guest(cpu="host-passthrough"),
        source="h3",
        needs=("kvm",),
    ),
    migrates(
        "cpu-custom-older",
        guest=guest(cpu=custom("Nehalem", "require @lesser0", check="partial")),
        source="h3",
        needs=("kvm",),
    ),
    migrates("cpu-named", guest=guest(cpu=NAMED)),
    migrates("cpu-host-model", guest=guest(cpu="host-model")),
    # Asked for, given by neither host, promised by nobody.
    migrates(
        "cpu-none-noise",
        guest=guest(cpu=custom("Nehalem", "require svm", "require avx512f")),
        needs=("kvm",),
    ),
    migrates(
        "cpu-none-noise-newer",
        guest=guest(cpu=custom("Nehalem", "require svm", "require avx512f")),
        destination="h3",
        needs=("kvm",),
    ),
    migrates(
        "cpu-tcg-none-noise",
        guest=guest(accelerator="tcg", cpu=custom("qemu64", "require avx512f")),
    ),
    migrates(
        "cpu-optional-noise",
        guest=guest(cpu=custom("Nehalem", "optional avx512f", check="partial")),
        destination="h4",
        needs=("kvm",),
    ),
    migrates(
        "cpu-forbidden-noise",
        guest=guest(cpu=custom("Nehalem", "forbid 3dnow", check="partial")),
        needs=("kvm",),
    ),
    fails(
        "cpu-unknown-to-older",
        "cpu.features-unknown",
        "cpu.features-absent",
        guest=guest(cpu="host-model"),
        source="h3",
        says="unknown CPU feature",
        needs=("kvm",),
    ),
    migrates(
        "cpu-tcg-max-older",
        guest=guest(accelerator="tcg", cpu="maximum"),
        source="h3",
    ),
    fails(
        "cpu-invtsc",
        "state.invariant-tsc",
        guest=guest(cpu=host_model("require invtsc")),
        says="State blocked by non-migratable CPU device (invtsc flag)",
        needs=("kvm",),
    ),
    fails(
        "cpu-passthrough-unmigratable",
        "state.invariant-tsc",
        guest=guest(cpu="<cpu mode='host-passthrough' migratable='off'/>"),
        says="State blocked by non-migratable CPU device (invtsc flag)",
        needs=("kvm",),
    ),
    migrates(
        "cpu-more-vcpus-than-cpus",
        guest=guest(
            vcpus=8,
            cpu="<cpu mode='host-model'><topology sockets='2' cores='4' threads='1'/></cpu>",
        ),
    ),
    migrates(
        "cpu-hyperv",
        guest=guest(
            features="<acpi/><apic/><hyperv><relaxed state='on'/>"
            "<spinlocks state='on' retries='8191'/></hyperv>"
            "<kvm><hidden state='on'/></kvm>",
        ),
        needs=("kvm",),
    ),
    fails(
        "cpu-no-kvm",
        "machine.kvm-absent",
        "machine.type-unsupported",
        guest=guest(),
        on_destination=(faults.moved_away("/dev/kvm"),),
        says="Domain requires KVM, but it is not available",
        needs=("kvm",),
    ),
    fails(
        "cpu-cores-newer",
        "cpu.ht-added",
        guest=guest(vcpus=2, cpu=CORES),
        destination="h3",
        says="extra features: ht",
    ),
    migrates("cpu-cores", guest=guest(vcpus=2, cpu=CORES)),
    migrates("cpu-cores-newest", guest=guest(vcpus=2, cpu=CORES), source="h3", destination="h6"),
    migrates("cpu-sockets-newer", guest=guest(vcpus=2, cpu=SOCKETS), destination="h3"),
)
