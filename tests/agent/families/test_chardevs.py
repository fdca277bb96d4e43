from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.chardevs import (
    DeviceEnd,
    FileEnd,
    GuestChardevs,
    GuestPeers,
    OpenPorts,
    SeenChardevs,
    SocketEnd,
    TcpEnd,
    UdpEnd,
    address_not_here,
    device_absent,
    file_emptied,
    guest_chardevs,
    guest_peers,
    no_directory,
    open_ports,
    path_taken,
    peer_absent,
    port_in_use,
    port_reserved,
    seen_chardevs,
)
from virt_preflight.agent.families.daemon import QemuUser
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import FileStat, Unreadable, User

ROOT = User(name="root", uid=0, gid=0)
LABELLING = QemuUser(user=ROOT, dynamic_ownership=True)
LEAVING = QemuUser(user=ROOT, dynamic_ownership=False)
LOG = GuestChardevs(files=(FileEnd(subject="serial 0", path="/logs/a.log", append=False),))


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def read(devices: str) -> GuestChardevs | None:
    return guest_chardevs(
        read_domain(f"<domain><name>g</name><devices>{devices}</devices></domain>")
    )


def stat(kind: str, size: int = 0) -> FileStat:
    return FileStat(kind=kind, size_bytes=size, mode=0o755, uid=0, gid=0, device=1, inode=2)


def test_a_console_that_shows_its_serial_port_counts_once() -> None:
    xml = """<serial type='file'><source path='/logs/a.log'/><target port='0'/></serial>
    <console type='file'><source path='/logs/a.log'/><target type='serial' port='0'/></console>"""
    assert read(xml) == LOG


def test_a_log_is_a_file_too() -> None:
    xml = "<serial type='pty'><log file='/logs/a.log' append='on'/><target port='1'/></serial>"
    assert read(xml) == GuestChardevs(
        files=(FileEnd(subject="serial 1", path="/logs/a.log", append=True),)
    )


def test_sockets_ports_and_devices_are_read() -> None:
    xml = """
    <channel type='unix'><source mode='bind' path='/run/x.sock'/>
    <target type='virtio' name='org.x'/></channel>
    <serial type='unix'><source mode='connect' path='/run/y.sock'>
    <reconnect enabled='yes' timeout='1'/></source></serial>
    <serial type='tcp'><source mode='bind' host='0.0.0.0' service='7777'/>
    <protocol type='raw'/></serial>
    <parallel type='dev'><source path='/dev/parport0'/></parallel>
    <serial type='pipe'><source path='/run/p'/></serial>
    <rng model='virtio'><backend model='egd' type='tcp'>
    <source mode='connect' host='10.0.0.9' service='708'/></backend></rng>"""
    assert read(xml) == GuestChardevs(
        sockets=(
            SocketEnd(subject="serial 0", path="/run/y.sock", listens=False, retries=True),
            SocketEnd(subject="channel org.x", path="/run/x.sock", listens=True),
        ),
        ports=(
            TcpEnd(subject="serial 1", host="0.0.0.0", port=7777, listens=True),
            TcpEnd(subject="rng 0", host="10.0.0.9", port=708, listens=False),
        ),
        devices=(
            DeviceEnd(subject="serial 2", path="/run/p", pipe=True),
            DeviceEnd(subject="parallel 0", path="/dev/parport0"),
        ),
    )


