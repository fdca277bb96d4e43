import json

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.certificates import Certificates
from virt_preflight.agent.families.daemon import QemuConf, QemuUser
from virt_preflight.agent.families.graphics import (
    GraphicsCertificates,
    GuestGraphics,
    HostGraphics,
    SeenGraphics,
    Server,
    address_not_here,
    graphics_certificates,
    guest_graphics,
    host_graphics,
    network_unusable,
    no_certificates,
    no_directory,
    no_render_node,
    port_in_use,
    seen_graphics,
    server_not_offered,
    spice_tls_off,
    video_not_offered,
)
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.sources import FileStat, SourceError, Unreadable, User, Want

QEMU = QemuUser(user=User(name="libvirt-qemu", uid=64055, gid=105), dynamic_ownership=True)
PLAIN = HostGraphics(address_by_kind={"vnc": "127.0.0.1", "spice": "127.0.0.1"})


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def read(devices: str) -> GuestGraphics:
    guest = guest_graphics(
        read_domain(f"<domain><name>g</name><devices>{devices}</devices></domain>")
    )
    assert guest is not None
    return guest


def one(**parts: object) -> GuestGraphics:
    return GuestGraphics(servers=(Server(**parts),), videos=())  # type: ignore[arg-type]


def capabilities(**offered: tuple[str, ...]) -> SeenCapabilities:
    return SeenCapabilities(
        emulator="",
        architecture="x86_64",
        machine="",
        virt_type="kvm",
        vcpus_maximum=None,
        supported={},
        values={
            {"graphics": "devices/graphics/type", "video": "devices/video/modelType"}[
                name
            ]: frozenset(values)
            for name, values in offered.items()
        },
        cpu_mode_supported={},
        host_model=None,
        cpu_model_by_name={},
    )


def test_a_fixed_port_and_address_are_read() -> None:
    xml = """<graphics type='vnc' port='5999' autoport='no' listen='10.0.0.1'>
    <listen type='address' address='10.0.0.1'/></graphics>
    <video><model type='vga' vram='16384' heads='1' primary='yes'/></video>"""
    assert read(xml) == GuestGraphics(
        servers=(Server(kind="vnc", address="10.0.0.1", ports=(5999,)),), videos=("vga",)
    )


def test_ports_that_libvirt_gives_out_are_not_fixed() -> None:
    xml = """<graphics type='spice' port='5901' tlsPort='5902' autoport='yes'>
    <listen type='address'/></graphics>"""
    assert read(xml).servers == (Server(kind="spice"),)


def test_networks_sockets_and_nothing_to_listen_on() -> None:
    xml = """<graphics type='vnc' autoport='yes'>
    <listen type='network' network='mgmt' address='10.0.0.1'/></graphics>
    <graphics type='vnc'><listen type='socket' socket='/run/screens/v.sock'/></graphics>
    <graphics type='spice'>
    <listen type='socket' socket='/var/lib/libvirt/qemu/domain-3-g/spice.sock'/></graphics>
    <graphics type='spice'><listen type='none'/><gl enable='yes' rendernode='/dev/dri/r9'/>
    </graphics><graphics type='sdl'/>"""
    assert read(xml).servers == (
        Server(kind="vnc", network="mgmt"),
        Server(kind="vnc", socket="/run/screens/v.sock"),
        Server(kind="spice"),
        Server(kind="spice", render_node="/dev/dri/r9", offers=False),
        Server(kind="sdl", offers=False),
    )


def test_why_only_tls_will_do() -> None:
    assert read("<graphics type='spice' tlsPort='5902'/>").servers[0].wants_tls == "tlsPort 5902"
    secure = "<graphics type='spice' autoport='yes' defaultMode='secure'/>"
    assert read(secure).servers[0].wants_tls == "defaultMode secure"
    channel = (
        "<graphics type='spice' autoport='yes'><channel name='main' mode='secure'/></graphics>"
    )
    assert read(channel).servers[0].wants_tls == "secure channel main"
    assert read("<graphics type='spice' autoport='yes' tlsPort='5902'/>").servers[0].wants_tls == ""


def test_a_guest_without_screen_needs_none() -> None:
    assert guest_graphics(read_domain("<domain><name>g</name></domain>")) is None


def test_what_qemu_conf_says_of_servers_is_read() -> None:
    source = FakeSource(mays={("/c/ca-cert.pem", Want.READ, "libvirt-qemu"): True})
    conf = QemuConf(
        value_by_key={"vnc_listen": '"0.0.0.0"', "vnc_tls": "1", "vnc_tls_x509_cert_dir": '"/c"'}
    )
    host = HostGraphics(
        address_by_kind={"vnc": "0.0.0.0", "spice": "127.0.0.1"}, with_tls=frozenset({"vnc"})
    )
    assert host_graphics(conf) == host
    assert graphics_certificates(source, conf, host, QEMU) == GraphicsCertificates(
        by_kind={
            "vnc": Certificates(
                directory="/c",
                fault_by_name={
                    "ca-cert.pem": "",
                    "server-cert.pem": "not there",
                    "server-key.pem": "not there",
                },
            )
        },
    )


