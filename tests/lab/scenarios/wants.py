"""Small things that a guest wants of its host: ports, taps, files, names, models."""

from __future__ import annotations

from dataclasses import replace

from tests.lab import faults
from tests.lab.guests import IMAGES, Guest, Nic
from tests.lab.scenarios.pieces import DISK, NAMED, OWN
from tests.lab.scenarios.scenario import UNSAFE, Scenario, both, fails, guest, migrates

PLACE = "/var/lib/libvirt/place"
OPEN, SHUT = faults.directory(PLACE, mode="777"), faults.directory(PLACE)
READ_ONLY = faults.shell(
    "images are mounted read-only",
    f"mount --bind {IMAGES} {IMAGES}; mount -o remount,bind,ro {IMAGES}",
    back=f"umount {IMAGES}",
)
GOES = faults.shell("the copy goes afterwards", ":", back=f"rm -f {OWN.path}")
SCREEN = f"<graphics type='vnc' socket='{PLACE}/a.sock'/>"
KEYMAP = "<graphics type='vnc' autoport='yes' keymap='de' listen='0.0.0.0'/>"
SERIAL = "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='{}'/></serial>"
LABEL = "</devices><seclabel type='static' model='dac' relabel='yes'><label>{}</label></seclabel>"
POSTCOPY = ("--unsafe", "--postcopy")
BUSY = faults.shell(
    "somebody has the tap open",
    "cat >/run/tapper.py <<'END'\n"
    "import fcntl, os, struct, time\n"
    "opened = os.open('/dev/net/tun', os.O_RDWR)\n"
    "fcntl.ioctl(opened, 0x400454CA, struct.pack('16sH22x', b'mytap', 0x1002))\n"
    "open('/run/tapper.pid', 'w').write(str(os.getpid()))\n"
    "time.sleep(300)\n"
    "END\n"
    "setsid --fork python3 -I /run/tapper.py </dev/null >/dev/null 2>&1\n"
    "n=0; until [ -s /run/tapper.pid ]; do n=$((n+1)); [ $n -lt 100 ]; sleep 0.05; done",
    back="kill $(cat /run/tapper.pid); rm -f /run/tapper.pid /run/tapper.py",
)


def tap(*, queues: int = 1) -> faults.Fault:
    several = " multi_queue" if queues > 1 else ""
    return faults.shell(
        f"a tap of somebody's{several}",
        f"ip tuntap add mytap mode tap{several}; ip link set mytap up",
        back="ip link del mytap",
    )


def on_tap(*, queues: int = 1) -> Guest:
    driver = f"<driver queues='{queues}'/>" if queues > 1 else ""
    return guest(
        vcpus=queues,
        nics=(
            Nic(
                whole="<interface type='ethernet'><mac address='52:54:00:77:00:01'/>"
                f"<target dev='mytap' managed='no'/><model type='virtio'/>{driver}"
                "<rom enabled='no'/></interface>"
            ),
        ),
    )


def with_nvdimm() -> Guest:
    return guest(
        cpu="<cpu mode='host-model'><numa><cell id='0' cpus='0' memory='65536' unit='KiB'/></numa>"
        "</cpu>",
        top="<maxMemory slots='2' unit='MiB'>512</maxMemory>",
        devices=f"<memory model='nvdimm'><source><path>{PLACE}/n</path></source><target>"
        "<size unit='KiB'>16384</size><node>0</node></target></memory>",
    )


def nvdimm(size: str, mode: str = "644") -> tuple[faults.Fault, ...]:
    return OPEN, faults.file(f"{PLACE}/n", size=size, mode=mode)


def named(length: int) -> tuple[str, ...]:
    return (*UNSAFE, "--dname", "n" * length)


def labelled(whom: str) -> tuple[tuple[str, str], ...]:
    return (("</devices>", LABEL.format(whom)),)


def cache_tuned(inside: str) -> tuple[tuple[str, str], ...]:
    tuned = f"<cachetune vcpus='0'>{inside}</cachetune>" if inside else ""
    return (("</vcpu>", f"</vcpu><cputune><shares>1024</shares>{tuned}</cputune>"),)


def in_files(kind: str) -> Guest:
    return guest(cpu=NAMED, top=f"<memoryBacking><source type='{kind}'/></memoryBacking>")