def test_paths_that_libvirt_makes_by_itself_are_not_asked_for() -> None:
    for folder in (
        "/var/lib/libvirt/qemu/channel/target/domain-3-g",
        "/run/libvirt/qemu/channel/3-g",
    ):
        agent = f"""<channel type='unix'>
        <source mode='bind' path='{folder}/org.qemu.guest_agent.0'/>
        <target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""
        assert read(agent) is None


def test_a_guest_whose_console_is_a_terminal_needs_nothing() -> None:
    assert read("<serial type='pty'/><console type='pty'/><channel type='spicevmc'/>") is None


def test_vhost_user_sockets_are_made_or_met() -> None:
    xml = """<interface type='vhostuser'><mac address='52:54:00:00:00:01'/>
    <source type='unix' path='/run/ovs/vhu1' mode='server'/></interface>
    <disk type='vhostuser'><source type='unix' path='/run/spdk/v0'/><target dev='vda'/></disk>"""
    assert read(xml) == GuestChardevs(
        sockets=(
            SocketEnd(
                subject="interface 52:54:00:00:00:01",
                path="/run/ovs/vhu1",
                listens=True,
                vhost=True,
            ),
            SocketEnd(subject="disk vda", path="/run/spdk/v0", listens=False, vhost=True),
        )
    )


def test_what_is_there_is_looked_at_and_nobody_connected_to() -> None:
    guest = GuestChardevs(
        files=LOG.files,
        sockets=(SocketEnd(subject="s", path="/run/y.sock", listens=False),),
        ports=(
            TcpEnd(subject="s", host="10.0.0.1", port=7777, listens=True),
            TcpEnd(subject="s", host="127.0.0.1", port=7788, listens=False),
            TcpEnd(subject="s", host="10.0.0.9", port=708, listens=False),
        ),
    )
    source = FakeSource(
        stats={
            "/logs": stat("dir"),
            "/logs/a.log": stat("file", 9),
            "/run/y.sock": Unreadable("no"),
        },
        file_systems={"/logs/a.log": "nfs4"},
        bindables={("10.0.0.1", 0): True, ("10.0.0.1", 7777): False, ("127.0.0.1", 7788): True},
    )
    assert seen_chardevs(source, guest) == SeenChardevs(
        kind_by_path={"/logs": "dir", "/logs/a.log": "file", "/run/y.sock": Unknown("no")},
        bytes_by_path={"/logs/a.log": 9},
        shared=frozenset({"/logs/a.log"}),
        local_by_host={"10.0.0.1": True},
        free_by_end={("10.0.0.1", 7777): False, ("127.0.0.1", 7788): True},
    )


def test_a_missing_directory_is_named_with_the_command_that_makes_it() -> None:
    (problem,) = problems(no_directory(LOG, SeenChardevs(kind_by_path={"/logs": ""})))
    assert problem.commands == ("mkdir -p /logs",)
    sockets = GuestChardevs(sockets=(SocketEnd(subject="c", path="/q/a b/s", listens=True),))
    (problem,) = problems(no_directory(sockets, SeenChardevs(kind_by_path={"/q/a b": ""})))
    assert problem.commands == ("mkdir -p '/q/a b'",)


def test_a_directory_that_is_there_is_fine_and_an_unreadable_one_is_left_open() -> None:
    assert not list(no_directory(LOG, SeenChardevs(kind_by_path={"/logs": "dir"})))
    assert unclear(no_directory(LOG, SeenChardevs(kind_by_path={"/logs": Unknown("no")})))


def test_a_directory_in_the_place_of_a_file_is_in_the_way() -> None:
    seen = SeenChardevs(kind_by_path={"/logs": "dir", "/logs/a.log": "dir"})
    assert problems(path_taken(LOG, seen))


def test_an_old_socket_is_in_nobodys_way() -> None:
    sockets = GuestChardevs(sockets=(SocketEnd(subject="c", path="/q/s", listens=True),))
    assert not list(path_taken(sockets, SeenChardevs(kind_by_path={"/q": "dir", "/q/s": "socket"})))


def test_a_device_that_is_not_there_is_refused() -> None:
    guest = GuestChardevs(devices=(DeviceEnd(subject="serial 0", path="/dev/ttyS4"),))
    assert problems(device_absent(guest, SeenChardevs(kind_by_path={"/dev/ttyS4": ""})))
    assert unclear(device_absent(guest, SeenChardevs(kind_by_path={"/dev/ttyS4": Unknown("no")})))


def test_a_pipe_may_be_two() -> None:
    guest = GuestChardevs(devices=(DeviceEnd(subject="serial 0", path="/run/p", pipe=True),))
    two = SeenChardevs(kind_by_path={"/run/p": "", "/run/p.in": "fifo", "/run/p.out": "fifo"})
    assert not list(device_absent(guest, two))
    one = SeenChardevs(kind_by_path={"/run/p": "fifo", "/run/p.in": "", "/run/p.out": ""})
    assert not list(device_absent(guest, one))


LISTENING = GuestChardevs(
    ports=(TcpEnd(subject="serial 0", host="10.0.0.1", port=7777, listens=True),)
)


def at(host: bool | Unknown, port: bool | Unknown | None = None) -> SeenChardevs:
    return SeenChardevs(
        local_by_host={"10.0.0.1": host},
        free_by_end={} if port is None else {("10.0.0.1", 7777): port},
    )


def test_an_address_of_another_host_cannot_be_listened_on() -> None:
    (problem,) = problems(address_not_here(LISTENING, at(False, False)))
    assert problem.found == "10.0.0.1, which is not"
    assert not list(port_in_use(LISTENING, at(False, False)))


def test_an_address_of_this_host_is_fine_and_a_name_is_left_open() -> None:
    assert not list(address_not_here(LISTENING, at(True)))
    assert unclear(address_not_here(LISTENING, at(Unknown("no address"))))


def test_a_port_in_use_is_refused() -> None:
    (problem,) = problems(port_in_use(LISTENING, at(True, False)))
    assert problem.commands == ("ss -ltnp 'sport = :7777'",)


def test_a_free_port_is_free() -> None:
    assert not list(port_in_use(LISTENING, at(True, True)))


def meeting(*, retries: bool = False, vhost: bool = False) -> GuestPeers:
    end = SocketEnd(subject="c", path="/q/s", listens=False, retries=retries, vhost=vhost)
    return GuestPeers(sockets=(end,))


NO_SOCKET = SeenChardevs(kind_by_path={"/q/s": ""})


def test_only_what_connects_has_peers() -> None:
    both = GuestChardevs(
        sockets=(*meeting().sockets, SocketEnd(subject="l", path="/q/l", listens=True))
    )
    assert guest_peers(both) == meeting()
    assert guest_peers(LISTENING) is None


def test_a_socket_to_connect_to_must_be_there() -> None:
    assert problems(peer_absent(meeting(), NO_SOCKET, LEAVING))
    assert problems(peer_absent(meeting(retries=True), NO_SOCKET, LABELLING))
    assert unclear(
        peer_absent(meeting(), SeenChardevs(kind_by_path={"/q/s": Unknown("no")}), LEAVING)
    )


def test_who_retries_may_wait_for_the_socket() -> None:
    assert not list(peer_absent(meeting(retries=True), NO_SOCKET, LEAVING))
    assert not list(peer_absent(meeting(retries=True, vhost=True), NO_SOCKET, LABELLING))
    there = SeenChardevs(kind_by_path={"/q/s": "socket"})
    assert not list(peer_absent(meeting(), there, LABELLING))


def test_a_listener_on_the_host_itself_is_seen_and_one_elsewhere_is_not_tried() -> None:
    own = GuestPeers(ports=(TcpEnd(subject="s", host="127.0.0.1", port=7788, listens=False),))
    seen = SeenChardevs(free_by_end={("127.0.0.1", 7788): True})
    assert problems(peer_absent(own, seen, LABELLING))
    taken = SeenChardevs(free_by_end={("127.0.0.1", 7788): False})
    assert not list(peer_absent(own, taken, LABELLING))
    far = GuestPeers(ports=(TcpEnd(subject="s", host="10.0.0.9", port=708, listens=False),))
    assert unclear(peer_absent(far, SeenChardevs(), LABELLING))


def test_a_log_on_shared_storage_would_be_emptied_under_the_running_guest() -> None:
    seen = SeenChardevs(bytes_by_path={"/logs/a.log": 9}, shared=frozenset({"/logs/a.log"}))
    (problem,) = problems(file_emptied(LOG, seen))
    assert problem.severity is Severity.RISK
    assert problem.found == "9 bytes on shared storage"


def test_an_old_log_of_this_host_is_a_note_and_an_appended_one_nothing() -> None:
    seen = SeenChardevs(bytes_by_path={"/logs/a.log": 9})
    (problem,) = problems(file_emptied(LOG, seen))
    assert problem.severity is None
    kept = GuestChardevs(files=(FileEnd(subject="s", path="/logs/a.log", append=True),))
    assert not list(file_emptied(kept, seen))


# ------------------------------------------------------------------- datagrams, NICs as sockets


def test_datagrams_are_received_at_an_address_of_the_host() -> None:
    xml = """<serial type='udp'><source mode='bind' host='10.0.0.1' service='2445'/>
    <source mode='connect' host='10.0.0.9' service='2446'/></serial>
    <interface type='udp'><mac address='52:54:00:00:00:01'/>
    <source address='10.0.0.9' port='5555'><local address='10.0.0.1' port='5556'/></source>
    </interface>"""
    found = read(xml)
    assert found == GuestChardevs(
        datagrams=(
            UdpEnd(subject="serial 0", host="10.0.0.1", port=2445),
            UdpEnd(subject="interface 52:54:00:00:00:01", host="10.0.0.1", port=5556),
        )
    )
    elsewhere = seen_chardevs(FakeSource(bindables={("10.0.0.1", 0): False}), found)
    assert [one.subject for one in problems(address_not_here(found, elsewhere))] == [
        "serial 0",
        "interface 52:54:00:00:00:01",
    ]
    here = seen_chardevs(FakeSource(bindables={("10.0.0.1", 0): True}), found)
    assert not list(address_not_here(found, here))
    assert not list(port_in_use(found, here))


def test_a_nic_that_is_a_server_needs_its_port() -> None:
    found = read(
        "<interface type='server'><mac address='52:54:00:00:00:01'/><source port='5558'/>"
        "</interface>"
    )
    assert found is not None
    (end,) = found.ports
    assert (end.host, end.port, end.listens) == ("0.0.0.0", 5558, True)
    taken = {("0.0.0.0", 0): True, ("0.0.0.0", 5558): False}
    (problem,) = problems(port_in_use(found, seen_chardevs(FakeSource(bindables=taken), found)))
    assert problem.subject == "interface 52:54:00:00:00:01"


def test_a_nic_that_is_a_client_waits_for_nobody() -> None:
    assert read("<interface type='client'><source address='127.0.0.1' port='1'/></interface>") is (
        None
    )


def test_a_port_below_those_of_everybody_is_not_qemus() -> None:
    low = GuestChardevs(
        ports=(TcpEnd(subject="serial 0", host="0.0.0.0", port=77, listens=True),),
        datagrams=(UdpEnd(subject="serial 1", host="0.0.0.0", port=78),),
    )
    told = problems(port_reserved(low, OpenPorts(start=1024, user="qemu")))
    assert [problem.subject for problem in told] == ["serial 0", "serial 1"]
    assert told[0].found == "ports below 1024 are root's"


def test_who_only_connects_or_is_root_or_has_a_higher_port_reserves_none() -> None:
    away = GuestChardevs(ports=(TcpEnd(subject="s", host="h2", port=77, listens=False),))
    assert not list(port_reserved(away, OpenPorts(start=1024, user="qemu")))
    assert not list(port_reserved(LISTENING, OpenPorts(start=1024, user="qemu")))


def test_ports_are_open_from_where_the_kernel_says_and_all_of_them_to_root() -> None:
    source = FakeSource(texts={"/proc/sys/net/ipv4/ip_unprivileged_port_start": "1024\n"})
    ordinary = QemuUser(user=User(name="qemu", uid=107, gid=107), dynamic_ownership=True)
    assert open_ports(source, ordinary) == OpenPorts(start=1024, user="qemu")
    assert open_ports(source, LABELLING) == OpenPorts(start=0, user="root")