def network(name: str, inside: str) -> dict[str, object]:
    xml = f"<network><name>{name}</name>{inside}</network>"
    return {"name": name, "active": True, "bridge": "virbr0", "xml": xml}


def test_what_the_servers_name_is_looked_at() -> None:
    guest = GuestGraphics(
        servers=(
            Server(kind="vnc", address="10.0.0.1", ports=(5999,)),
            Server(kind="vnc", ports=(5998,)),
            Server(kind="vnc", network="mgmt"),
            Server(kind="vnc", network="none"),
            Server(kind="vnc", network="dry"),
            Server(kind="vnc", network="lan"),
            Server(kind="vnc", socket="/run/screens/v.sock", render_node="/dev/dri/r9"),
        ),
        videos=(),
    )
    folder = FileStat(kind="dir", size_bytes=0, mode=0o755, uid=0, gid=0, device=1, inode=2)
    networks = [
        network("mgmt", "<forward mode='nat'/><ip address='192.168.122.1' prefix='24'/>"),
        network("dry", ""),
        network("lan", "<forward mode='bridge'/><bridge name='br0'/>"),
    ]
    source = FakeSource(
        stats={"/run/screens": folder, "/sys/class/net/br0": folder},
        bindables={
            ("10.0.0.1", 0): True,
            ("10.0.0.1", 5999): False,
            ("127.0.0.1", 5998): True,
        },
        answers={("networks",): json.dumps(networks)},
    )
    assert seen_graphics(source, guest, PLAIN) == SeenGraphics(
        kind_by_path={"/dev/dri/r9": "", "/run/screens": "dir"},
        local_by_address={"10.0.0.1": True},
        free_by_end={("10.0.0.1", 5999): False, ("127.0.0.1", 5998): True},
        fault_by_network={
            "mgmt": "",
            "none": "no network of that name",
            "dry": "it has no IP address",
            "lan": "",
        },
    )


def test_spice_on_a_qemu_without_spice_is_refused() -> None:
    (problem,) = problems(server_not_offered(one(kind="spice"), capabilities(graphics=("vnc",))))
    assert (problem.subject, problem.found) == ("graphics spice", "vnc")


def test_a_server_that_qemu_has_is_fine_and_an_untold_one_is_left_open() -> None:
    assert not list(server_not_offered(one(kind="vnc"), capabilities(graphics=("vnc", "sdl"))))
    assert unclear(server_not_offered(one(kind="vnc"), capabilities()))


def test_a_video_card_that_qemu_has_not_is_refused() -> None:
    guest = GuestGraphics(servers=(), videos=("qxl",))
    assert problems(video_not_offered(guest, capabilities(video=("vga", "virtio"))))


def test_a_video_card_that_qemu_has_is_fine() -> None:
    guest = GuestGraphics(servers=(), videos=("vga",))
    assert not list(video_not_offered(guest, capabilities(video=("vga", "virtio"))))


FIXED = one(kind="vnc", address="10.0.0.1", ports=(5999,))


def at(here: bool | Unknown, free: bool | Unknown) -> SeenGraphics:
    return SeenGraphics(local_by_address={"10.0.0.1": here}, free_by_end={("10.0.0.1", 5999): free})


def test_the_sources_own_address_is_not_here() -> None:
    (problem,) = problems(address_not_here(FIXED, at(False, False)))
    assert problem.found == "10.0.0.1, which is not"
    assert not list(port_in_use(FIXED, PLAIN, at(False, False)))


def test_an_address_of_this_host_is_fine() -> None:
    assert not list(address_not_here(FIXED, at(True, True)))
    assert unclear(address_not_here(FIXED, at(Unknown("no address"), True)))


def test_a_fixed_port_in_use_is_refused() -> None:
    (problem,) = problems(port_in_use(FIXED, PLAIN, at(True, False)))
    assert problem.wanted == "port 5999 free on 10.0.0.1"


def test_a_free_port_is_fine() -> None:
    assert not list(port_in_use(FIXED, PLAIN, at(True, True)))
    assert unclear(port_in_use(FIXED, PLAIN, at(True, Unknown("no"))))


def test_a_network_without_address_shows_no_screen() -> None:
    guest = one(kind="vnc", network="mgmt")
    seen = SeenGraphics(fault_by_network={"mgmt": "no network of that name"})
    assert problems(network_unusable(guest, seen))


