"""libvirt's errors, and QEMU's that it quotes, as our checks: the same fault, the same id.

Pure. The table itself is `wordings/`; here it is found out who speaks. A text that the table
does not know is no check's, and stands as `libvirt.refused`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from virt_preflight.agent.asks.wording import Wording, read
from virt_preflight.agent.asks.wordings import WORDINGS

# The longest in the lab has 417 bytes. What is cut off may be the part that decides, and then the
# text is not known.
_MOST_READ = 4096
# A log has a few lines, and a file's name few colons: past this nobody honest speaks.
_MOST_HEARD = 128

# virErrorNumber and virErrorDomain, libvirt/virterror.h: numbers never change.
VIR_ERR_HOOK_SCRIPT_FAILED = 70
VIR_ERR_OPERATION_ABORTED = 78
VIR_ERR_MIGRATE_UNSAFE = 81
VIR_ERR_MIGRATE_FINISH_OK = 93
VIR_FROM_HOOK = 34

# What libvirt puts before its words for some codes (virErrorMsg, util/virerror.c).
_PREFIXES = (
    "internal error: ",
    "this function is not supported by the connection driver: ",
    "invalid argument: ",
    "operation failed: ",
    "authentication failed: ",
    "XML error: ",
    "operation forbidden: ",
    "Network not found: ",
    "Storage pool not found: ",
    "Storage volume not found: ",
    "Requested operation is not valid: ",
    "Secret not found: ",
    "unsupported configuration: ",
    "Timed out during operation: ",
    "argument unsupported: ",
    "Unsafe migration: ",
    "Operation not supported: ",
    "resource busy: ",
    "the CPU is incompatible with host CPU: ",
    "device not found: ",
)

_NAME = r"[^'\n]{1,1024}"
_LOG = re.compile(
    r"(?:process exited while connecting to monitor"
    rf"|(?:qemu|QEMU) unexpectedly closed the monitor(?: \(vm='{_NAME}'\))?"
    r"|guest unexpectedly quit): (.+)",
    re.DOTALL,
)
_COMMAND = re.compile(r"unable to execute QEMU command '([a-z_-]{1,64})': ([^\n]+)")
_COPY = re.compile(r"migration of disk [^\s']{1,64} failed: ([^\n]+)")
_JOB = re.compile(r"job '[a-z ]{1,64}' failed: ([^\n]+)")
_REASONS = re.compile(r"cannot migrate domain: ([^\n]+)")
# A child of libvirtd, between fork and exec, prints errors as libvirt does on a terminal.
_BEFORE_EXEC = re.compile(
    r"Process exited prior to exec: libvirt: [\w -]{0,40}? ?error ?: ([^\n]+)"
)
_BOTH_HOSTS = re.compile(
    r"migration failed\. Message from the source host: (.+)"
    r"\. Message from the destination host: (.+)",
    re.DOTALL,
)

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{8,20}(?:Z|[+-]\d\d:?\d\d)? (?:[^\s:]{1,128}: )?")
_PROGRAM = re.compile(r"[^\s:]{0,64}(?:qemu|kvm)[^\s:]{0,64}: ")
_OPTION = re.compile(r"(-[a-z][a-z0-9_-]{0,32}) (?=\S)")
_CHARDEV = re.compile(r"(?:[a-z_-]{1,32},)?id=([\w-]{1,64})")
# libvirt's names of character devices (aliases), for what they serve, where it is no port.
_SERVED_BY_CHARDEV = (
    ("chrtpm", "tpm"),
    ("chr-vu-fs", "share"),
    ("charnet", "nic"),
    ("chr-vu-virtio-disk", "disk"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The check that an error belongs to, with what the text tells in the check's own style.

    `alike` are checks of other faults in the very same words: where facts speak of one of them,
    it is that.
    """

    check: str
    subject: str = ""
    wanted: str = ""
    found: str = ""
    alike: tuple[str, ...] = ()


def translate(code: int, domain: int, words: str) -> Translation | None:
    """None when the table does not know it."""
    if domain == VIR_FROM_HOOK or code in (
        VIR_ERR_HOOK_SCRIPT_FAILED,  # the words are those of somebody's script
        VIR_ERR_OPERATION_ABORTED,
        VIR_ERR_MIGRATE_FINISH_OK,  # how libvirt says that all went well
    ):
        return None
    if found := _translated(words[:_MOST_READ]):
        return found
    if code == VIR_ERR_MIGRATE_UNSAFE:  # whatever it finds unsafe, it is about disks
        return Translation(check="disks.unsafe")
    return None


