"""What is arranged on a host before a guest is to come or to leave, and how it is put back.

Each is two shell scripts that run on the host: do, and undo. Most are faults; some are what both
hosts need so that only one thing differs between them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from tests.lab import guests
from tests.lab.hosts import Host, network_xml, pool_xml, script_on
from tests.lab.machine import Ran, attempt
from tests.lab.silicon import LESSER, SPARE_LESSER

# A libvirtd that is still at something when it is ended waits up to 30 s for it.
RESTART_LIBVIRTD = f"""
pid=$(cat /run/libvirtd.pid); kill $pid
timeout 5 tail --pid=$pid -f /dev/null || {{ kill -9 $pid; tail --pid=$pid -f /dev/null; }}
[ -e {LESSER} ] && export LD_PRELOAD={LESSER}
/usr/sbin/libvirtd --listen --daemon
unset LD_PRELOAD
n=0; until virsh -q net-list >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 200 ]; sleep 0.05; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something to arrange on a host; `undo` has to work in whatever state it finds."""

    name: str
    do: str
    undo: str


def apply(host: Host, fault: Fault) -> None:
    script_on(host, fault.do, within_s=60)


def undo(host: Host, fault: Fault) -> Ran:
    """Put back as far as it goes: what is already gone is no reason to stop."""
    return attempt(
        ["nsenter", "-t", str(host.pid), "-a", "sh", "-c", f"{{ {fault.undo}\n}} 2>/dev/null; :"],
        within_s=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )


# ---------------------------------------------------------------------------------- network


def bridge(name: str, *, mtu: int = 1500, state: str = "up") -> Fault:
    """A bridge of that name; a port without a cable gives it an MTU that stays."""
    return Fault(
        name=f"bridge {name} ({state}, MTU {mtu})",
        do=f"ip link add {name} type bridge stp_state 0; ip link set {name} mtu {mtu} {state}",
        undo=f"ip link del {name}",
    )


def link_that_is_no_bridge(name: str) -> Fault:
    return Fault(
        name=f"{name} is a cable, no bridge",
        do=f"ip link add {name} type veth peer name {name}-peer; ip link set {name} up",
        undo=f"ip link del {name}",
    )


def tap(name: str) -> Fault:
    return Fault(
        name=f"a tap {name}",
        do=f"ip tuntap add {name} mode tap",
        undo=f"ip link del {name}",
    )


def network(
    name: str, *, onto: str = "br0", inside: str = "", state: str = "active", xml: str = ""
) -> Fault:
    """A libvirt network of the host's."""
    text = shlex.quote(xml or network_xml(name, onto, inside=inside))
    starting = f"; virsh -q net-start {name}" if state == "active" else ""
    return Fault(
        name=f"network {name} ({state})",
        do=f"printf %s {text} >/tmp/{name}.net; virsh -q net-define /tmp/{name}.net{starting}; "
        f"rm /tmp/{name}.net",
        undo=f"virsh -q net-destroy {name}; virsh -q net-undefine {name}",
    )


def nwfilter(name: str) -> Fault:
    """A filter without rules: this kernel may have nothing to enforce rules with."""
    return Fault(
        name=f"nwfilter {name}",
        do=f"echo \"<filter name='{name}' chain='root'/>\" >/tmp/f; "
        "virsh -q nwfilter-define /tmp/f; rm /tmp/f",
        undo=f"virsh -q nwfilter-undefine {name}",
    )


def lan_stopped() -> Fault:
    return Fault(
        name="network lan stopped",
        do="virsh -q net-destroy lan",
        undo="virsh -q net-start lan",
    )


# ----------------------------------------------------------------------------------- storage


# Directories that scenarios make and that have to go again; all others were there before.
MADE = ("/var/lib/libvirt/fw", "/opt/qemu")


def emptied(path: str) -> str:
    """Remove a file, and the directory that was made for it."""
    parent = path.rpartition("/")[0]
    return f"rm -f {path}; " + (f"rmdir {parent}" if parent in MADE else ":")


def file(path: str, *, size: str = "1M", mode: str = "644", owner: str = "root:root") -> Fault:
    """A file of zeros."""
    parent = path.rpartition("/")[0]
    return Fault(
        name=f"file {path} of {size}",
        do=f"mkdir -p {parent}; truncate -s {size} {path}; chmod {mode} {path}; "
        f"chown {owner} {path}",
        undo=emptied(path),
    )


def image(path: str, *, format: str = "qcow2", size_mib: int = 16) -> Fault:  # noqa: A002
    """An image that is not a disk of the guest's as far as the lab knows."""
    return Fault(
        name=f"{format} image {path} of {size_mib} MiB",
        do=f"mkdir -p {path.rpartition('/')[0]}; qemu-img create -q -f {format} {path} {size_mib}M",
        undo=f"rm -f {path}",
    )


