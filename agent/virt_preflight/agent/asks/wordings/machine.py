"""CPU, machine type, memory, and where they run on the host."""

from __future__ import annotations

from virt_preflight.agent.asks.wording import ABSENT, DENIED, Wording

_CPU = (
    # QEMU 10 turns it on by itself, and libvirt before 11.10 minds.
    Wording(
        check="cpu.ht-added",
        alike=("cpu.features-extra",),
        says=("guest CPU doesn't match specification: extra features: ht",),
        subject="CPU",
        wanted="no ht, as the guest has it",
        found="QEMU turns it on",
    ),
    Wording(
        check="cpu.features-absent",
        says=(
            "guest CPU doesn't match specification: missing features: {features:features}",
            (
                "guest CPU doesn't match specification: extra features: {more:features}, "
                "missing features: {features:features}"
            ),
            "Host CPU does not provide required features: {features:text}",
        ),
        subject="CPU",
        wanted="{features}",
        found="not given by this host",
    ),
    Wording(
        check="cpu.features-absent",
        says=("host doesn't support invariant TSC",),
        subject="CPU",
        wanted="invtsc",
        found="not given by this host",
    ),
    Wording(
        check="cpu.features-absent",
        by=("-bare", "-cpu", "-accel"),
        says=("Host doesn't support requested features",),
        subject="CPU",
        wanted="what the guest has",
        found="not given by this host",
    ),
    Wording(
        check="cpu.features-extra",
        says=("guest CPU doesn't match specification: extra features: {features:extra}",),
        subject="CPU",
        wanted="{features} named in the definition",
        found="check='full' without it",
    ),
    Wording(
        check="cpu.features-unknown",
        says=("unknown CPU feature: {name}", "Unknown CPU feature {name}"),
        subject="CPU",
        wanted="a name known: {name}",
        found="unknown to libvirt",
    ),
    Wording(
        check="cpu.features-unknown",
        by=("-",),
        says=(
            "Property '{model}-cpu.{name}' not found",
            "Property '.{name}' not found",
            "can't apply global {model}-cpu.{name}={value}: Property '{property}' not found",
        ),
        subject="CPU",
        wanted="a name known: {name}",
        found="unknown to QEMU",
    ),
    Wording(
        check="cpu.forbidden-features",
        says=("Host CPU provides forbidden feature '{name}'",),
        subject="CPU",
        wanted="no {name}",
        found="the host has it",
    ),
    Wording(
        check="cpu.hyperv-absent",
        says=(
            "host doesn't support hyperv '{name}' feature",
            "host doesn't support hyperv stimer '{name}' feature",
        ),
        subject="Hyper-V enlightenments",
        wanted="{name}",
        found="not given by this host",
    ),
    Wording(
        check="cpu.hyperv-absent",
        by=("-",),
        says=(
            "Hyper-V {name:text} (requested by '{flag}' cpu flag) is not supported by kernel",
            "Hyper-V {name:text} is not supported by kernel",
            "kernel doesn't allow setting HyperV {name}",
        ),
        subject="Hyper-V enlightenments",
        wanted="{name}",
        found="not given by this host",
    ),
    Wording(
        check="cpu.mode-unsupported",
        says=(
            (
                "CPU mode '{mode}' for {guest} {type} domain on {host} host is not supported by "
                "hypervisor"
            ),
        ),
        subject="CPU",
        wanted="mode {mode}",
        found="not supported",
    ),
    Wording(
        check="cpu.model-unknown",
        says=(
            "Unknown CPU model {name}",
            "CPU model {name} is not supported by hypervisor",
        ),
        subject="CPU {name}",
        wanted="a known model",
        found="not known",
    ),
    Wording(
        check="cpu.model-unknown",
        by=("-",),
        says=("unable to find CPU model '{name}'",),
        subject="CPU {name}",
        wanted="a known model",
        found="unknown to QEMU",
    ),
    Wording(
        check="cpu.tsc-frequency",
        says=(
            (
                "Requested TSC frequency {wanted:number} Hz is outside tolerance range "
                "([{low:number}, {high:number}] Hz) around host frequency {host:number} Hz and TSC "
                "scaling is not supported by the host CPU"
            ),
            (
                "Requested TSC frequency {wanted:number} Hz does not match host "
                "({host:number} Hz) and TSC scaling is not supported by the host CPU"
            ),
        ),
        subject="TSC",
        wanted="{wanted} Hz",
        found="{host} Hz, without scaling",
    ),
)