SCENARIOS: tuple[Scenario, ...] = (
    # Models of cards.
    fails(
        "nic-igb-older",
        "nics.model-unknown",
        guest=guest(cpu=NAMED, nics=(Nic(bridge="br0", model="igb"),)),
        source="h3",
        destination="h1",
        says="'igb' is not a valid device model name",
    ),
    migrates(
        "nic-igb-newest",
        guest=guest(cpu=NAMED, nics=(Nic(bridge="br0", model="igb"),)),
        source="h3",
        destination="h6",
    ),
    # Screens.
    fails(
        "vnc-socket-directory-shut",
        "graphics.directory-shut",
        guest=guest(devices=SCREEN),
        destination="h5",
        on_source=(OPEN,),
        on_destination=(SHUT,),
        says=f"Failed to bind socket to {PLACE}/a.sock: Permission denied",
    ),
    migrates(
        "vnc-socket-directory-open", guest=guest(devices=SCREEN), destination="h5", **both(OPEN)
    ),
    fails(
        "vnc-keymap-absent",
        "graphics.keymap-absent",
        guest=guest(devices=KEYMAP),
        on_destination=(faults.moved_away("/usr/share/qemu/keymaps/de"),),
        says="could not read keymap file",
    ),
    migrates("vnc-keymap", guest=guest(devices=KEYMAP)),
    # Ports: QEMU is an ordinary user on h5, root on h2.
    fails(
        "serial-port-reserved",
        "chardevs.port-reserved",
        guest=guest(devices=SERIAL.format(77)),
        destination="h5",
        says="Permission denied",
    ),
    migrates("serial-port-low-for-root", guest=guest(devices=SERIAL.format(77))),
    # With TLS by its host's qemu.conf.
    fails(
        "serial-tls-no-certificates",
        "certificates.chardev-absent",
        guest=guest(devices=SERIAL.format(7777)),
        on_destination=(faults.qemu_conf("chardev_tls = 1"),),
        says="Unable to access credentials",
    ),
    migrates(
        "serial-without-tls",
        guest=guest(devices=SERIAL.format(7777).replace("/></", " tls='no'/></")),
        on_destination=(faults.qemu_conf("chardev_tls = 1"),),
    ),
    migrates("serial-port-high", guest=guest(devices=SERIAL.format(7777)), destination="h5"),
    # libvirt itself makes the socket of a channel, as root.
    migrates(
        "channel-directory-shut",
        guest=guest(
            devices=f"<channel type='unix'><source mode='bind' path='{PLACE}/c.sock'/>"
            "<target type='virtio' name='org.lab.0'/></channel>"
        ),
        destination="h5",
        **both(SHUT),
    ),
    # Taps that somebody else makes.
    fails(
        "nic-tap-busy",
        "nics.tap-unfit",
        guest=on_tap(),
        on_source=(tap(),),
        on_destination=(tap(), BUSY),
        says="Unable to create tap device mytap: Device or resource busy",
    ),
    fails(
        "nic-tap-of-one-queue",
        "nics.tap-unfit",
        guest=on_tap(queues=2),
        on_source=(tap(queues=2),),
        on_destination=(tap(),),
        says="Unable to create tap device mytap: Invalid argument",
    ),
    fails(
        "nic-tap-of-several-queues",
        "nics.tap-unfit",
        guest=on_tap(),
        on_source=(tap(),),
        on_destination=(tap(queues=2),),
        says="Unable to create tap device mytap: Invalid argument",
    ),
    migrates("nic-tap-free", guest=on_tap(), **both(tap())),
    migrates("nic-tap-queues", guest=on_tap(queues=2), **both(tap(queues=2))),
    # Files.
    fails(
        "nvdimm-too-small",
        "memory.file-too-small",
        guest=with_nvdimm(),
        on_source=nvdimm("16M"),
        on_destination=nvdimm("8M"),
        says="does not match 'size' option",
    ),
    migrates(
        "nvdimm-larger",
        guest=with_nvdimm(),
        on_source=nvdimm("16M"),
        on_destination=nvdimm("32M"),
    ),
    migrates(
        "nvdimm-empty", guest=with_nvdimm(), on_source=nvdimm("16M"), on_destination=nvdimm("0")
    ),
    fails(
        "nvdimm-shut",
        "memory.file-shut",
        guest=with_nvdimm(),
        destination="h5",
        on_source=nvdimm("16M"),
        on_destination=nvdimm("16M", "600"),
        says="can't open backing store",
    ),
    migrates(
        "nvdimm-open",
        guest=with_nvdimm(),
        destination="h5",
        on_source=nvdimm("16M"),
        on_destination=nvdimm("16M", "666"),
    ),
    fails(
        "copy-all-read-only",
        "disks.copy-nowhere",
        guest=guest(disks=(OWN,)),
        options=("--copy-storage-all",),
        on_destination=(READ_ONLY, GOES),
        says="Child process (/usr/bin/qemu-img create",
    ),
    # Names.
    fails(
        "dname-too-long",
        "options.name-too-long",
        options=named(248),
        arrives_as="n" * 248,
        says="File name too long",
    ),
    migrates("dname-longest", options=named(247), arrives_as="n" * 247),
    fails(
        "label-of-nobody",
        "devices.no-such-user",
        guest=guest(disks=(DISK,)),
        rewrite=labelled("nobodyhere:nobodyhere"),
        says="Failed to parse user 'nobodyhere'",
    ),
    migrates(
        "label-of-root",
        guest=guest(disks=(DISK,)),
        rewrite=labelled("root:root"),
        unsure_ok="whether a label in --xml passes is libvirt's to judge",
    ),
    # A share of a cache, which these machines cannot give.
    fails(
        "cache-share",
        "resctrl.not-allocatable",
        rewrite=cache_tuned("<cache id='0' level='3' type='both' size='3' unit='MiB'/>"),
        says="Resource control is not supported on this host",
    ),
    migrates(
        "cache-untuned",
        rewrite=cache_tuned(""),
        unsure_ok="whether other shares in --xml pass is libvirt's to judge",
    ),
    # Memory that is files.
    fails(
        "postcopy-of-files-newest",
        "options.postcopy-of-files",
        guest=in_files("file"),
        source="h3",
        destination="h6",
        options=POSTCOPY,
        says="Host backend files need to be TMPFS or HUGETLBFS",
    ),
    migrates("postcopy-of-files-older", guest=in_files("file"), options=POSTCOPY),
    migrates(
        "postcopy-of-memfd-newest",
        guest=in_files("memfd"),
        source="h3",
        destination="h6",
        options=POSTCOPY,
    ),
    migrates(
        "postcopy-of-files-on-tmpfs",
        guest=in_files("file"),
        source="h3",
        destination="h6",
        options=POSTCOPY,
        **both(
            OPEN,
            replace(
                faults.qemu_conf(f'memory_backing_dir = "{PLACE}"'),
                name="memory on tmpfs",
                do=f"mount -t tmpfs none {PLACE}\n"
                + faults.qemu_conf(f'memory_backing_dir = "{PLACE}"').do,
                undo=faults.qemu_conf("").undo + f"\numount {PLACE}",
            ),
        ),
    ),
)
