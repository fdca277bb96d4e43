"""Which hosts there are and how their agents are reached: `fleet.toml`, or a list of names."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.treaty.tables import BadKeyError, placed, read_tables
from virt_preflight.treaty.tls import LIBVIRTS, ClientTls
from virt_preflight.treaty.words import is_host_name, is_ipv6, is_label

AGENT_PORT = 50551
FLEET_VARIABLE = "VIRT_PREFLIGHT_FLEET"
SYSTEM_FLEET = Path("/etc/virt-preflight/fleet.toml")
# A fleet of ten thousand hosts is about one MiB.
FLEET_FILE_AT_MOST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHost:
    """A host as the operator names it, and where gRPC finds its agent."""

    name: str
    address: str
    # What the operator says of it, and it of itself: rack, zone, what it is for.
    labels: tuple[tuple[str, str], ...] = ()
    # Spoken to without TLS wherever it is.
    insecure: bool = False
    # When its agent was last heard that announced it; None: it stands in the fleet file alone.
    last_seen: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which certificates to show and to believe; `insecure`: none, in so many words."""

    tls: ClientTls = LIBVIRTS
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Uris:
    """How virsh reaches a host, `{host}` being its name."""

    connect: str = "qemu+ssh://{host}/system"
    migrate: str = "qemu+tls://{host}/system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The hosts in the order in which they are written down, and how patient to be with them."""

    hosts: tuple[FleetHost, ...]
    uris: Uris = Uris()
    # How long one host may take for one answer, and all hosts together.
    timeout_s: float = 5.0
    deadline_s: float = 60.0
    in_flight: int = 256
    tls: ClientTls = LIBVIRTS

    def named(self, name: str) -> FleetHost | None:
        """The host of that name, or None."""
        return next((host for host in self.hosts if host.name == name), None)