def test_a_network_for_a_screen_that_we_are_not_shown_is_left_open() -> None:
    guest = one(kind="vnc", network="mgmt")
    hidden = FakeSource(
        answers={("networks",): "[]", ("network-named", "mgmt"): Unreadable("no right")}
    )
    (left,) = unclear(network_unusable(guest, seen_graphics(hidden, guest, PLAIN)))
    assert left.why == "no right"


def test_a_network_with_an_address_is_fine() -> None:
    guest = one(kind="vnc", network="mgmt")
    assert not list(network_unusable(guest, SeenGraphics(fault_by_network={"mgmt": ""})))


def test_a_sockets_directory_must_be_there() -> None:
    guest = one(kind="vnc", socket="/run/screens/v.sock")
    (problem,) = problems(no_directory(guest, SeenGraphics(kind_by_path={"/run/screens": ""})))
    assert problem.commands == ("mkdir -p /run/screens",)
    assert unclear(no_directory(guest, SeenGraphics(kind_by_path={"/run/screens": Unknown("no")})))


def test_a_sockets_directory_that_is_there_is_fine() -> None:
    guest = one(kind="vnc", socket="/run/screens/v.sock")
    assert not list(no_directory(guest, SeenGraphics(kind_by_path={"/run/screens": "dir"})))


def test_a_render_node_that_is_not_there_is_refused() -> None:
    guest = one(kind="egl-headless", render_node="/dev/dri/renderD129")
    assert problems(no_render_node(guest, SeenGraphics(kind_by_path={"/dev/dri/renderD129": ""})))


def test_a_render_node_that_is_there_is_fine() -> None:
    guest = one(kind="egl-headless", render_node="/dev/dri/renderD128")
    seen = SeenGraphics(kind_by_path={"/dev/dri/renderD128": "char"})
    assert not list(no_render_node(guest, seen))


def with_tls(kind: str, fault: str) -> GraphicsCertificates:
    names = ("ca-cert.pem", "server-cert.pem", "server-key.pem")
    files = Certificates(directory="/c", fault_by_name=dict.fromkeys(names, fault))
    return GraphicsCertificates(by_kind={kind: files})


def test_tls_without_certificates_shows_no_screen() -> None:
    assert len(problems(no_certificates(one(kind="vnc"), with_tls("vnc", "not there")))) == 3


def test_certificates_for_spice_do_not_matter_to_vnc() -> None:
    assert not list(no_certificates(one(kind="vnc"), with_tls("spice", "not there")))
    assert not list(no_certificates(one(kind="vnc"), with_tls("vnc", "")))
    assert not list(no_certificates(one(kind="vnc", offers=False), with_tls("vnc", "not there")))


def test_secure_spice_needs_spice_tls() -> None:
    guest = one(kind="spice", wants_tls="defaultMode secure")
    assert problems(spice_tls_off(guest, PLAIN))


def test_secure_spice_with_tls_and_plain_spice_without_are_fine() -> None:
    secure = HostGraphics(address_by_kind={}, with_tls=frozenset({"spice"}))
    guest = one(kind="spice", wants_tls="defaultMode secure")
    assert not list(spice_tls_off(guest, secure))
    assert not list(spice_tls_off(one(kind="spice"), PLAIN))


def test_a_lone_socket_is_an_attribute_in_xml_that_is_sent() -> None:
    (server,) = read("<graphics type='vnc' socket='/srv/vnc/a.sock'/>").servers
    assert server.socket == "/srv/vnc/a.sock"
    assert not server.ports


def test_a_websocket_has_its_port_whatever_autoport_says() -> None:
    screen = "<graphics type='vnc' port='5901' autoport='yes' websocket='{}' listen='0.0.0.0'/>"
    assert [server.ports for server in read(screen.format("5777")).servers] == [(5777,)]
    assert [server.ports for server in read(screen.format("-1")).servers] == [()]


def test_a_network_that_is_a_bridge_gives_an_address_only_while_the_bridge_is_there() -> None:
    xml = "<network><forward mode='bridge'/><bridge name='br9'/></network>"
    answers: dict[tuple[str, ...], str | SourceError] = {
        ("networks",): json.dumps([{"name": "mgmt", "xml": xml}])
    }
    guest = one(kind="vnc", network="mgmt")
    (problem,) = problems(
        network_unusable(guest, seen_graphics(FakeSource(answers=answers), guest, PLAIN))
    )
    assert problem.found == "there is no bridge br9"
    folder = FileStat(kind="dir", size_bytes=0, mode=0o755, uid=0, gid=0, device=1, inode=2)
    there = FakeSource(answers=answers, stats={"/sys/class/net/br9": folder})
    assert not list(network_unusable(guest, seen_graphics(there, guest, PLAIN)))
