"""The way to the destination's libvirtd, as far as --desturi and the source's files tell of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

from virt_preflight.agent.check import CouldNotTell, Problem, Problems, check
from virt_preflight.agent.clock import now_s
from virt_preflight.agent.fact import Pace, look, need
from virt_preflight.agent.options import MigrationOptions
from virt_preflight.agent.pem import BadPem, certificates, out_of_date
from virt_preflight.agent.report import Phase, Severity, Side
from virt_preflight.agent.sources import Absent, Refused, Source, SourceError

# Of virConnectOpen's transports those that are one TCP connection to a port of libvirtd's own.
PORTS = {"tls": 16514, "tcp": 16509}
# src/rpc/virnettlscontext.h; a client of root's, as libvirtd is, has no directory of its own.
AUTHORITY, CLIENT = "/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/clientcert.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationDaemon:
    """Whom the source's libvirtd connects to; `tls` empty: without. By a socket: no host."""

    host: str
    port: int
    tls: str = ""
    socket: str = ""

    @property
    def said(self) -> str:
        """As an operator would say it."""
        return f"socket {self.socket}" if self.socket else f"{self.host} port {self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDaemon:
    """Why it surely gets no connection, or why that could not be told; both empty when it may."""

    wanted: str = ""
    fault: str = ""
    doubt: str = ""


@need
def destination_daemon(options: MigrationOptions) -> DestinationDaemon | None:
    """Of `qemu+tls://h2/system`, by which libvirtd itself connects (--p2p). `qemu://` is TLS."""
    try:
        parts = urlsplit(options.desturi)
        port = parts.port
    except ValueError:
        return None
    transport = parts.scheme.partition("+")[2] or "tls"
    (socket,) = parse_qs(parts.query).get("socket", [""])[:1]
    if options.p2p and transport == "unix" and socket.startswith("/"):
        return DestinationDaemon(host="", port=0, socket=socket)
    if not (options.p2p and parts.hostname and transport in PORTS):
        return None
    # Certificates in a place of their own are not looked for.
    own = "pkipath" in parse_qs(parts.query)
    return DestinationDaemon(
        host=parts.hostname,
        port=port or PORTS[transport],
        tls="elsewhere" if own else "usual" if transport == "tls" else "",
    )


@look(Pace.MOVING)
def seen_daemon(source: Source, daemon: DestinationDaemon) -> SeenDaemon:
    """Knocks at the port, as any client does that thinks better of it, and reads certificates.

    A socket is only looked at.
    """
    if daemon.socket:
        return _socket(source, daemon.socket)
    try:
        source.reach(daemon.host, daemon.port)
    except Absent as error:
        return SeenDaemon(wanted="a name that the source can resolve", fault=str(error))
    except Refused as error:
        if "no answer" in str(error):
            return SeenDaemon(doubt=str(error))
        return SeenDaemon(wanted="a libvirtd that listens there", fault=str(error))
    except SourceError as error:
        return SeenDaemon(doubt=str(error))
    return _certificates(source) if daemon.tls == "usual" else SeenDaemon()


def _socket(source: Source, path: str) -> SeenDaemon:
    wanted = "a socket that leads to the destination's libvirtd"
    try:
        kind = source.stat(path).kind
    except Absent:
        return SeenDaemon(wanted=wanted, fault="not there")
    except SourceError as error:
        return SeenDaemon(doubt=str(error))
    return SeenDaemon() if kind == "socket" else SeenDaemon(wanted=wanted, fault=f"a {kind}")


def _certificates(source: Source) -> SeenDaemon:
    """Both are looked at before the connection is made (virNetTLSContextSanityCheckCredentials)."""
    found = SeenDaemon(wanted="a certificate that is valid now")
    try:
        for path in (AUTHORITY, CLIENT):
            try:
                stale = out_of_date(certificates(source.text(path)), now_s(source))
            except Absent:
                if path == AUTHORITY:
                    return replace(found, fault=f"{path} is not there")
                return SeenDaemon(doubt=f"{path} is not there, which most libvirtds refuse")
            if stale:
                return replace(found, fault=f"{path} {stale}")
    except (SourceError, BadPem) as error:
        return SeenDaemon(doubt=str(error))
    return SeenDaemon()


@check(
    "transport.no-connection",
    Severity.BLOCKER,
    title="the source gets no connection to the destination's libvirtd",
    remedy="Let libvirtd there listen for that kind of connection, and both have certificates of "
    "one authority with the names of their hosts; or give another --desturi.",
    side=Side.SOURCE,
    phase=Phase.PREPARE,
)
def no_connection(daemon: DestinationDaemon, seen: SeenDaemon) -> Problems:
    """With --p2p the source's libvirtd is a client of the destination's.

    Errors: "unable to connect to server at 'h2:16514': Connection refused", "Failed to connect
    socket to '/run/h2.sock': No such file or directory", "Cannot read CA
    certificate '/etc/pki/CA/cacert.pem': No such file or directory", "The client certificate ...
    has expired", and in the handshake "authentication failed: Failed to verify peer's certificate"
    or "Unable to read TLS confirmation: Input/output error", which only a rehearsal comes to.
    """
    subject = f"libvirtd at {daemon.said}"
    if seen.fault:
        yield Problem(
            subject=subject,
            wanted=seen.wanted,
            found=seen.fault,
            commands=(f"virsh -c qemu+tls://{shlex.quote(daemon.host)}/system uri",)
            if daemon.tls
            else (),
        )
    if seen.doubt:
        yield CouldNotTell(subject=subject, why=seen.doubt)
