"""Asks for a verdict, then really migrates, and says how the two agree.

One scenario after the other on the same hosts: arrange it, ask at each depth (with a look at both
hosts before and after), let `virsh migrate` say the truth, and put everything back.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import jsonschema

from tests.lab import faults, guests, traces
from tests.lab.faults import Fault
from tests.lab.hosts import RUNS, Host, Lab, attempt_beside, attempt_on, run_on, script_on
from tests.lab.machine import LabError, Ran, has, pages_of_2m
from tests.lab.scenarios import Scenario, here

# Ten times what a migration of these guests takes; and past it the truth is "fails".
TRUTH_WITHIN_S = 30
ASK_WITHIN_S = 30
TURN_WITHIN_S = 300  # several of the longest scenarios of another lab

DEPTHS = ("facts", "libvirt", "trial", "rehearsal")  # from the shallowest
# What a trial or a rehearsal takes down is gone by then, or it lasts.
LASTING_S = 1.0

Truth = Literal["migrates", "fails"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What virt-preflight is asked."""

    guest: str  # empty for one that runs nowhere yet: its XML is among the options
    source: str
    destination: str
    options: tuple[str, ...]
    depth: str


T = TypeVar("T")
Ask = Callable[[Lab, Question], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What virt-preflight said at one depth."""

    verdict: str
    checks: tuple[str, ...] = ()
    ms: int = 0  # the dry run itself, without the start of the command
    whole: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One scenario, with what was foretold and what came."""

    scenario: Scenario
    truth: Truth
    error: str = ""
    depths: dict[str, Foretold] = field(default_factory=dict)
    traces: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    seconds: float = 0

    @property
    def as_meant(self) -> str | None:
        """Why the scenario itself is wrong, if it does not do what it was written for."""
        if self.truth != self.scenario.expect:
            return f"meant: {self.scenario.expect}, truth: {self.truth} {self.error}".rstrip()
        if self.scenario.says not in self.error:
            return f"meant to say {self.scenario.says!r}, said {self.error!r}"
        return None


def agrees(verdict: str, truth: Truth) -> str:
    """`yes`, or in which way the verdict and the truth differ."""
    if verdict in ("CLEAR", "RISKY"):
        return "yes" if truth == "migrates" else "missed"
    if verdict == "BLOCKED":
        return "yes" if truth == "fails" else "false alarm"
    return "unsure"


def fault_of(scenario: Scenario, depth: str, said: Foretold, truth: Truth) -> str | None:
    """What is wrong with an answer, if it is not what that depth has to know."""
    agreed = agrees(said.verdict, truth)
    early = DEPTHS.index(depth) < DEPTHS.index(scenario.told_from)
    if agreed == "yes" or (agreed == "missed" and early):
        return None
    if agreed == "unsure" and scenario.unsure_ok and (early or scenario.told_from == DEPTHS[0]):
        return None
    return f"{depth}: {agreed}: {said.verdict} for {', '.join(said.checks) or 'no reason'}"


# -------------------------------------------------------------------------------- one scenario


def why_skipped(scenario: Scenario, lab: Lab) -> str | None:
    """Why this lab cannot play this scenario, if it cannot."""
    for host in (scenario.source, scenario.destination):
        if host not in lab.hosts:
            return f"no host {host} in this lab"
    for need in scenario.needs:
        reason: str | None
        if need == "kvm":
            reason = None if lab.accelerator == "kvm" else "guests run under TCG here"
        else:
            reason = has(need)
        if reason:
            return reason
    return None


def play(
    lab: Lab, scenario: Scenario, *, ask: Ask | None, depths: Sequence[str] = ("facts",)
) -> Outcome:
    """Arrange, ask, migrate, put back."""
    with turn(scenario):
        return in_turn(lab, scenario, ask=ask, depths=depths)


@contextlib.contextmanager
def turn(scenario: Scenario) -> Iterator[None]:
    """Huge pages are the kernel's own, and other labs of this machine see ours come and go.

    So who changes them plays alone, and all others play together. The gate is held only until
    one's turn has come: without it a stream of others would keep the one waiting for ever.
    """
    RUNS.mkdir(parents=True, exist_ok=True)
    handles = [os.open(RUNS / name, os.O_CREAT | os.O_RDWR, 0o600) for name in (".gate", ".pages")]
    gate, pages = handles
    try:
        take(gate, fcntl.LOCK_EX)
        take(pages, fcntl.LOCK_EX if scenario.pages else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
    finally:
        for handle in handles:
            os.close(handle)


def take(handle: int, kind: int) -> None:
    until = time.monotonic() + TURN_WITHIN_S
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise LabError(f"another lab has not ended its turn in {TURN_WITHIN_S} s") from None
            time.sleep(0.05)
        else:
            return


def in_turn(lab: Lab, scenario: Scenario, *, ask: Ask | None, depths: Sequence[str]) -> Outcome:
    started = time.monotonic()
    source, destination = lab[scenario.source], lab[scenario.destination]
    scenario = here(scenario, lab)
    guest = scenario.guest
    two = (source, destination)
    before = both(traces.snapshot, two)
    foretold: dict[str, Foretold] = {}
    found: list[str] = []
    done: list[tuple[Host, Fault]] = []

    def arrange(host: Host, arranged: Iterable[Fault]) -> None:
        for fault in arranged:
            done.append((host, fault))  # before it is done: half done has to be undone as well
            faults.apply(host, fault)

    pages = pages_of_2m().read_text() if scenario.pages else ""
    try:
        if scenario.pages:
            set_pages(lab, pages, scenario.pages)
        arrange(source, scenario.on_source)
        arrange(destination, scenario.on_destination)
        make_disks(guest, source, destination)
        if scenario.runs == "source":
            guests.start(source, guest, lab)
        arrange(source, scenario.then_on_source)
        arrange(destination, scenario.then_on_destination)
        rewritten = written(lab, scenario, source, destination)
        if ask is not None:
            foretold, found = ask_each(lab, scenario, rewritten, ask=ask, depths=depths)
        if scenario.runs == "source":
            truth, error = real_migration(lab, scenario, rewritten)
        else:
            truth, error = real_start(lab, scenario)
    finally:
        put_back(lab, scenario, guest, done, pages)
    after = both(traces.snapshot, two)
    left = [
        f"{host.name}: {line}"
        for host, was, now in zip(two, before, after, strict=True)
        for line in traces.leftovers(was, now)
    ]
    return Outcome(
        scenario=scenario,
        truth=truth,
        error=error,
        depths=foretold,
        traces=tuple(found),
        leftovers=tuple(left),
        seconds=time.monotonic() - started,
    )


def ask_each(
    lab: Lab, scenario: Scenario, rewritten: Path | None, *, ask: Ask, depths: Sequence[str]
) -> tuple[dict[str, Foretold], list[str]]:
    """Ask at each depth; what was said, and the traces that asking left.

    What a host looks like after one depth is what it looked like before the next.
    """
    two = (lab[scenario.source], lab[scenario.destination])
    xml = ("--xml", str(rewritten)) if rewritten else ()
    foretold: dict[str, Foretold] = {}
    found: list[str] = []
    watchers = [traces.Watcher(host) for host in two]
    try:
        looked = both(traces.Watcher.look, watchers)
        for depth in depths:
            question = Question(
                guest=scenario.guest.name if scenario.runs == "source" else "",
                source=scenario.source,
                destination=scenario.destination,
                options=(*scenario.mode, *scenario.options, *xml),
                depth=depth,
            )
            foretold[depth] = verdict_in(ask(lab, question), scenario.destination)
            now = both(traces.Watcher.look, watchers)
            left = differing(scenario, depth, looked, now)
            if left and depth in traces.DEEP:
                time.sleep(LASTING_S)
                now = both(traces.Watcher.look, watchers)
                left = differing(scenario, depth, looked, now)
            found += left
            looked = now
    finally:
        for watcher in watchers:
            watcher.end()
    return foretold, found


def differing(
    scenario: Scenario,
    depth: str,
    before: Sequence[traces.Snapshot],
    after: Sequence[traces.Snapshot],
) -> list[str]:
    """The traces on both hosts, each with the depth and the host that it is of."""
    names = (scenario.source, scenario.destination)
    guest = scenario.guest.name
    called = (guest, scenario.arrives_as or guest)
    return [
        f"{depth} {name}: {line}"
        for side, name, its, was, now in zip(
            traces.SIDES, names, called, before, after, strict=True
        )
        for line in traces.traces(was, now, depth=depth, side=side, guest=its)
    ]


def both(look: Callable[[T], traces.Snapshot], two: Sequence[T]) -> list[traces.Snapshot]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(look, two))


def set_pages(lab: Lab, before: str, count: int) -> None:
    """Reserve huge pages for all hosts at once: they are the kernel's."""
    (lab.run / "hugepages").write_text(before)
    pages_of_2m().write_text(str(count))
    got = int(pages_of_2m().read_text())
    if got != count:
        raise LabError(f"the kernel has {got} huge pages of {count} asked for")


def make_disks(guest: guests.Guest, source: Host, destination: Host) -> None:
    for disk in guest.disks:
        if disk.on == "nowhere":
            continue
        script_on(source, guests.making(disk))
        if disk.on == "both":
            script_on(destination, guests.making(disk))


def written(lab: Lab, scenario: Scenario, source: Host, destination: Host) -> Path | None:
    """The XML that the destination is to have, where it is not what the source would send."""
    guest = scenario.guest
    if scenario.runs == "nowhere":
        xml, place = guests.domain_xml(guest, lab), destination
    elif scenario.rewrite:
        xml, place = run_on(source, ["virsh", "-q", "dumpxml", "--migratable", guest.name]), source
    else:
        return None
    for old, new in scenario.rewrite:
        if old not in xml:
            raise LabError(f"{scenario.id}: nothing to rewrite, there is no {old!r} in\n{xml}")
        xml = xml.replace(old, new, 1)
    path = lab.run / f"{guest.name}.xml"
    path.write_text(xml)
    (place.files / "tmp" / f"{guest.name}.xml").write_text(xml)
    return path


def real_start(lab: Lab, scenario: Scenario) -> tuple[Truth, str]:
    """What the destination says of a guest that runs nowhere: it is started there, and stays."""
    name = scenario.guest.name
    ran = attempt_on(
        lab[scenario.destination],
        ["virsh", "-q", "create", "--paused", f"/tmp/{name}.xml"],
        within_s=TRUTH_WITHIN_S,
    )
    return ("migrates", "") if ran.code == 0 else ("fails", ran.said)


def real_migration(lab: Lab, scenario: Scenario, rewritten: Path | None) -> tuple[Truth, str]:
    source, destination = lab[scenario.source], lab[scenario.destination]
    guest = scenario.guest
    xml = ("--xml", f"/tmp/{guest.name}.xml") if rewritten else ()
    ran = guests.migrate(
        source,
        destination,
        guest.name,
        *scenario.options,
        *xml,
        mode=scenario.mode,
        within_s=TRUTH_WITHIN_S,
    )
    if ran.code != 0:
        return "fails", ran.said
    arrived = guests.state_of(destination, scenario.arrives_as or guest.name)
    if arrived not in ("running", "paused") and "--offline" not in scenario.mode:
        return "fails", f"virsh was content, but the guest is {arrived} on {destination.name}"
    return "migrates", ""


def put_back(
    lab: Lab, scenario: Scenario, guest: guests.Guest, done: list[tuple[Host, Fault]], pages: str
) -> None:
    two = (lab[scenario.source], lab[scenario.destination])
    names = [guest.name, *([scenario.arrives_as] if scenario.arrives_as else [])]
    for host in two:
        guests.remove(host, *names)
    for host, fault in reversed(done):
        faults.undo(host, fault)
    files = [f"/tmp/{guest.name}.xml", f"/var/lib/libvirt/qemu/nvram/{guest.name}_VARS.fd"]
    files += [path for disk in guest.disks for path in guests.files_of(disk)]
    for host in two:
        if guests.state_of(host, guest.name) != "absent":  # its libvirtd had been stopped
            guests.remove(host, *names)
        attempt_on(host, ["rm", "-f", *files])
    (lab.run / f"{guest.name}.xml").unlink(missing_ok=True)
    if pages:
        pages_of_2m().write_text(pages)
        (lab.run / "hugepages").unlink(missing_ok=True)


# --------------------------------------------------------------------------------------- asking


def ask_cli(lab: Lab, question: Question) -> dict[str, Any]:
    """What an operator at the switch gets from `virt-preflight check -o json`."""
    program = Path(sys.executable).parent / "virt-preflight"
    if not program.exists():
        named = shutil.which("virt-preflight")
        if named is None:
            raise LabError(f"no virt-preflight beside {sys.executable}")
        program = Path(named)
    argv = [
        str(program),
        "check",
        *((question.guest, "--from", question.source) if question.guest else ()),
        *("--fleet", str(lab.run / "fleet.toml")),
        *("--to", question.destination),
        # A libvirtd that sees an emulator for the first time probes it, which takes seconds.
        *("--depth", question.depth, "-o", "json", "--timeout", "15"),
        *asked(question.options),
    ]
    ran = attempt_beside(lab, argv, within_s=ASK_WITHIN_S)
    return parsed(ran)


# Options of `virsh migrate` that change nothing about whether it succeeds, and how many words
# follow them: virt-preflight does not know them.
UNASKED = {"--suspend": 0, "--undefinesource": 0, "--parallel-connections": 1}


def asked(options: Sequence[str]) -> Iterator[str]:
    """The options that virt-preflight has too."""
    words = iter(options)
    for word in words:
        if word in UNASKED:
            for _ in range(UNASKED[word]):
                next(words)
        else:
            yield word


def parsed(ran: Ran) -> dict[str, Any]:
    # 1 is "could not run", 2 is usage: every other code comes with an answer.
    if ran.code in (None, 1, 2, 130):
        raise LabError(f"{' '.join(ran.argv[6:])}: ended with {ran.code}: {ran.said}")
    try:
        answer: dict[str, Any] = json.loads(ran.out)
    except ValueError as error:
        raise LabError(f"not JSON ({error}): {ran.out[:300]!r} {ran.err[-300:]!r}") from error
    return answer


def misshapen(answer: dict[str, Any]) -> list[str]:
    """Where the answer is not as the published schema says."""
    faults = jsonschema.Draft202012Validator(schema()).iter_errors(answer)
    return [f"{fault.json_path}: {fault.message}" for fault in faults]


@functools.cache
def schema() -> dict[str, Any]:
    """The schema that the command publishes for its answers."""
    published = files("virt_preflight.controller") / "schemas/dryrun.schema.json"
    found: dict[str, Any] = json.loads(published.read_text())
    return found


def verdict_in(answer: dict[str, Any], destination: str) -> Foretold:
    for host in answer.get("hosts", ()):
        if host.get("host") == destination:
            named = [finding["check"] for finding in host.get("findings", ())]
            weighty = [
                finding["check"]
                for finding in host.get("findings", ())
                if finding.get("severity") == "BLOCKER"
            ]
            verdict = str(host["verdict"])
            checks = weighty if verdict == "BLOCKED" else named
            took = int(answer["tookMs"])
            return Foretold(verdict=verdict, checks=tuple(checks), ms=took, whole=answer)
    raise LabError(f"the answer does not speak of {destination}: {json.dumps(answer)[:300]}")
