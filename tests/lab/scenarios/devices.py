"""Graphics, serial ports, channels, shared directories."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.scenarios.pieces import DISK, VIDEO, VNC
from tests.lab.scenarios.scenario import Scenario, both, fails, guest, migrates

TCP_SERIAL = "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='7777'/></serial>"
UDP_SERIAL = (
    "<serial type='udp'><source mode='bind' host='{}' service='7799'/>"
    "<source mode='connect' host='127.0.0.1' service='7798'/></serial>"
)
UDP_PORT_SHARED = faults.shell(
    "somebody who shares UDP port 7799",
    "python3 -c 'import socket, time; s = socket.socket(2, 2); "
    's.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("0.0.0.0", 7799)); '
    "time.sleep(60)' >/dev/null 2>&1 & echo $! >/run/udp-7799.pid; sleep 0.3",
    back="kill $(cat /run/udp-7799.pid); rm -f /run/udp-7799.pid",
)
SOCKET_NIC = (
    "<interface type='{}'><mac address='52:54:00:78:78:01'/><source {} port='7790'/>"
    "<model type='virtio'/><rom enabled='no'/></interface>"
)

VIRTIO_GPU = VNC.format(port=-1, auto="yes", address="0.0.0.0") + VIDEO.format(model="virtio")
NO_VIRTIO_GPU = faults.modules_absent("hw-display-virtio-*")

SERIAL_LOG = "<serial type='file'><source path='/srv/shared/@name.log' append='{append}'/></serial>"
LOG_GOES = both(faults.shell("its log goes afterwards", ":", back="rm -f /srv/shared/@name.log"))

SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "vnc-address-absent",
        "graphics.address-not-here",
        guest=guest(devices=VNC.format(port=-1, auto="yes", address="@source-address")),
        says="Cannot assign requested address",
    ),
    fails(
        "vnc-port-taken",
        "graphics.port-in-use",
        guest=guest(devices=VNC.format(port=5999, auto="no", address="0.0.0.0")),
        on_destination=(faults.port_taken(5999),),
        says="Address already in use",
    ),
    migrates(
        "vnc-auto-port-taken",
        guest=guest(devices=VNC.format(port=-1, auto="yes", address="0.0.0.0")),
        on_destination=(faults.port_taken(5900),),
    ),
    migrates(
        "spice",
        guest=guest(
            devices="<graphics type='spice' autoport='yes' listen='0.0.0.0'/>"
            + VIDEO.format(model="qxl")
        ),
    ),
    fails(
        "spice-gone-in-newer",
        "graphics.server-not-offered",
        guest=guest(devices="<graphics type='spice' autoport='yes' listen='0.0.0.0'/>"),
        destination="h3",
        says="spice graphics are not supported with this QEMU",
    ),
    # Other distributions have QEMU's modules in packages of their own.
    fails(
        "spice-no-module",
        "graphics.server-not-offered",
        guest=guest(devices="<graphics type='spice' autoport='yes' listen='0.0.0.0'/>"),
        on_destination=(faults.modules_absent("*-spice*", "hw-display-qxl*"),),
        says="spice graphics are not supported with this QEMU",
    ),
    fails(
        "video-virtio-no-module",
        "graphics.video-not-offered",
        guest=guest(devices=VIRTIO_GPU),
        on_destination=(NO_VIRTIO_GPU,),
        says="domain configuration does not support video model 'virtio'",
    ),
    migrates(
        "video-vga-no-module",
        guest=guest(
            devices=VNC.format(port=-1, auto="yes", address="0.0.0.0") + VIDEO.format(model="vga")
        ),
        on_destination=(NO_VIRTIO_GPU,),
    ),
    fails(
        "video-qxl-gone-in-newer",
        "graphics.video-not-offered",
        guest=guest(
            devices=VNC.format(port=-1, auto="yes", address="0.0.0.0") + VIDEO.format(model="qxl")
        ),
        destination="h3",
        says="domain configuration does not support video model 'qxl'",
    ),
    migrates(
        "video-virtio-newer",
        guest=guest(
            devices=VNC.format(port=-1, auto="yes", address="0.0.0.0")
            + VIDEO.format(model="virtio")
        ),
        destination="h3",
    ),
    fails(
        "serial-directory-absent",
        "chardevs.no-directory",
        guest=guest(
            devices="<serial type='file'><source path='/var/lib/libvirt/slog/a.log'/></serial>"
        ),
        on_source=(faults.directory("/var/lib/libvirt/slog"),),
        says="/var/lib/libvirt/slog/a.log': No such file or directory",
    ),
    fails(
        "serial-log-directory-absent",
        "chardevs.no-directory",
        guest=guest(
            devices="<serial type='pty'><log file='/var/lib/libvirt/slog/b.log'/></serial>"
        ),
        on_source=(faults.directory("/var/lib/libvirt/slog"),),
        says="/var/lib/libvirt/slog/b.log",
    ),
    fails(
        "vnc-socket-directory-absent",
        "graphics.no-directory",
        guest=guest(devices="<graphics type='vnc' socket='/var/lib/libvirt/vncs/a.sock'/>"),
        on_source=(faults.directory("/var/lib/libvirt/vncs"),),
        says="No such file or directory",
    ),
    fails(
        "vnc-tls-no-certificates",
        "graphics.no-certificates",
        guest=guest(devices=VNC.format(port=-1, auto="yes", address="0.0.0.0")),
        on_destination=(faults.qemu_conf("vnc_tls = 1"),),
        says="Unable to access credentials",
    ),
    fails(
        "lock-daemon-absent",
        "devices.no-lock-daemon",
        on_destination=(faults.lock_manager(daemon="absent"),),
        says="virtlockd",
    ),
    migrates(
        "lock-daemon-there-only",
        guest=guest(disks=(DISK,)),
        on_destination=(faults.lock_manager(daemon="running"),),
    ),
    migrates(
        "lock-daemon-on-both",
        guest=guest(disks=(DISK,)),
        **both(faults.lock_manager(daemon="running")),
    ),
    fails(
        "label-of-another-driver",
        "devices.no-security-model",
        rewrite=(
            (
                "</devices>",
                (
                    "</devices><seclabel type='static' model='selinux' relabel='no'>"
                    "<label>system_u:system_r:svirt_t:s0:c1,c2</label></seclabel>"
                ),
            ),
        ),
        says="Security driver model 'selinux' is not available",
    ),
    fails(
        "serial-port-taken",
        "chardevs.port-in-use",
        guest=guest(devices=TCP_SERIAL),
        on_destination=(faults.port_taken(7777),),
        says="Address already in use",
    ),
    # One file for both: whoever opens it without appending empties it under the other's hands.
    migrates("serial-shared", guest=guest(devices=SERIAL_LOG.format(append="off")), **LOG_GOES),
    migrates(
        "serial-shared-append", guest=guest(devices=SERIAL_LOG.format(append="on")), **LOG_GOES
    ),
    migrates("serial-port", guest=guest(devices=TCP_SERIAL)),
    fails(
        "channel-directory-absent",
        "chardevs.no-directory",
        guest=guest(
            devices="<channel type='unix'><source mode='bind' path='/var/lib/libvirt/chan/c.sock'/>"
            "<target type='virtio' name='org.lab.0'/></channel>"
        ),
        on_source=(faults.directory("/var/lib/libvirt/chan"),),
        says="No such file or directory",
    ),
    fails(
        "rng-absent",
        "devices.node-absent",
        guest=guest(
            devices="<rng model='virtio'>"
            "<backend model='random'>/var/lib/libvirt/rnd</backend></rng>"
        ),
        on_source=(faults.linked("/dev/urandom", "/var/lib/libvirt/rnd"),),
        says="Could not open '/var/lib/libvirt/rnd': No such file or directory",
    ),
    fails(
        "9p-directory-absent",
        "shares.no-directory",
        guest=guest(
            devices="<filesystem type='mount' accessmode='passthrough'>"
            "<source dir='/var/lib/libvirt/p9'/><target dir='fs0'/></filesystem>"
        ),
        on_source=(faults.directory("/var/lib/libvirt/p9"),),
        says="/var/lib/libvirt/p9",
    ),
    migrates(
        "9p-unmounted",
        guest=guest(
            devices="<filesystem type='mount' accessmode='passthrough'>"
            "<source dir='/var/lib/libvirt/p9'/><target dir='fs0'/></filesystem>"
        ),
        **both(faults.directory("/var/lib/libvirt/p9")),
        unsure_ok="only QEMU knows whether the guest has it mounted",
    ),
    fails(
        "virtiofs",
        "shares.virtiofs-stays",
        guest=guest(
            top="<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
            devices="<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/>"
            "<source dir='/var/lib/libvirt/vfs'/><target dir='fs0'/></filesystem>",
        ),
        **both(faults.directory("/var/lib/libvirt/vfs")),
        says="vhost-user-fs",
    ),
    fails(
        "shmem",
        "state.shared-memory",
        "shares.virtiofs-stays",
        guest=guest(
            devices="<shmem name='@name'><model type='ivshmem-plain'/>"
            "<size unit='M'>4</size></shmem>"
        ),
        **both(faults.shell("shared memory", ":", back="rm -f /dev/shm/@name")),
        says="Migration is disabled when using feature 'peer mode' in device 'ivshmem'",
    ),
    fails(
        "serial-udp-address-of-source",
        "chardevs.address-not-here",
        guest=guest(devices=UDP_SERIAL.format("10.78.0.1")),
        says="Cannot assign requested address",
    ),
    migrates("serial-udp", guest=guest(devices=UDP_SERIAL.format("0.0.0.0"))),
    # QEMU lets others have the port of its datagrams, and takes it from those who do alike.
    migrates(
        "serial-udp-port-shared",
        guest=guest(devices=UDP_SERIAL.format("0.0.0.0")),
        on_destination=(UDP_PORT_SHARED,),
    ),
    fails(
        "nic-server-address-of-source",
        "chardevs.address-not-here",
        guest=guest(devices=SOCKET_NIC.format("server", "address='10.78.0.1'")),
        says="Cannot assign requested address",
    ),
    fails(
        "nic-server-port-taken",
        "chardevs.port-in-use",
        guest=guest(devices=SOCKET_NIC.format("server", "address='0.0.0.0'")),
        on_destination=(faults.port_taken(7790),),
        says="Address already in use",
    ),
    migrates("nic-server", guest=guest(devices=SOCKET_NIC.format("server", "address='0.0.0.0'"))),
    # QEMU does not wait for an answer.
    migrates(
        "nic-client-nobody",
        guest=guest(devices=SOCKET_NIC.format("client", "address='127.0.0.1'")),
        on_source=(faults.port_taken(7790),),
    ),
)