def filled(path: str, *, size_mib: int) -> Fault:
    """A raw image that is not empty."""
    return Fault(
        name=f"{path}, {size_mib} MiB of something",
        do=f"head -c {size_mib}M /dev/urandom >{path}",
        undo=f"rm -f {path}",
    )


def overlay(path: str, backing: str) -> Fault:
    """An image over another one."""
    return Fault(
        name=f"{path} over {backing}",
        do=f"qemu-img create -q -f qcow2 -b {backing} -F qcow2 {path}",
        undo=f"rm -f {path}",
    )


def image_with_content_apart(path: str, content: str) -> Fault:
    """An image that holds only where things are; the things are in a file of their own."""
    return Fault(
        name=f"{path} with its content in {content}",
        do=f"qemu-img create -q -f qcow2 -o data_file={content} {path} 16M",
        undo=f"rm -f {path} {content}",
    )


def kernel(path: str) -> Fault:
    """A file that QEMU takes for a Linux kernel: zeros, and the two marks that it looks for.

    The boot protocol's magic numbers at 510 and 514, and version 2.02, the first to know initrds.
    """
    mark = "conv=notrunc status=none"
    return Fault(
        name=f"kernel {path}",
        do=f"mkdir -p {path.rpartition('/')[0]}; truncate -s 64K {path}; "
        f"printf '\\125\\252' | dd of={path} bs=1 seek=510 {mark}; "
        f"printf 'HdrS\\002\\002' | dd of={path} bs=1 seek=514 {mark}",
        undo=emptied(path),
    )


def moved_away(path: str) -> Fault:
    """A file that was there is not there for a while."""
    return Fault(
        name=f"{path} gone",
        do=f"mv {path} {path}.away",
        undo=f"[ -e {path}.away ] && mv {path}.away {path}",
    )


def copied(source: str, path: str) -> Fault:
    return Fault(
        name=f"{path}, a copy of {source}",
        do=f"mkdir -p {path.rpartition('/')[0]}; cp {source} {path}",
        undo=emptied(path),
    )


def linked(target: str, path: str) -> Fault:
    return Fault(
        name=f"{path} -> {target}",
        do=f"mkdir -p {path.rpartition('/')[0]}; ln -sfn {target} {path}",
        undo=emptied(path),
    )


def directory(path: str, *, mode: str = "755") -> Fault:
    return Fault(
        name=f"directory {path} ({mode})",
        do=f"mkdir -p {path}; chmod {mode} {path}",
        undo=f"rm -rf {path}",
    )


def permissions(path: str, *, mode: str, owner: str = "root:root") -> Fault:
    """Of something that goes away with its scenario, so nothing is put back."""
    return Fault(
        name=f"{path} is {owner} {mode}",
        do=f"chmod {mode} {path}; chown {owner} {path}",
        undo=":",
    )


def secret(uuid: str, value: str = "lab") -> Fault:
    xml = (
        f"<secret ephemeral='no' private='no'><uuid>{uuid}</uuid>"
        f"<usage type='volume'><volume>/secret/{uuid}</volume></usage></secret>"
    )
    return Fault(
        name=f"secret {uuid}",
        do=f"echo {shlex.quote(xml)} >/tmp/s; virsh -q secret-define /tmp/s >/dev/null; rm /tmp/s; "
        f"virsh -q secret-set-value {uuid} --base64 $(printf %s {value} | base64) >/dev/null 2>&1",
        undo=f"virsh -q secret-undefine {uuid}; rm -f /tmp/s",
    )


def pool(name: str, path: str, *, state: str = "active") -> Fault:
    text = shlex.quote(pool_xml(name, path))
    starting = f"; virsh -q pool-start {name}" if state == "active" else ""
    return Fault(
        name=f"pool {name} at {path} ({state})",
        do=f"mkdir -p {path}; echo {text} >/tmp/p; virsh -q pool-define /tmp/p{starting}; "
        "rm /tmp/p",
        undo=f"virsh -q pool-destroy {name}; virsh -q pool-undefine {name}; rm -rf {path}; "
        "rm -f /tmp/p",
    )


def pool_refreshed(name: str) -> Fault:
    return Fault(name=f"pool {name} refreshed", do=f"virsh -q pool-refresh {name}", undo=":")


def pool_stopped(name: str) -> Fault:
    return Fault(
        name=f"pool {name} stopped",
        do=f"virsh -q pool-destroy {name}",
        undo=f"virsh -q pool-start {name}",
    )


