"""A lab: up to eight libvirt hosts in namespaces of their own, and the switch that joins them.

Everything lives below the switch: its process-id namespace holds every host's, so that ending one
process ends the lab, and its network namespace holds the only bridge, so that the machine's own
network never sees any of it. The switch is also where the operator sits: it reaches every host.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tests.lab import roots
from tests.lab.machine import (
    HERE,
    LabError,
    Ran,
    attempt,
    install_missing_programs,
    instance,
    pages_of_2m,
    run,
    why_not,
)
from tests.lab.silicon import (
    LESSER,
    SPARE_LESSER,
    Accelerator,
    lesser_cpu_library,
    look_at_cpu,
)

RUNS = Path("/var/tmp/virt-preflight-lab")
NETWORK = "10.78.0"
SWITCH_ADDRESS = f"{NETWORK}.254"
AGENT_PORT = 50551
MARK = "VIRT_PREFLIGHT_LAB_RUN"
PATHS = "/usr/sbin:/usr/bin:/sbin:/bin"
# So that a host, a network or a pool has the same UUID in every lab, and in no other's.
NAMESPACE = uuid.UUID("6f3f1c0e-5a53-4a64-9a55-0a3a0b1d7e11")

Tell = Callable[[str], None]


def say_nothing(_: str) -> None:
    """For callers who do not follow along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """How one host differs from the others."""

    name: str
    release: str = "bookworm"
    cpu: Literal["full", "lesser"] = "full"
    qemu_user: Literal["root", "libvirt-qemu"] = "root"
    dynamic_ownership: Literal[0, 1] = 1
    hugetlbfs: Literal["mounted", "absent"] = "mounted"
    kvm: Literal["present", "absent"] = "present"
    qemu_conf: str = ""
    purpose: str = ""


