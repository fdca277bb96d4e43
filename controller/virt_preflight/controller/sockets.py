"""How many agents may be connected at once: every connection is an open file of ours."""

import resource
from dataclasses import dataclass

# Standard streams, the event loop's and gRPC's own pipes, name look-ups, what a shell left open.
OURS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Channels that stay open until the command ends, and calls under way at a time."""

    kept: int
    in_flight: int


def make_room(hosts: int, in_flight: int) -> Room:
    """Raise this process's own limit of open files as far as that many hosts need it."""
    return room(_limit_raised_to(hosts + OURS), hosts, in_flight)


def make_room_for_guests(hosts: int, guests: int, in_flight: int) -> tuple[Room, int]:
    """The same where so many others come to us; also how many of those there is room for.

    Where not all fit, half of the files are theirs: who cannot announce himself is not asked.
    """
    files = _limit_raised_to(hosts + guests + OURS)
    let_in = min(guests, max(1, files - OURS) // 2)
    return room(files - let_in, hosts, in_flight), let_in


def why_full(let_in: int, wanted: int) -> str:
    """Why so many others are let in and no more."""
    if let_in >= wanted:
        return f"{let_in} are there already"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        f"no room for more than {let_in}: the limit of open files is {files}"
        " (LimitNOFILE= of the unit, ulimit -n)"
    )


def room(files: int, hosts: int, in_flight: int) -> Room:
    """What fits into that many open files.

    Hosts for which no channel can be kept get one for each call, so then fewer are kept, and
    calls under way never wait for a file. With fewer files than calls, there are fewer calls.
    """
    fitting = max(1, files - OURS)
    if hosts <= fitting:
        return Room(kept=hosts, in_flight=in_flight)
    in_flight = min(in_flight, fitting)
    return Room(kept=fitting - in_flight, in_flight=in_flight)


def _limit_raised_to(wanted: int) -> int:
    """The soft limit afterwards. Never lowered, and never above what the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    reached = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if reached <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
    except (OSError, ValueError):  # some kernels refuse more than a limit of their own
        return soft
    return reached
