"""The command that would really move the guest, exactly as it was asked about."""

import re
import shlex

from virt_preflight.controller.fleet import Uris, uri_of
from virt_preflight.controller.options import MigrationOptions, flags_given, values_given

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def migrate_command(
    *,
    uris: Uris,
    source: str,
    destination: str,
    name: str,
    uuid: str,
    options: MigrationOptions,
) -> str | None:
    """A line for a shell, or None when the guest cannot be named safely."""
    guest = _safe_name(name, uuid)
    if guest is None:
        return None
    words = ["virsh", "-c", uri_of(uris.connect, source), "migrate"]
    words += (f"--{flag}" for flag in flags_given(options))
    for option, value in values_given(options):
        words += _with_value(option, value)
    return shlex.join([*words, guest, options.desturi or uri_of(uris.migrate, destination)])


def _with_value(option: str, value: str) -> list[str]:
    if option == "desturi":
        return []  # virsh takes it by its place, after the guest
    if option == "xml" and value == "-":
        value = "/dev/stdin"
    return [f"--{option}={value}"] if value.startswith("-") else [f"--{option}", value]


def _safe_name(name: str, uuid: str) -> str | None:
    """The guest's name where virsh would understand it as a name, else its UUID.

    virsh reads a number as an id and a leading dash as an option, and a name with unprintable
    characters has no business in a line that people copy.
    """
    plain = name.isprintable() and not name.isdecimal() and not name.startswith("-")
    if name and plain:
        return name
    return uuid if _UUID.fullmatch(uuid) else None
