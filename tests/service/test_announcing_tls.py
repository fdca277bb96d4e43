"""With TLS a host is who its certificate says, over real gRPC."""

import signal
from pathlib import Path

import grpc
import trustme

from tests.service.controllers import controller, until
from tests.service.test_announcing import (
    HEARTBEAT,
    NOBODY,
    Visitor,
    agent,
    free_port,
    presence,
    status_of,
)
from tests.treaty.pki import issue
from virt_preflight.controller.answers import Heard
from virt_preflight.controller.client import Controller
from virt_preflight.controller.fleet import Fleet, Trust
from virt_preflight.treaty.certificates import Files
from virt_preflight.treaty.tls import Tls


def tls_of(files: Files) -> Tls:
    where = {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}
    asking = {"client_cert": where["cert"], "client_key": where["key"]}
    return Tls(**where, **asking, loopback=True)


def visitor_with(address: str, files: Files) -> Visitor:
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.cert.read_bytes()
    )
    return Visitor(address, credentials)


def told(visitor: Visitor, name: str) -> tuple[grpc.StatusCode, str, str] | None:
    """Why it is refused, if it is."""
    try:
        visitor.says(presence(name, "10.0.0.1:50551"))
    except grpc.RpcError as error:
        return status_of(error)
    finally:
        visitor.cut()
    return None


def test_a_host_may_announce_itself_by_any_name_of_its_certificate_and_no_other(
    tmp_path: Path,
) -> None:
    ca, listen = trustme.CA(), f"127.0.0.1:{free_port()}"
    own = issue(tmp_path / "ctl", ca, "ctl", "127.0.0.1")
    two = issue(tmp_path / "two", ca, "h1", "h1.example.org", common_name="h7")
    bare = issue(tmp_path / "bare", ca, common_name="h3")
    refused = (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", "")
    with controller(NOBODY, listen=listen, tls=tls_of(own)) as address:
        assert told(visitor_with(address, two), "h1") is None
        assert told(visitor_with(address, two), "H1.example.org") is None
        assert told(visitor_with(address, two), "h2") == refused
        assert told(visitor_with(address, two), "h1.example") == refused
        assert told(visitor_with(address, two), "h7") == refused, "it has names beside that"
        assert told(visitor_with(address, bare), "h3") is None
        with Controller(address, Trust(tls=tls_of(own))) as asked:
            assert {host.name for host, _ in asked.hosts()} == {"h1", "H1.example.org", "h3"}


def test_an_agent_with_a_certificate_is_announced_and_asked_by_tls(tmp_path: Path) -> None:
    ca, listen = trustme.CA(), f"127.0.0.1:{free_port()}"
    own = tls_of(issue(tmp_path / "ctl", ca, "ctl", "127.0.0.1"))
    at_agent = f"127.0.0.1:{free_port()}"
    keys = tls_of(issue(tmp_path / "h1", ca, "h1"))
    named = "".join(
        f'{key} = "{getattr(keys, key)}"\n'
        for key in ("ca", "cert", "key", "client_cert", "client_key")
    )
    fleet = Fleet(hosts=(), tls=own)
    with (
        controller(fleet, listen=listen, tls=own) as address,
        agent(tmp_path, at_agent, f'"{address}"', f"[tls]\nloopback = true\n{named}") as started,
        Controller(address, Trust(tls=own)) as asked,
    ):
        until(lambda: any(isinstance(it, Heard) for _, it in asked.hosts()), within_s=40)
        ((host, _),) = asked.hosts()
        assert (host.name, host.address) == ("h1", at_agent)
        started.send_signal(signal.SIGTERM)
        assert started.wait(10) == 0


def test_an_agent_says_by_which_name_it_wanted_the_controller(tmp_path: Path) -> None:
    ca, listen = trustme.CA(), f"127.0.0.1:{free_port()}"
    own = tls_of(issue(tmp_path / "ctl", ca, "ctl"))
    keys = issue(tmp_path / "h1", ca, "h1")
    asking = f'ca = "{keys.ca}"\nclient_cert = "{keys.cert}"\nclient_key = "{keys.key}"\n'
    served = f'cert = "{keys.cert}"\nkey = "{keys.key}"\nloopback = true\n'
    with (
        controller(NOBODY, listen=listen, tls=own) as address,
        agent(tmp_path, f"127.0.0.1:{free_port()}", f'"{address}"', f"[tls]\n{asking}{served}"),
    ):
        said = f"not announced to {address}: its certificate is for another name than 127.0.0.1"
        until(lambda: said in (tmp_path / "agent.log").read_text(), within_s=40)


def test_what_comes_after_the_first_message_needs_no_name(tmp_path: Path) -> None:
    ca, listen = trustme.CA(), f"127.0.0.1:{free_port()}"
    own = tls_of(issue(tmp_path / "ctl", ca, "ctl", "127.0.0.1"))
    with controller(NOBODY, listen=listen, tls=own) as address:
        visitor = visitor_with(address, issue(tmp_path / "h1", ca, "h1"))
        visitor.says(presence("h1", "10.0.0.1:50551"))
        visitor.says(HEARTBEAT)
        visitor.goes()