def _translated(words: str) -> Translation | None:
    for speaker, said in islice(heard(words), _MOST_HEARD):
        for wording in WORDINGS:
            if (filled := read(wording, speaker, said)) is not None:
                return _as_check(wording, filled)
    return None


def heard(words: str) -> Iterator[tuple[str, str]]:
    """Who says what in an error text: the likeliest first."""
    stripped = words.strip().removeprefix("error: ")
    prefix = next((prefix for prefix in _PREFIXES if stripped.startswith(prefix)), "")
    bare = stripped.removeprefix(prefix)
    if both := _BOTH_HOSTS.fullmatch(bare):
        # The destination's is the cause as a rule: the source only sees its connection end.
        if bare.count("Message from the ") == 2:
            yield from heard(both[2])
            yield from heard(both[1])
    elif log := _LOG.fullmatch(bare):
        for line in log[1].split("\n"):
            yield from _heard_in_log(line)
    elif command := _COMMAND.fullmatch(bare):
        yield f"command {command[1]}", command[2]
    elif copy := _COPY.fullmatch(bare):
        yield "copy", copy[1]
    elif job := _JOB.fullmatch(bare):
        yield "job", job[1]
    elif reasons := _REASONS.fullmatch(bare):
        yield from (("reason", reason.strip()) for reason in reasons[1].split("; "))
    elif before_exec := _BEFORE_EXEC.fullmatch(bare):
        yield "libvirt", before_exec[1]
    else:
        yield "libvirt", bare


def _heard_in_log(line: str) -> Iterator[tuple[str, str]]:
    """One line of QEMU's log: `STAMP PROGRAM: -OPTION ARGUMENTS: WORDS`, or less of it."""
    stamp = _STAMP.match(line) or _PROGRAM.match(line)
    words = line[stamp.end() :].strip() if stamp else line.strip()
    if words.startswith(("warning: ", "info: ")):
        return
    option = _OPTION.match(words)
    if option is None:
        yield "-bare", words
        return
    after = words[option.end() :]
    if after.startswith("{"):
        yield from _after_json(option[1], after)
        return
    # Where arguments end nobody marks. Whoever gives a file a name with a colon in it cannot make
    # a text end otherwise than QEMU ended it, and the longest text that is known is taken.
    at = after.find(": ")
    while at >= 0:
        yield _speaker(option[1], _arguments(after[:at])), after[at + 2 :]
        at = after.find(": ", at + 2)


def _after_json(option: str, after: str) -> Iterator[tuple[str, str]]:
    try:
        arguments, end = json.JSONDecoder().raw_decode(after)
    except (ValueError, RecursionError):
        return  # cut off, or not QEMU's
    if after.startswith(": ", end) and isinstance(arguments, dict):
        known = {key: value for key, value in arguments.items() if isinstance(value, str)}
        yield _speaker(option, known), after[end + 2 :]


def _arguments(text: str) -> Mapping[str, str]:
    """Of `type,id=...,if=...` only what tells whose option it is."""
    named = _CHARDEV.match(text)
    return {"id": named[1] if named else "", "if": "pflash" if ",if=pflash" in text else ""}


def _speaker(option: str, arguments: Mapping[str, str]) -> str:
    """The option, and what it is for, where that decides whose fault it is."""
    if option in ("-blockdev", "-drive"):
        node = arguments.get("node-name", "")
        if node.startswith("libvirt-pflash") or arguments.get("if") == "pflash":
            return "-blockdev pflash"
        return "-blockdev format" if node.endswith("-format") else "-blockdev storage"
    if option == "-chardev":
        name = arguments.get("id", "")
        served = [what for start, what in _SERVED_BY_CHARDEV if name.startswith(start)]
        return f"-chardev {served[0] if served else 'port'}"
    return option


def _as_check(wording: Wording, filled: Mapping[str, str]) -> Translation:
    # Lists of features come as "a,b".
    named = {
        key: value.replace(",", ", ") if key == "features" else value
        for key, value in filled.items()
    }
    return Translation(
        check=wording.check,
        subject=wording.subject.format(**named),
        wanted=wording.wanted.format(**named),
        found=wording.found.format(**named),
        alike=wording.alike,
    )
