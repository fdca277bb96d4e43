"""controller.toml: where to listen, which fleet, and how much may be asked at once."""

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.treaty.addresses import WANTED, is_address, wrong_address
from virt_preflight.treaty.logs import LogFormat
from virt_preflight.treaty.roles import Roles
from virt_preflight.treaty.tables import BadKeyError, placed, read_tables
from virt_preflight.treaty.tls import Tls

SYSTEM_FILE = Path("/etc/virt-preflight/controller.toml")
CONTROLLER_PORT = 50552
SERVER_VARIABLE = "VIRT_PREFLIGHT_SERVER"
DEFAULT_LISTEN = f"127.0.0.1:{CONTROLLER_PORT}"
FILE_AT_MOST = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[limits]: what goes beyond is refused at once."""

    # Of one request. A domain XML may have 10 MiB.
    message_mib: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    guests_per_request: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    requests: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
    requests_per_caller: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 64
    # Hosts that announced themselves, and what each may say of itself.
    announced_hosts: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 10_000
    labels_per_host: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 32
    label_length: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 128


class Announced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[announced]: hosts that are not in the fleet file, and say themselves that they are there."""

    hosts: Literal["allow", "refuse"] = "allow"
    hear_every_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    # One that was silent for so long is in the fleet no more.
    forget_after_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 7.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every key has a default."""

    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    # Listen beyond loopback without TLS: whoever reaches the port may ask.
    insecure: bool = False
    # The fleet file; where none is named, the first that the command line would find.
    fleet: str | None = None
    # Where announced hosts are kept; without it they are forgotten when the service ends.
    store: str | None = None
    # How long answers under way may still take when the service is told to stop.
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 10.0
    # How often hosts are looked at while somebody watches them.
    watch_every_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 5.0
    log_format: LogFormat = LogFormat.TEXT
    # HOST:PORT where Prometheus asks; empty: nowhere.
    metrics: str = ""
    tls: Tls = Tls()
    announced: Announced = Announced()
    roles: Roles = Roles()
    limits: Limits = Limits()


def read_settings(path: Path | None) -> Settings:
    """The named file, or the system's if it is there."""
    chosen = path or SYSTEM_FILE
    try:
        with chosen.open("rb") as file:
            content = file.read(FILE_AT_MOST + 1)
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise CannotRunError(f"{chosen}: no such file") from None
    except OSError as error:
        raise CannotRunError(f"{chosen}: {error.strerror}") from error
    if len(content) > FILE_AT_MOST:
        raise CannotRunError(f"{chosen}: larger than {FILE_AT_MOST >> 20} MiB")
    try:
        return parse(content)
    except ValueError as error:
        raise CannotRunError(f"{chosen}: {error}") from error


def parse(content: bytes) -> Settings:
    """The settings in the text of a file; ValueError says what is wrong, at which line and key."""
    settings = read_tables(content, Settings)
    if (wrong := wrong_address(settings.listen)) is not None:
        raise ValueError(placed(content, BadKeyError("listen", f"{wrong!r}: {WANTED}")))
    return settings


def address_of(server: str) -> str:
    """A controller's address as gRPC wants it; the port may be left out."""
    if server.startswith("unix:") or re.search(r":[0-9]+$", server, re.ASCII):
        if not is_address(server):
            raise MisusedError(f"--server {server}: wanted HOST, HOST:PORT or unix:/path")
        return server
    return address_of(f"{server}:{CONTROLLER_PORT}")