class _Uris(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    connect: str = Uris().connect
    migrate: str = Uris().migrate


class _Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = AGENT_PORT
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 5.0
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 60.0
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256


class _Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    address: str | None = None
    labels: dict[str, str] = {}
    insecure: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    insecure: bool = False
    tls: ClientTls = LIBVIRTS
    uris: _Uris = _Uris()
    defaults: _Defaults = _Defaults()
    host: list[_Host] = []


def locate(given: str | None, environ: Mapping[str, str], ways: str = "--hosts or --fleet") -> Path:
    """The fleet file to read: the one named, else the first that is there."""
    if given is not None:
        return Path(given)
    if (found := find(environ)) is not None:
        return found
    looked_at = ", ".join((f"${FLEET_VARIABLE} (not set)", *map(str, _places(environ))))
    raise CannotRunError(f"no fleet: give {ways}; looked at {looked_at}")


def is_known(environ: Mapping[str, str]) -> bool:
    """Whether there is a fleet file without anybody naming one, and hosts are its matter."""
    found = find(environ)
    if found is None:
        return False
    try:
        return bool(_read(found).host)
    except CannotRunError:
        return True  # reading it again will say what is wrong, rather than passing it over


def trust(given: str | None, environ: Mapping[str, str]) -> Trust:
    """As the fleet file has it that is named or there; without one, libvirt's own certificates."""
    found = find(environ) if given is None else Path(given)
    if found is None:
        return Trust()
    file = _read(found)
    return Trust(tls=file.tls, insecure=file.insecure)


def find(environ: Mapping[str, str]) -> Path | None:
    """The fleet file that is there without anybody naming one."""
    if environ.get(FLEET_VARIABLE):
        return Path(environ[FLEET_VARIABLE])
    return next(filter(_is_there, _places(environ)), None)


def _places(environ: Mapping[str, str]) -> list[Path]:
    # A service may run without a HOME, and then there is one place less to look at.
    homes = [Path(environ["HOME"])] if environ.get("HOME") else []
    return [*(home / ".config/virt-preflight/fleet.toml" for home in homes), SYSTEM_FLEET]


def read(path: Path, *, hosts_may_come: bool = False) -> Fleet:
    """The fleet in a file. Whatever is wrong with it is told with the file and the key.

    `hosts_may_come`: without a host it is one whose hosts announce themselves.
    """
    content = _content(path)
    try:
        return _parsed(content, _fleet if hosts_may_come else _peopled)
    except ValueError as error:
        raise CannotRunError(f"{path}: {error}") from error


def _read(path: Path) -> _File:
    try:
        return read_tables(_content(path), _File)
    except ValueError as error:
        raise CannotRunError(f"{path}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FLEET_FILE_AT_MOST + 1)
    except OSError as error:
        raise CannotRunError(f"{path}: {error.strerror}") from error
    if len(content) > FLEET_FILE_AT_MOST:
        raise CannotRunError(
            f"{path}: larger than {FLEET_FILE_AT_MOST >> 20} MiB, so hardly a fleet"
        )
    return content


def parse(content: bytes) -> Fleet:
    """The fleet in the text of a file; ValueError says what is wrong, at which line and key."""
    return _parsed(content, _peopled)


def _parsed(content: bytes, made: Callable[[_File], Fleet]) -> Fleet:
    try:
        return made(read_tables(content, _File))
    except BadKeyError as error:
        raise ValueError(placed(content, error)) from error


def _peopled(file: _File) -> Fleet:
    if not file.host:
        raise ValueError("host: no host is listed; write one [[host]] with a name for each")
    return _fleet(file)


def _fleet(file: _File) -> Fleet:
    hosts = tuple(_host_at(index, host, file) for index, host in enumerate(file.host))
    if (twin := _twin(hosts)) is not None:
        raise BadKeyError(f"host[{twin}].name", f"{hosts[twin].name} is listed more than once")
    return Fleet(
        hosts=hosts,
        uris=Uris(
            connect=_uri("uris.connect", file.uris.connect),
            migrate=_uri("uris.migrate", file.uris.migrate),
        ),
        timeout_s=file.defaults.timeout_s,
        deadline_s=file.defaults.deadline_s,
        in_flight=file.defaults.in_flight,
        tls=file.tls,
    )


def from_names(text: str) -> Fleet:
    """The fleet of `--hosts h1,h2:50551,[fd00::1]:50551,h3=unix:/run/h3.sock`."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    try:
        if not entries:
            raise ValueError("no host is named")
        hosts = tuple(map(_host_in_list, entries))
        if (twin := _twin(hosts)) is not None:
            raise ValueError(f"host {hosts[twin].name} is listed more than once")
    except ValueError as error:
        raise MisusedError(f"--hosts: {error}") from error
    return Fleet(hosts=hosts)


def uri_of(template: str, host: str) -> str:
    """The URI by which virsh reaches a host; an IPv6 address goes into brackets."""
    return template.replace("{host}", f"[{host}]" if ":" in host else host)


def selected(hosts: Iterable[FleetHost], labels: Iterable[str]) -> tuple[FleetHost, ...]:
    """The hosts that have all of these labels, each `key=value`."""
    wanted = set(labels)
    return tuple(
        host for host in hosts if wanted <= {f"{key}={value}" for key, value in host.labels}
    )


def is_at(host: FleetHost, uri: str) -> bool:
    """Whether a URI names that host, by its name or where its agent is."""
    try:
        named = urlsplit(uri).hostname
    except ValueError:  # no URI: whoever opens it will say so
        return False
    known = {_plain(host.name)}
    if not host.address.startswith("unix:"):
        known.add(_plain(host.address.rpartition(":")[0]))
    return named is not None and _plain(named) in known


def _plain(name: str) -> str:
    return name.lower().strip("[]").rstrip(".")


def _is_there(place: Path) -> bool:
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # reading it will say what is wrong, rather than passing it over
    return True


def _host_at(index: int, host: _Host, file: _File) -> FleetHost:
    try:
        name = host_name(host.name)
    except ValueError as error:
        raise BadKeyError(f"host[{index}].name", str(error)) from error
    try:
        address = agent_address(host.address or name, file.defaults.port)
    except ValueError as error:
        raise BadKeyError(f"host[{index}].address", str(error)) from error
    for key, value in host.labels.items():
        if not is_label(key, value):
            raise BadKeyError(f"host[{index}].labels.{key}", f"{key}={value} is not a label")
    return FleetHost(
        name=name,
        address=address,
        labels=tuple(sorted(host.labels.items())),
        insecure=file.insecure or host.insecure,
    )


def _host_in_list(entry: str) -> FleetHost:
    """`NAME`, `NAME:PORT` or `NAME=ADDRESS`."""
    name, given, address = entry.partition("=")
    if given:
        return FleetHost(name=host_name(name), address=agent_address(address, AGENT_PORT))
    if entry.startswith("unix:"):
        raise ValueError(f"{entry}: a socket needs a name, as h1={entry}")
    host, _ = _host_and_port(entry, AGENT_PORT)
    return FleetHost(name=host_name(host), address=agent_address(entry, AGENT_PORT))


def host_name(text: str) -> str:
    """The same text if a host may be called so, else a ValueError."""
    if not is_host_name(text):
        raise ValueError(f"{text!r} is not a host name")
    return text


def agent_address(text: str, port: int = AGENT_PORT) -> str:
    """As gRPC wants it: `host:port`, or `unix:path`. ValueError where it is neither."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or not path.isprintable():
            raise ValueError(f"{text!r} names no socket")
        return text
    host, number = _host_and_port(text, port)
    host_name(host)
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    if is_ipv6(text):
        return text, port
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    host, given = bracketed.groups() if bracketed else _split_at_colon(text)
    if given is None:
        return host, port
    if not re.fullmatch(r"[0-9]{1,5}", given, re.ASCII) or not 1 <= int(given) <= 65535:
        raise ValueError(f"{text!r}: the port is a number from 1 to 65535")
    return host, int(given)


def _split_at_colon(text: str) -> tuple[str, str | None]:
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _uri(key: str, template: str) -> str:
    if "{host}" not in template:
        raise BadKeyError(key, "has no {host}, so every host would be the same one")
    if not template.isprintable() or " " in template:
        raise BadKeyError(key, f"{template!r} is not a URI")
    return template


def _twin(hosts: Iterable[FleetHost]) -> int | None:
    """The first host that is called like one before it."""
    known: set[str] = set()
    for number, host in enumerate(hosts):
        if host.name in known:
            return number
        known.add(host.name)
    return None
