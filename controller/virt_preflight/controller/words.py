"""The words of the command line, understood but not yet acted on."""

from dataclasses import dataclass
from enum import StrEnum

from virt_preflight.controller.depth import Depth
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.render.forms import Form


class Colour(StrEnum):
    """The `--color` of the command line."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWords:
    """Which hosts, and how patient to be."""

    hosts: str | None
    fleet: str | None
    server: str | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowWords:
    """In which form to answer."""

    form: Form
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckWords:
    """What `check` was asked. With a domain, `xml_file` is XML for its destination."""

    domain: str | None
    xml_file: str | None
    from_host: str | None
    to_hosts: tuple[str, ...]
    labels: tuple[str, ...]
    options: MigrationOptions
    only: tuple[str, ...]
    skip: tuple[str, ...]
    waive: tuple[str, ...]
    allow: tuple[str, ...]
    depth: Depth
    strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeWords:
    """How `serve` is to listen; what is not said is as the configuration has it."""

    config: str | None
    listen: tuple[str, ...]
    insecure: bool
    log_format: str | None
    metrics: str | None
    check_config: bool