_MACHINE = (
    Wording(
        check="machine.emulator-absent",
        says=(f"Cannot check QEMU binary {{path:path}}: {ABSENT}",),
        subject="emulator {path}",
        wanted="an executable file",
        found="not there",
    ),
    Wording(
        check="machine.emulator-absent",
        says=(
            "QEMU binary {path:path} is not executable: {why:errno}",
            "QEMU binary {path:path} is not executable",
        ),
        subject="emulator {path}",
        wanted="an executable file",
        found="not executable",
    ),
    Wording(
        check="machine.emulator-broken",
        says=("Failed to start QEMU binary {path:path} for probing: {why:text}",),
        subject="emulator {path}",
        wanted="a QEMU that starts",
        found="{why}",
    ),
    Wording(
        check="machine.emulator-refused",
        says=("QEMU version >= {least} is required, but {given} found",),
        subject="emulator",
        wanted="QEMU {least} or later",
        found="QEMU {given}",
    ),
    Wording(
        check="machine.type-unsupported",
        says=(
            "Emulator '{path}' does not support machine type '{name}'",
            "the machine '{name}' is not supported by emulator '{path}'",
        ),
        subject="machine type {name}",
        wanted="known to {path}",
        found="not known to it",
    ),
    Wording(
        check="machine.type-unsupported",
        by=("-machine",),
        says=("unsupported machine type{more:rest}",),
        subject="machine type",
        wanted="known to QEMU",
        found="not known to it",
    ),
    Wording(
        check="machine.architecture-unsupported",
        says=(
            "Emulator '{path}' does not support arch '{name}'",
            "unable to find any emulator to serve '{name}' architecture",
            "No emulator found for arch '{name}'",
        ),
        subject="emulator",
        wanted="one for {name}",
        found="none",
    ),
    # So says libvirt 11.3, too, when /dev/kvm is not there.
    Wording(
        check="machine.virt-type-unsupported",
        alike=("machine.kvm-absent",),
        says=(
            "Emulator '{path}' does not support virt type '{name}'",
            "the accel '{name}' is not supported by '{path}' on this host",
        ),
        subject="type {name}",
        wanted="supported by {path}",
        found="not supported by it",
    ),
    Wording(
        check="machine.kvm-absent",
        says=("Domain requires KVM, but it is not available.{more:rest}",),
        subject="/dev/kvm",
        wanted="there",
        found="not there",
    ),
    Wording(
        check="machine.kvm-absent",
        by=("-",),
        says=(f"Could not access KVM kernel module: {ABSENT}",),
        subject="/dev/kvm",
        wanted="there",
        found="not there",
    ),
    Wording(
        check="machine.kvm-forbidden",
        by=("-",),
        says=(f"Could not access KVM kernel module: {DENIED}",),
        subject="/dev/kvm",
        wanted="readable and writable for QEMU",
        found="not allowed",
    ),
    Wording(
        check="machine.too-many-vcpus",
        says=("Maximum CPUs greater than specified machine type limit {most:number}",),
        subject="vCPUs",
        wanted="as many as the guest has",
        found="at most {most}",
    ),
    Wording(
        check="machine.too-many-vcpus",
        by=("-",),
        says=(
            (
                "Number of hotpluggable cpus requested ({wanted:number}) exceeds the maximum cpus "
                "supported by KVM ({most:number})"
            ),
            (
                "Number of SMP cpus requested ({wanted:number}) exceeds the maximum cpus supported "
                "by KVM ({most:number})"
            ),
            (
                "Invalid SMP CPUs {wanted:number}. The max CPUs supported by machine '{name}' is "
                "{most:number}"
            ),
        ),
        subject="vCPUs",
        wanted="{wanted}",
        found="at most {most}",
    ),
)

_MEMORY = (
    # A limit of libvirtd's (memory.address-space-limit) reads the same.
    Wording(
        check="memory.cannot-be-mapped",
        alike=("memory.address-space-limit",),
        by=("-",),
        says=("cannot set up guest memory '{name}': Cannot allocate memory",),
        subject="memory",
        wanted="all of it mapped",
        found="the kernel refuses",
    ),
)