def pool_undefined(name: str, path: str) -> Fault:
    return Fault(
        name=f"pool {name} undefined",
        do=f"virsh -q pool-destroy {name}; virsh -q pool-undefine {name}",
        undo=f"echo {shlex.quote(pool_xml(name, path))} >/tmp/p; virsh -q pool-define /tmp/p; "
        f"rm -f /tmp/p; virsh -q pool-start {name}; virsh -q pool-autostart {name}",
    )


def nbd_server(path: str, *, port: int, address: str) -> Fault:
    """An image served over the network, from this host."""
    pid = f"/run/nbd-{port}.pid"
    return Fault(
        name=f"{path} served at {address}:{port}",
        do=f"qemu-img create -q -f raw {path} 16M; "
        f"qemu-nbd --fork --persistent --shared=8 -f raw -b {address} -p {port} "
        f"--pid-file={pid} {path}",
        undo=f"kill $(cat {pid}); sleep 0.1; rm -f {pid} {path}",
    )


# ----------------------------------------------------------------- memory, pages, limits, identity


def memory_limit(gib: int) -> Fault:
    """The largest address space of every QEMU that libvirtd starts from now on."""
    limited = "prlimit --pid $(cat /run/libvirtd.pid)"
    return Fault(
        name=f"no process larger than {gib} GiB",
        do=f"{limited} --as={gib << 30}:unlimited",
        undo=f"{limited} --as=unlimited:unlimited",
    )


def pages_held(count: int) -> Fault:
    """So many 2 MiB pages are taken by somebody else."""
    path = "/dev/hugepages/held"
    return Fault(
        name=f"{count} huge pages in use",
        do=f"fallocate -l {count * 2}M {path}",
        undo=f"rm -f {path}",
    )


def hostname(name: str, *, own: str) -> Fault:
    return Fault(name=f"hostname {name}", do=f"hostname {name}", undo=f"hostname {own}")


def host_uuid(uuid: str, *, own: str) -> Fault:
    """libvirtd learns its host's UUID when it starts."""

    def becoming(value: str) -> str:
        conf = "/etc/libvirt/libvirtd.conf"
        return f"sed -i 's/^host_uuid.*/host_uuid = \"{value}\"/' {conf}\n{RESTART_LIBVIRTD}"

    return Fault(name=f"host UUID {uuid}", do=becoming(uuid), undo=becoming(own))


def qemu_conf(line: str) -> Fault:
    """Another line in the host's qemu.conf, in force."""
    conf = "/etc/libvirt/qemu.conf"
    return Fault(
        name=f"qemu.conf: {line}",
        do=f"cp {conf} {conf}.before; echo {shlex.quote(line)} >>{conf}\n{RESTART_LIBVIRTD}",
        undo=f"[ -e {conf}.before ] && mv {conf}.before {conf}\n{RESTART_LIBVIRTD}",
    )


def qemu_user(name: str, *, ownership: int = 1, remember: int = 0) -> Fault:
    """QEMU runs as another user; libvirt may give it its files, and note whose they were."""
    conf = "/etc/libvirt/qemu.conf"
    change = (
        f's/^(user|group) = .*/\\1 = "{name}"/; s/^(remember_owner) = .*/\\1 = {remember}/; '
        f"s/^(dynamic_ownership) = .*/\\1 = {ownership}/"
    )
    return Fault(
        name=f"QEMU runs as {name}, ownership {ownership}, noted {remember}",
        do=f"cp {conf} {conf}.before; sed -E -i {shlex.quote(change)} {conf}\n{RESTART_LIBVIRTD}",
        undo=f"[ -e {conf}.before ] && mv {conf}.before {conf}\n{RESTART_LIBVIRTD}",
    )


def lock_manager(*, daemon: Literal["running", "absent"]) -> Fault:
    """Disks are locked by virtlockd, which has to be there."""
    using = qemu_conf('lock_manager = "lockd"')
    start = "virtlockd --daemon --pid-file /run/virtlockd.pid\n" if daemon == "running" else ""
    return Fault(
        name=f"lockd, its daemon {daemon}",
        do=start + using.do,
        undo=f"{using.undo}\nkill $(cat /run/virtlockd.pid); rm -rf /run/virtlockd.pid "
        "/run/libvirt/virtlockd* /var/lib/libvirt/lockd",
    )


def modules_absent(*names: str) -> Fault:
    """QEMU without some of its modules: packages of their own in other distributions."""
    place = "/usr/lib/x86_64-linux-gnu/qemu"
    words = " ".join(names)
    return Fault(
        name=f"QEMU without {words}",
        do=f"mkdir {place}.away; cd {place}; mv {words} {place}.away",
        undo=f"mv {place}.away/* {place}; rmdir {place}.away",
    )


