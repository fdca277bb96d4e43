"""Memory and huge pages."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.guests import SHARED, Disk
from tests.lab.programs import TOUCHER
from tests.lab.scenarios.pieces import NAMED
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

SLOTS = "<maxMemory slots='4' unit='MiB'>1024</maxMemory>"
ONE_CELL = (
    "<cpu mode='host-model'><numa><cell id='0' cpus='0' memory='128' unit='MiB'/></numa></cpu>"
)
NVDIMM_FILE = "/var/lib/libvirt/images/nvdimm"
NVDIMM = (
    f"<memory model='nvdimm' access='shared'><source><path>{NVDIMM_FILE}</path></source>"
    "<target><size unit='MiB'>32</size><node>0</node></target></memory>"
)
HUGE = "<memoryBacking><hugepages/></memoryBacking>"

SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "memory-limit",
        "memory.address-space-limit",
        guest=guest(memory_mib=4096),
        on_destination=(faults.memory_limit(3),),
        says="Cannot allocate memory",
    ),
    migrates("memory-limit-enough", guest=guest(), on_destination=(faults.memory_limit(3),)),
    migrates(
        "memory-slots",
        guest=guest(
            memory_mib=160,
            top=SLOTS,
            cpu=ONE_CELL,
            devices="<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node>"
            "</target></memory>",
        ),
    ),
    fails(
        "memory-file-absent",
        "memory.file-absent",
        guest=guest(memory_mib=160, top=SLOTS, cpu=ONE_CELL, devices=NVDIMM),
        on_source=(faults.file(NVDIMM_FILE, size="32M"),),
        says=f"unable to stat: {NVDIMM_FILE}: No such file or directory",
    ),
    migrates(
        "memory-file-there",
        guest=guest(memory_mib=160, top=SLOTS, cpu=ONE_CELL, devices=NVDIMM),
        **both(faults.file(NVDIMM_FILE, size="32M")),
    ),
    migrates(
        "memory-memfd",
        guest=guest(
            top="<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
        ),
    ),
    migrates(
        "memory-file",
        guest=guest(
            top="<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>"
        ),
    ),
    migrates(
        "memory-immediate",
        guest=guest(
            top="<memoryBacking><nosharepages/><allocation mode='immediate'/></memoryBacking>"
        ),
    ),
    migrates(
        "memory-locked",
        guest=guest(
            top="<memtune><hard_limit unit='MiB'>1024</hard_limit></memtune>"
            "<memoryBacking><locked/></memoryBacking>"
        ),
        needs=("limit:memlock",),
    ),
    migrates(
        "memory-current",
        guest=guest(memory_mib=512, top="<currentMemory unit='MiB'>128</currentMemory>"),
    ),
    # 95 MiB of it are not as they were when it started; QEMU itself has some 40 of its own.
    migrates(
        "memory-written",
        guest=guest(
            memory_mib=192,
            disks=(Disk(path=f"{SHARED}/@name.raw", format="raw", on="nowhere"),),
        ),
        on_source=(faults.booting(f"{SHARED}/@name.raw", TOUCHER),),
        then_on_source=(faults.resident("@name", mib=115),),
    ),
    migrates(
        "pages-enough",
        guest=guest(memory_mib=48, top=HUGE),
        pages=64,
        needs=("hugepages",),
    ),
    migrates(
        "pages-enough-newer",
        guest=guest(memory_mib=48, top=HUGE),
        destination="h3",
        pages=64,
        needs=("hugepages",),
    ),
    migrates(
        "pages-memfd",
        guest=guest(
            memory_mib=48,
            top="<memoryBacking><hugepages/><source type='memfd'/></memoryBacking>",
        ),
        pages=64,
        needs=("hugepages",),
    ),
    # Not one to spare.
    migrates("pages-exactly", guest=guest(memory_mib=64, top=HUGE), pages=64, needs=("hugepages",)),
    fails(
        "pages-too-few",
        "pages.too-few-free",
        guest=guest(memory_mib=64, top=HUGE),
        pages=60,
        says="Cannot allocate memory",
        needs=("hugepages",),
    ),
    fails(
        "pages-one-too-few",
        "pages.too-few-free",
        guest=guest(memory_mib=64, top=HUGE),
        pages=64,
        then_on_destination=(faults.pages_held(1),),
        says="Cannot allocate memory",
        needs=("hugepages",),
    ),
    fails(
        "pages-no-mount",
        "pages.no-mount",
        guest=guest(memory_mib=64, cpu=NAMED, top=HUGE),
        destination="h4",
        pages=96,
        says="hugetlbfs filesystem is not mounted or disabled by administrator config",
        needs=("hugepages",),
    ),
    fails(
        "pages-memfd-no-mount",
        "pages.no-mount",
        guest=guest(
            memory_mib=64,
            cpu=NAMED,
            top="<memoryBacking><hugepages/><source type='memfd'/></memoryBacking>",
        ),
        destination="h4",
        pages=96,
        says="hugetlbfs filesystem is not mounted or disabled by administrator config",
        needs=("hugepages",),
    ),
    fails(
        "pages-other-size",
        "pages.no-mount",
        guest=guest(),
        rewrite=(
            (
                "<vcpu ",
                (
                    "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages>"
                    "</memoryBacking><vcpu "
                ),
            ),
        ),
        says="Unable to find any usable hugetlbfs mount for 1048576 KiB",
        needs=("hugepages",),
    ),
    # The guest has them here; there it is to have ordinary memory.
    migrates(
        "pages-given-up",
        guest=guest(memory_mib=64, cpu=NAMED, top=HUGE),
        destination="h4",
        pages=40,
        rewrite=(("<hugepages/>", ""),),
        needs=("hugepages",),
    ),
    # QEMU 7.2 rounds up by itself; from 9.1 on it refuses what is no whole number of pages.
    migrates(
        "pages-odd", guest=guest(memory_mib=65, cpu=NAMED, top=HUGE), pages=80, needs=("hugepages",)
    ),
    fails(
        "pages-odd-newer",
        "pages.not-whole",
        guest=guest(memory_mib=65, cpu=NAMED, top=HUGE),
        destination="h3",
        pages=80,
        says="qemu_madvise: Invalid argument",
        needs=("hugepages",),
    ),
)