_NUMA = (
    Wording(
        check="numa.cell-absent",
        says=(
            "NUMA node {cell:number} is unavailable",
            "NUMA node {cell:number} is not available",
            "NUMA node {cell:number} is out of range",
        ),
        subject="memory",
        wanted="NUMA cell {cell}",
        found="no such cell",
    ),
    Wording(
        check="numa.cell-absent",
        says=("Unable to write to '{folder}cpuset.mems': {why:errno}",),
        subject="memory",
        wanted="the NUMA cells that it is bound to",
        found="{why}",
    ),
    Wording(
        check="numa.no-numad",
        says=(
            "Failed to query numad for the advisory nodeset",
            "numad is not available on this host",
        ),
        subject="placement",
        wanted="numad",
        found="it gives no answer",
    ),
)

_PAGES = (
    Wording(
        check="pages.no-mount",
        says=("Unable to find any usable hugetlbfs mount for {size:number} KiB",),
        subject="{size} KiB pages",
        wanted="a hugetlbfs with pagesize={size}K",
        found="no hugetlbfs that libvirt uses",
    ),
    Wording(
        check="pages.no-mount",
        says=("hugetlbfs filesystem is not mounted or disabled by administrator config",),
        subject="huge pages",
        wanted="a hugetlbfs",
        found="no hugetlbfs that libvirt uses",
    ),
    # Memory that has to be there at once says the same.
    Wording(
        check="pages.too-few-free",
        alike=("memory.cannot-be-mapped",),
        by=("-",),
        says=(
            "unable to map backing store for guest RAM: Cannot allocate memory",
            "qemu_prealloc_mem: preallocating memory failed{more:rest}",
            (
                "qemu_prealloc_mem: Insufficient free host memory pages available to allocate "
                "guest RAM"
            ),
            "os_mem_prealloc: Insufficient free host memory pages available to allocate guest RAM",
        ),
        subject="huge pages",
        wanted="enough free",
        found="too few",
    ),
    Wording(
        check="pages.smaller-than-a-page",
        by=("-",),
        says=("memory size {memory:hex} must be equal to or larger than page size {page:hex}",),
        subject="memory",
        wanted="pages of at most {memory} bytes",
        found="pages of {page} bytes",
    ),
    # host_memory_backend_memory_complete, QEMU's backends/hostmem.c, since 9.1.
    Wording(
        check="pages.not-whole",
        by=("-", "command object-add"),
        says=("backend '{backend}' memory size must be multiple of {page:text}",),
        subject="memory",
        wanted="a multiple of {page}",
        found="part of a page more",
    ),
)

_PINNING = (
    Wording(
        check="pinning.cpu-absent",
        says=("cannot set CPU affinity on process {process:number}: Invalid argument",),
        subject="pins",
        wanted="CPUs of this host",
        found="none of those wanted",
    ),
    Wording(
        check="pinning.cpu-absent",
        alike=("pinning.some-cpus-missing",),
        says=(
            "Unable to write to '{folder}cpuset.cpus': {why:errno}",
            "Invalid value '{cpus}' for 'cpuset.cpus': {why:errno}",
        ),
        subject="pins",
        wanted="CPUs of this host",
        found="{why}",
    ),
    Wording(
        check="pinning.no-realtime",
        says=("Cannot set scheduler parameters for pid {process:number}: Operation not permitted",),
        subject="scheduler",
        wanted="real-time for the guest's cgroup",
        found="not permitted",
    ),
)

# virResctrlAllocCreate and what it calls, util/virresctrl.c.
_RESCTRL = (
    Wording(
        check="resctrl.not-allocatable",
        says=("Resource control is not supported on this host",),
        subject="cputune",
        wanted="control over caches or memory bandwidth",
        found="none on this host",
    ),
    Wording(
        check="resctrl.not-allocatable",
        says=(
            "Cache level {level:number} does not support tuning for scope type '{type}'",
            "Cache level {level:number} does not support tuning",
        ),
        subject="L{level} cache",
        wanted="a share of it",
        found="no control over it",
    ),
    Wording(
        check="resctrl.not-allocatable",
        says=("RDT Memory Bandwidth allocation unsupported",),
        subject="memory bandwidth",
        wanted="a share of it",
        found="no control over it",
    ),
    Wording(
        check="resctrl.not-allocatable",
        says=(
            "Not enough room for allocation of {size} bytes for level {level:number} {which:text}",
        ),
        subject="L{level} cache",
        wanted="{size} bytes free",
        found="others have them",
    ),
)

MACHINE: tuple[Wording, ...] = (
    *_CPU,
    *_MACHINE,
    *_MEMORY,
    *_NUMA,
    *_PAGES,
    *_PINNING,
    *_RESCTRL,
)