def lesser_cpu() -> Fault:
    """The host has from now on the lesser CPU: libvirtd forgets what it knew of KVM's."""
    forget = "rm -f /var/cache/libvirt/qemu/capabilities/*"
    return Fault(
        name="a lesser CPU",
        do=f"[ ! -e {LESSER} ] || mv {LESSER} {LESSER}.before\ncp {SPARE_LESSER} {LESSER}; {forget}"
        f"\n{RESTART_LIBVIRTD}",
        undo=f"rm -f {LESSER}; [ ! -e {LESSER}.before ] || mv {LESSER}.before {LESSER}; {forget}"
        f"\n{RESTART_LIBVIRTD}",
    )


def booting(path: str, program: bytes) -> Fault:
    """A raw disk that holds a program without a system."""
    octal = "".join(f"\\{byte:03o}" for byte in program)
    return Fault(
        name=f"{path}, a boot sector",
        do=f"truncate -s 1M {path}; printf '{octal}' | dd of={path} conv=notrunc status=none",
        undo=f"rm -f {path}",
    )


def libvirtd_stopped() -> Fault:
    return Fault(
        name="libvirtd stopped",
        do="pid=$(cat /run/libvirtd.pid); kill $pid; tail --pid=$pid -f /dev/null",
        undo="[ -e /run/libvirtd.pid ] && kill -0 $(cat /run/libvirtd.pid) || "
        "{ [ -e /etc/lesser_cpu.so ] && export LD_PRELOAD=/etc/lesser_cpu.so; "
        "/usr/sbin/libvirtd --listen --daemon; }; "
        "n=0; until virsh -q net-list || [ $n -ge 200 ]; do n=$((n+1)); sleep 0.05; done",
    )


# ------------------------------------------------------------------------------------- tenants


def tenant(name: str, uuid: str, *, state: str = "defined") -> Fault:
    """Another guest of the host's, which may have the name or the UUID that ours has."""
    xml = (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>"
        "<memory unit='MiB'>16</memory><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
        "<devices><controller type='usb' model='none'/><memballoon model='none'/></devices>"
        "</domain>"
    )
    verb = "define" if state == "defined" else "create"
    return Fault(
        name=f"another guest {name} ({state})",
        do=f"echo {shlex.quote(xml)} >/tmp/d; virsh -q {verb} /tmp/d; rm /tmp/d",
        undo=f"virsh -q destroy {uuid}; virsh -q undefine {uuid}; rm -f /tmp/d",
    )


def port_taken(port: int) -> Fault:
    """Somebody listens there already, by IPv4 and IPv6.

    By IPv4 alone it would be another fault: QEMU is content with the IPv6 half of the port, the
    source connects to the stranger, and the migration hangs.
    """
    program, pid = f"/run/listener-{port}.py", f"/run/listener-{port}.pid"
    code = f"""
import os, socket, time
open("{pid}", "w").write(str(os.getpid()))
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("::", {port}))
listener.listen()
time.sleep(600)
"""
    return Fault(
        name=f"port {port} taken",
        do=f"printf %s {shlex.quote(code)} >{program}\n"
        f"setsid --fork python3 -I {program} </dev/null >/dev/null 2>&1\n"
        f"n=0; until ss -Hltn sport = :{port} | grep -q .; do n=$((n+1)); [ $n -lt 100 ]; "
        "sleep 0.05; done",
        undo=f"kill $(cat {pid}); rm -f {pid} {program}",
    )


# ------------------------------------------------------------- the guest itself, once it runs


def resident(name: str, *, mib: int) -> Fault:
    """No fault: waits until the guest has written to so much of its memory."""
    used = f"awk '/VmRSS/ {{print int($2/1024)}}' /proc/$(cat /run/libvirt/qemu/{name}.pid)/status"
    return Fault(
        name=f"{name} has written to {mib} MiB",
        do=f"n=0; until [ $({used}) -ge {mib} ]; do n=$((n+1)); [ $n -lt 500 ]; sleep 0.1; done",
        undo=":",
    )


def virsh(arguments: str, *, back: str = ":") -> Fault:
    """Something that virsh does to the running guest."""
    return Fault(name=f"virsh {arguments}", do=f"virsh -q {arguments}", undo=back)


def shell(name: str, do: str, *, back: str = ":") -> Fault:
    """Whatever is not worth a name of its own."""
    return Fault(name=name, do=do, undo=back)


def defined(guest: guests.Guest) -> Fault:
    """The running guest is persistent too."""
    return Fault(
        name=f"{guest.name} defined",
        do=f"virsh -q dumpxml --inactive {guest.name} >/tmp/d; virsh -q define /tmp/d; rm /tmp/d",
        undo=f"virsh -q undefine {guest.name} --nvram",
    )