PLAN = (
    HostPlan(name="h1", purpose="where guests come from"),
    HostPlan(name="h2", purpose="as the source"),
    HostPlan(name="h3", release="trixie", purpose="newer libvirt and QEMU"),
    HostPlan(name="h4", cpu="lesser", hugetlbfs="absent", purpose="a lesser CPU, no hugetlbfs"),
    HostPlan(
        name="h5",
        qemu_user="libvirt-qemu",
        dynamic_ownership=0,
        purpose="QEMU is an ordinary user and files keep their owners",
    ),
    HostPlan(name="h6", release="trixie", purpose="as h3"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host that is up; `pid` is its first process, as the machine numbers it."""

    name: str
    address: str
    uuid: str
    pid: int
    plan: HostPlan

    @property
    def files(self) -> Path:
        """The host's root, seen from the machine."""
        return Path(f"/proc/{self.pid}/root")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A lab that is up."""

    name: str
    run: Path
    switch_pid: int
    accelerator: Accelerator
    lesser: tuple[str, ...]  # CPU features that the lesser hosts lack, as libvirt calls them
    agent: Literal["serving", "absent"]
    hosts: Mapping[str, Host] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Host:
        if name not in self.hosts:
            raise LabError(f"no host {name}: there are {', '.join(self.hosts)}")
        return self.hosts[name]


# ------------------------------------------------------------------- running things in a lab


def attempt_on(
    host: Host, argv: Sequence[str], *, within_s: float = 60, stdin: str | None = None
) -> Ran:
    """Run a command on a host, in all of its namespaces and with a host's environment."""
    return attempt([*entering(host), *argv], within_s=within_s, stdin=stdin)


def run_on(
    host: Host, argv: Sequence[str], *, within_s: float = 60, stdin: str | None = None
) -> str:
    """Run a command on a host that has to work."""
    return run([*entering(host), *argv], within_s=within_s, stdin=stdin)


def script_on(host: Host, script: str, *, within_s: float = 60) -> str:
    """Run a shell script on a host that has to work."""
    return run_on(host, ["sh", "-euc", script], within_s=within_s)


def entering(host: Host) -> tuple[str, ...]:
    """What to put before a command so that it runs on the host."""
    environment = (f"PATH={PATHS}", "HOME=/root", "LC_ALL=C.UTF-8")
    return ("nsenter", "-t", str(host.pid), "-a", "env", "-i", *environment)


def beside(lab: Lab) -> tuple[str, ...]:
    """What to put before a command of the machine so that it runs where the operator sits."""
    return ("nsenter", "-t", str(lab.switch_pid), "-n", "-m")


def attempt_beside(
    lab: Lab, argv: Sequence[str | Path], *, within_s: float = 60, stdin: str | None = None
) -> Ran:
    """Run a command of the machine in the switch's network, from which all hosts are reached."""
    return attempt([*beside(lab), *argv], within_s=within_s, stdin=stdin, cwd=Path("/"))


def fleet_toml(lab: Lab) -> str:
    """The fleet as an operator at the switch would write it down."""
    head = '[uris]\nconnect = "qemu+tcp://{host}/system"\nmigrate = "qemu+tcp://{host}/system"\n'
    entries = (
        f'\n[[host]]\nname = "{host.name}"\naddress = "{host.address}:{AGENT_PORT}"\n'
        for host in lab.hosts.values()
    )
    return head + "".join(entries)


# ------------------------------------------------------------------------------------------- up


def up(
    plan: Sequence[HostPlan] = PLAN,
    *,
    wheels: Callable[[str], Path] | None = None,
    tell: Tell = say_nothing,
) -> Lab:
    """Bring up a lab of these hosts, all at once; a lab of the same name is taken down first.

    `wheels` says where the agent's wheels for a release are; without it hosts have no agent.
    """
    if len(plan) > 8 or len({host.name for host in plan}) != len(plan):
        raise LabError("a lab has up to eight hosts, each with a name of its own")
    if reason := why_not():
        raise LabError(reason)
    install_missing_programs()
    down()
    releases = sorted({host.release for host in plan})
    lower = {
        release: roots.layers(release, agent_from=wheels(release) if wheels else None, tell=tell)
        for release in releases
    }
    place = run_directory()
    (place / "shared").mkdir(parents=True)
    try:
        addresses = {host.name: f"{NETWORK}.{at}" for at, host in enumerate(plan, start=1)}
        switch_pid = start_switch(place, addresses)

        def one(host: HostPlan) -> Host:
            return boot(place, switch_pid, host, addresses, lower[host.release])

        with ThreadPoolExecutor(max_workers=len(plan)) as pool:
            booted = list(pool.map(one, plan))
            silicon = look_at_cpu(lambda argv: attempt_on(booted[0], argv, within_s=20))

            def serve(host: Host) -> None:
                mount_cluster(host)
                start_libvirtd(host, hidden=silicon.hidden_on(host.plan.cpu))
                if silicon.lesser:
                    spare = lesser_cpu_library(silicon.hidden_on("lesser"))
                    shutil.copy(spare, host.files / SPARE_LESSER.lstrip("/"))
                if wheels:
                    start_agent(host)

            list(pool.map(serve, booted))
        lab = Lab(
            name=instance(),
            run=place,
            switch_pid=switch_pid,
            accelerator=silicon.accelerator,
            lesser=silicon.lesser,
            agent="serving" if wheels else "absent",
            hosts={host.name: host for host in booted},
        )
        (place / "fleet.toml").write_text(fleet_toml(lab))
        remember(lab)
    except BaseException:
        down(keep_logs=True)
        raise
    return lab


def run_directory() -> Path:
    return RUNS / instance()


def start_switch(place: Path, addresses: Mapping[str, str]) -> int:
    """The process that holds the lab together, and the bridge in its network namespace."""
    (place / "hosts.txt").write_text(hosts_file(addresses))
    script = """
read -r stat </proc/self/stat
set -- "$1" $stat
echo "$2 ${23}" >"$1/switch.new"
mv "$1/switch.new" "$1/switch"
mount --bind "$1/hosts.txt" /etc/hosts
ip -batch - <<END
link set lo up
link add lab0 type bridge stp_state 0 forward_delay 0
address add ADDRESS/24 dev lab0
link set lab0 up
END
: >"$1/ready"
while :; do sleep 3600 & wait $!; done
""".replace("ADDRESS", SWITCH_ADDRESS)
    unshare = ("unshare", "--net", "--mount", "--pid", "--fork", "--propagation", "private")
    start(place, [*unshare, "sh", "-euc", script, "sh", str(place)], log=place / "switch.log")
    wait_for(lambda: (place / "ready").exists(), "the switch", log=place / "switch.log")
    return int((place / "switch").read_text().split()[0])


def start(place: Path, argv: Sequence[str], *, log: Path, inside: Sequence[str] = ()) -> None:
    """Start something that outlives us; its mark says whose it is."""
    quoted = " ".join(shlex.quote(word) for word in argv)
    line = f"exec {quoted} </dev/null >{shlex.quote(str(log))} 2>&1"
    marked = (f"PATH={PATHS}", f"{MARK}={place}", "LC_ALL=C.UTF-8")
    run([*inside, "setsid", "--fork", "env", "-i", *marked, "sh", "-c", line], within_s=20)


def boot(
    place: Path,
    switch_pid: int,
    plan: HostPlan,
    addresses: Mapping[str, str],
    lower: Sequence[Path],
) -> Host:
    """One host, from nothing to one that could start its daemons."""
    own = place / "hosts" / plan.name
    for part in ("etc", "images", "shared"):
        (own / part).mkdir(parents=True)
    (own / "shared").rmdir()
    (own / "shared").symlink_to(place / "shared")
    lay_out_etc(own / "etc", plan, addresses)
    options = [
        *(["no-hugetlbfs"] if plan.hugetlbfs == "absent" else []),
        *(["no-kvm"] if plan.kvm == "absent" else []),
    ]
    kinds = ("--net", "--mount", "--uts", "--ipc", "--pid")
    unshare = ("unshare", *kinds, "--fork", "--propagation", "private")
    boot_script = ("sh", str(HERE / "boot.sh"), str(own), ":".join(map(str, lower)), *options)
    start(
        place,
        [*unshare, *boot_script],
        log=own / "boot.log",
        inside=("nsenter", "-t", str(switch_pid), "-n", "-m", "-p"),
    )
    wait_for(lambda: (own / "pid").exists(), plan.name, log=own / "boot.log")
    host = Host(
        name=plan.name,
        address=addresses[plan.name],
        uuid=str(uuid.uuid5(NAMESPACE, plan.name)),
        pid=int((own / "pid").read_text()),
        plan=plan,
    )
    plug_in(host, switch_pid)
    wait_for(lambda: (host.files / "run/booted").exists(), plan.name, log=own / "boot.log")
    return host


def plug_in(host: Host, switch_pid: int) -> None:
    """A cable from the host to the switch, and the bridge that the host's guests sit on."""
    number = int(host.address.rpartition(".")[2])
    run(
        ["nsenter", "-t", str(switch_pid), "-n", "ip", "-batch", "-"],
        stdin=f"link add {host.name} type veth peer name eth0 netns {host.pid}\n"
        f"link set {host.name} master lab0 up\n",
    )
    run(
        ["nsenter", "-t", str(host.pid), "-n", "ip", "-batch", "-"],
        # The bridge's address is set, or it would change with the guests that come and go.
        stdin=f"""link set lo up
link add br0 address 52:54:00:78:00:{number:02x} type bridge stp_state 0 forward_delay 0
link set eth0 master br0 up
address add {host.address}/24 dev br0
link set br0 up
""",
    )


def mount_cluster(host: Host) -> None:
    """The shared directory once more, as what libvirt takes for a cluster file system.

    libvirt goes by the type of the mount alone: through FUSE any directory can have that one.
    """
    mount = "bindfs -o subtype=glusterfs,fsname=storage:/guests /srv/shared /srv/cluster"
    script_on(host, f"mkdir -p /srv/cluster\n{mount}")


def start_libvirtd(host: Host, *, hidden: Sequence[str] = ()) -> None:
    """Start the host's libvirtd, at boot with the CPU features to hide from it, later without."""
    library = host.files / LESSER.lstrip("/")
    if hidden:
        shutil.copy(lesser_cpu_library(hidden), library)
    preload = [f"LD_PRELOAD={LESSER}"] if library.exists() else []
    run_on(host, ["env", *preload, "/usr/sbin/libvirtd", "--listen", "--daemon"])
    log = host.files / "var/log/libvirtd.log"
    wait_for(
        lambda: attempt_on(host, ["virsh", "-q", "net-list"], within_s=30).code == 0,
        f"libvirtd of {host.name}",
        log=log,
        within_s=60,
    )


AGENT_LOG = "/var/log/virt-preflight-agent.log"
AGENT_PID = "/run/virt-preflight-agent.pid"
# Who asks sits on the machine that the hosts are made on, and has no certificate.
AGENT_CONF = "/etc/virt-preflight/agent.toml"
TRUSTING = """[roles]
local = "admin"
"""


def start_agent(host: Host) -> None:
    """Start the host's agent, as trusting as a lab may be, and wait until it listens."""
    conf = host.files / AGENT_CONF.lstrip("/")
    if not conf.exists():
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.write_text(TRUSTING)
    serve = f"exec {roots.AGENT} serve --listen 0.0.0.0:{AGENT_PORT} --insecure"
    script = f"echo $$ >{AGENT_PID}; {serve} </dev/null >>{AGENT_LOG} 2>&1"
    run_on(host, ["setsid", "--fork", "sh", "-c", script])
    log = host.files / AGENT_LOG.lstrip("/")
    socket = f"ss -Hltn sport = :{AGENT_PORT} | grep -q ."

    def listens() -> bool:
        alive = f"kill -0 $(cat {AGENT_PID}) 2>/dev/null || exit 2"
        code = attempt_on(host, ["sh", "-c", f"{alive}; {socket}"], within_s=10).code
        if code == 2:
            raise LabError(f"the agent of {host.name} ended\n{tail_of(log)}")
        return code == 0

    wait_for(lambda: (host.files / AGENT_PID.lstrip("/")).exists(), "the agent", log=log)
    wait_for(listens, f"agent of {host.name}", log=log)


def restart_agent(host: Host) -> None:
    """A fresh agent, for those who want one that has forgotten everything."""
    script_on(
        host,
        f"pid=$(cat {AGENT_PID}); rm {AGENT_PID}; kill $pid || :; "
        "timeout 10 tail --pid=$pid -f /dev/null",
        within_s=20,
    )
    start_agent(host)


def tail_of(log: Path) -> str:
    return "\n".join(roots.read(log).splitlines()[-15:])


def wait_for(arrived: Callable[[], bool], what: str, *, log: Path, within_s: float = 30) -> None:
    """Look again and again, for a bounded time; say what the log says if it never comes."""
    until = time.monotonic() + within_s
    while not arrived():
        if time.monotonic() > until:
            raise LabError(f"{what} did not come up within {within_s:g} s\n{tail_of(log)}")
        time.sleep(0.03)


# ---------------------------------------------------------------------------- a host's own /etc


def lay_out_etc(etc: Path, plan: HostPlan, addresses: Mapping[str, str]) -> None:
    """Write what makes this host this host."""
    own_uuid = uuid.uuid5(NAMESPACE, plan.name)
    networks, pools = "libvirt/qemu/networks", "libvirt/storage"
    texts = {
        "hostname": f"{plan.name}\n",
        "machine-id": f"{own_uuid.hex}\n",
        "hosts": hosts_file(addresses),
        # Nobody to ask beyond the file: a name that is not there is refused at once.
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
        "resolv.conf": "",
        "libvirt/libvirtd.conf": libvirtd_conf(str(own_uuid)),
        "libvirt/qemu.conf": qemu_conf(plan),
        f"{networks}/lan.xml": network_xml("lan", "br0"),
        f"{pools}/images.xml": pool_xml("images", "/var/lib/libvirt/images"),
    }
    for name, text in texts.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for directory, name in ((networks, "lan.xml"), (pools, "images.xml")):
        (etc / directory / "autostart").mkdir()
        (etc / directory / "autostart" / name).symlink_to(f"/etc/{directory}/{name}")


def hosts_file(addresses: Mapping[str, str]) -> str:
    lines = ["127.0.0.1 localhost", f"{SWITCH_ADDRESS} switch"]
    return "\n".join([*lines, *(f"{address} {name}" for name, address in addresses.items())]) + "\n"


def libvirtd_conf(host_uuid: str) -> str:
    return f"""listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
host_uuid = "{host_uuid}"
log_outputs = "3:file:/var/log/libvirtd.log"
"""


def qemu_conf(plan: HostPlan) -> str:
    return f"""security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
user = "{plan.qemu_user}"
group = "{plan.qemu_user}"
dynamic_ownership = {plan.dynamic_ownership}
{plan.qemu_conf}"""


def network_xml(name: str, bridge: str, *, inside: str = "") -> str:
    """A libvirt network that is a bridge of the host's."""
    own = uuid.uuid5(NAMESPACE, f"network {name}")
    return (
        f"<network><name>{name}</name><uuid>{own}</uuid><forward mode='bridge'/>"
        f"<bridge name='{bridge}'/>{inside}</network>\n"
    )


def pool_xml(name: str, path: str) -> str:
    """A storage pool that is a directory."""
    own = uuid.uuid5(NAMESPACE, f"pool {name}")
    return (
        f"<pool type='dir'><name>{name}</name><uuid>{own}</uuid>"
        f"<target><path>{path}</path></target></pool>\n"
    )


# ----------------------------------------------------------------------------------------- down


def down(*, keep_logs: bool = False) -> None:
    """End what this lab started and nothing else; fine to call at any time, and twice."""
    place = run_directory()
    give_back_pages(place)
    for pid in processes_of(place):
        end(pid)
    until = time.monotonic() + 15
    while left := processes_of(place):
        if time.monotonic() > until:
            raise LabError(f"processes of {place} did not end: {', '.join(map(str, left))}")
        time.sleep(0.02)
    if keep_logs:
        return
    roots.remove_tree(place)


def processes_of(place: Path) -> list[int]:
    """The switch, by its number and start time; and whatever else carries this lab's mark.

    The kernel ends all below the switch with it. The mark finds what was started but had not yet
    written its number down when its starter was killed.
    """
    found: list[int] = []
    recorded = roots.read(place / "switch").split()
    if len(recorded) == 2 and started_at(int(recorded[0])) == recorded[1]:
        found.append(int(recorded[0]))
    mark = f"{MARK}={place}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), *found):
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if mark in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def started_at(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None when it is no more, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def give_back_pages(place: Path) -> None:
    """Huge pages are the kernel's: what a scenario took and could not give back is given back."""
    before = roots.read(place / "hugepages")
    if before:
        pages_of_2m().write_text(before)


# --------------------------------------------------------------------------------------- memory


def remember(lab: Lab) -> None:
    """Write down what is up, for the next command."""
    text = json.dumps(
        {
            "name": lab.name,
            "switch": lab.switch_pid,
            "accelerator": lab.accelerator,
            "lesser": list(lab.lesser),
            "agent": lab.agent,
            "hosts": [
                {
                    "address": host.address,
                    "uuid": host.uuid,
                    "pid": host.pid,
                    "plan": asdict(host.plan),
                }
                for host in lab.hosts.values()
            ],
        },
        indent=1,
    )
    unfinished = lab.run / "lab.json.new"
    unfinished.write_text(text)
    unfinished.rename(lab.run / "lab.json")


def load() -> Lab | None:
    """The lab that is up under our name, if there is one."""
    place = run_directory()
    text = roots.read(place / "lab.json")
    recorded = roots.read(place / "switch").split()
    if not text or len(recorded) != 2 or started_at(int(recorded[0])) != recorded[1]:
        return None
    told = json.loads(text)
    booted = [
        Host(
            name=host["plan"]["name"],
            address=host["address"],
            uuid=host["uuid"],
            pid=host["pid"],
            plan=HostPlan(**host["plan"]),
        )
        for host in told["hosts"]
    ]
    return Lab(
        name=told["name"],
        run=place,
        switch_pid=told["switch"],
        accelerator=told["accelerator"],
        lesser=tuple(told["lesser"]),
        agent=told["agent"],
        hosts={host.name: host for host in booted},
    )


def loaded() -> Lab:
    """The lab that is up under our name."""
    lab = load()
    if lab is None:
        raise LabError("no lab is up: python -m tests.lab up")
    return lab
