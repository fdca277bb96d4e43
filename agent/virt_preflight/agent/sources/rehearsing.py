"""The narrow door for a rehearsal: one verb on the source; on the destination those that put back.

Apart from `Source`, whose verbs only read: nothing but a rehearsal and its attendance gets these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from virt_preflight.agent.sources import LibvirtRefused

# Where libvirt alone makes files of a guest: the firmware's variables, an emulated TPM by its UUID.
NVRAM_DIRECTORY = "/var/lib/libvirt/qemu/nvram/"
SWTPM_DIRECTORY = "/var/lib/libvirt/swtpm"

Parameters = Mapping[str, str | int | tuple[str, ...]]


class Step(Enum):
    """How far a rehearsal came."""

    BEGIN = "libvirt's Begin phase"
    CONNECT = "the connection to the destination's libvirtd"
    PREPARE = "the destination's Prepare phase"
    FINISH = "the destination's Finish phase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole migration that ends where Perform begins: for a libvirt without single phases."""

    flags: int
    parameters: Parameters
    # What the error must name if it is to be the one that was meant.
    token: str


class Knock(Enum):
    """For how long the connection to the migration's port is kept."""

    # A QEMU that waits takes one that ends for a broken migration.
    HELD = "until after Finish"
    # One that has to hear TLS's first word hears nobody else meanwhile, libvirt neither; and it
    # forgives a connection that ends before that word.
    LET_GO = "let go at once"
    # One that has to hear which of several channels it is neither hears others nor forgives (QEMU
    # 10.0): nobody connects.
    NOT_AT_ALL = "not at all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """All that a rehearsal goes by. Flags and parameters are libvirt's own (see asks/flags.py)."""

    uuid: str
    # Its name on the destination.
    arrives_as: str
    destination_uri: str
    begin_flags: int
    begin_parameters: Parameters
    prepare_flags: int
    prepare_parameters: Parameters
    whole: Whole
    # The single phases cannot show what is asked for, as with a tunnel.
    only_whole: str
    # The XML of Begin as the destination gets it. It holds secrets: it stays in this process.
    rewritten: Callable[[bytes], bytes]
    # What of the XML that was sent the destination does not have: (sent, read back).
    lost: Callable[[bytes, bytes], tuple[str, ...]]
    # The host and port that the source's QEMU would connect to, of the URI that Prepare gave.
    address: Callable[[str], tuple[str, int] | None]
    knock: Knock


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """libvirt's no, and the step that it was said at."""

    step: Step
    error: LibvirtRefused


class Way(Enum):
    """What became of the connection from the source to the migration's port."""

    NOT_TRIED = "not tried"
    OPEN = "open"
    UNKNOWN_NAME = "unknown name"
    NO_WAY = "no way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of it: a refusal, or all that was seen in the window."""

    refusal: Refusal | None = None
    lost: tuple[str, ...] = ()
    way: Way = Way.NOT_TRIED
    # Where to, and in what words it ended there.
    way_to: str = ""
    way_words: str = ""


class Rehearser(Protocol):
    """Where rehearsals are played: the source's libvirtd and a connection to another's."""

    def rehearse(self, script: Script, within_s: float) -> Played:
        """Begin, Prepare, the window, Finish cancelled: the guest itself is not touched.

        Raises Impossible when this host cannot, Unreadable when there is no answer. Whatever the
        caller does, what was prepared is cancelled.
        """


class Broom(Protocol):
    """What puts a destination back. Each verb raises a SourceError when it cannot."""

    def write_down(self, uuid: str, notes: str) -> None:
        """Keep notes that outlive the agent. Refused when there are some of that guest already."""

    def written_down(self) -> Mapping[str, str]:
        """All notes that are kept, by the guest's UUID."""

    def cross_out(self, uuid: str) -> None:
        """Keep them no longer."""

    def remove_file(self, path: str) -> None:
        """Of a plain file; fine when it is gone already."""

    def remove_directory(self, path: str) -> None:
        """With all that is in it; fine when it is gone already."""

    def remove_volume(self, path: str) -> None:
        """A storage volume, by libvirt, so that its pool knows."""

    def remembered(self, path: str) -> Mapping[str, bytes]:
        """What libvirt has written down at the file of whom it belonged to (remember_owner)."""

    def remember(self, path: str, remembered: Mapping[str, bytes]) -> None:
        """Write that down again."""

    def give_back(self, path: str, uid: int, gid: int) -> None:
        """Change the owner of what the path leads to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsing:
    """What a host needs to rehearse its guests and to attend the rehearsals of others."""

    rehearser: Rehearser
    broom: Broom
