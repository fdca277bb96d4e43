"""agent.toml: where to listen, which libvirt to ask, what this host's operator allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from virt_preflight.agent.policy import Policy
from virt_preflight.treaty.addresses import WANTED, wrong_address
from virt_preflight.treaty.logs import LogFormat
from virt_preflight.treaty.roles import Roles
from virt_preflight.treaty.tables import BadKeyError, placed, read_tables
from virt_preflight.treaty.tls import Tls

DEFAULT_FILE = Path("/etc/virt-preflight/agent.toml")
DEFAULT_LISTEN = "127.0.0.1:50551"


class BadSettings(Exception):
    """The configuration cannot be used; the text names the file and the field."""


def in_file(path: Path | None, error: BadKeyError) -> str:
    """What is wrong with a key, with the file and the line that give it."""
    chosen = path or DEFAULT_FILE
    try:
        return f"{chosen}: {placed(chosen.read_bytes(), error)}"
    except OSError:
        return f"{chosen}: {error}"


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[policy]."""

    memory_reserved_mib: int = 512
    memory_overcommit: float = 1.0
    # Directories whose files may be looked at for whoever asks. None: see agent.fence.
    storage: tuple[str, ...] | None = None


class AnnounceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[announce]: which controllers are told that this host is there, and what of it."""

    controllers: tuple[str, ...] = ()
    # Both have a default that hangs on the host and on where the agent listens.
    name: str | None = None
    address: str | None = None
    labels: dict[str, str] = {}


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[limits]: what goes beyond is refused at once."""

    requests: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512
    # As many as a controller lets in of all its callers, so that it is not turned away for them.
    requests_per_caller: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every key has a default."""

    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    # Listen beyond loopback without TLS: whoever reaches the port may ask.
    insecure: bool = False
    libvirt_uri: str = "qemu:///system"
    log_format: LogFormat = LogFormat.TEXT
    # HOST:PORT where Prometheus asks; empty: nowhere.
    metrics: str = ""
    tls: Tls = Tls()
    roles: Roles = Roles()
    limits: Limits = Limits()
    policy: PolicySettings = PolicySettings()
    announce: AnnounceSettings = AnnounceSettings()

    def as_policy(self) -> Policy:
        """[policy] as the checks ask for it."""
        return Policy(
            memory_reserved_kib=self.policy.memory_reserved_mib * 1024,
            memory_overcommit=self.policy.memory_overcommit,
        )


def read_settings(path: Path | None) -> Settings:
    """The named file, or the default one if it is there. Raises BadSettings."""
    chosen = path or DEFAULT_FILE
    try:
        text = chosen.read_bytes()
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise BadSettings(f"{chosen}: no such file") from None
    except OSError as error:
        raise BadSettings(f"{chosen}: {error.strerror}") from None
    try:
        settings = read_tables(text, Settings)
        _refuse_useless(settings)
    except BadKeyError as error:
        raise BadSettings(f"{chosen}: {placed(text, error)}") from None
    except ValueError as error:
        raise BadSettings(f"{chosen}: {error}") from None
    return settings


def _refuse_useless(settings: Settings) -> None:
    """Raises BadKeyError."""
    if (wrong := wrong_address(settings.listen)) is not None:
        raise BadKeyError("listen", f"{wrong!r}: {WANTED}")
    if settings.policy.memory_reserved_mib < 0:
        raise BadKeyError("policy.memory_reserved_mib", "is negative")
    if not settings.policy.memory_overcommit > 0:
        raise BadKeyError("policy.memory_overcommit", "is not above 0")
    for directory in settings.policy.storage or ():
        if not directory.startswith("/"):
            raise BadKeyError("policy.storage", f"{directory!r} does not begin with /")
