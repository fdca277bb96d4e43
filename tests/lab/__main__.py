"""The lab at the command line: python -m tests.lab up|down|status|score|table|run|exec."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.lab import hosts, roots, tally
from tests.lab.machine import LabError
from tests.lab.scenarios import SCENARIOS
from tests.lab.score import DEPTHS, ask_cli


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    starting = commands.add_parser("up", help="bring the hosts up, afresh")
    starting.add_argument("--no-agent", action="store_true", help="hosts without our agent")
    commands.add_parser("down", help="take them down, with all that they left")
    commands.add_parser("status", help="what is up")
    executing = commands.add_parser("exec", help="run a command on a host (or on `switch`)")
    executing.add_argument("host")
    executing.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    for name, text in (("run", "run these scenarios"), ("score", "run all scenarios")):
        scoring = commands.add_parser(name, help=text)
        if name == "run":
            scoring.add_argument("scenarios", nargs="+", metavar="SCENARIO")
        scoring.add_argument("--truth-only", action="store_true", help="do not ask, only migrate")
        scoring.add_argument("--depth", action="append", choices=DEPTHS, help="(default: all)")
        scoring.add_argument("--keep", action="store_true", help="leave the lab up")
    commands.add_parser("table", help="the last score as Markdown")
    commands.add_parser("scenarios", help="list the scenarios")
    told = parser.parse_args()
    try:
        return COMMANDS[told.command](told)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def up(told: argparse.Namespace) -> int:
    started = time.monotonic()
    lab = hosts.up(wheels=None if told.no_agent else roots.wheels, tell=tell)
    tell(f"{len(lab.hosts)} hosts up in {time.monotonic() - started:.1f} s")
    return show(lab)


def down(_: argparse.Namespace) -> int:
    hosts.down()
    return 0


def status(_: argparse.Namespace) -> int:
    lab = hosts.load()
    if lab is None:
        print("no lab is up")
        return 1
    return show(lab)


def show(lab: hosts.Lab) -> int:
    print(f"lab {lab.name}: {lab.accelerator.upper()}, agents {lab.agent}")
    program = Path(sys.executable).parent / "virt-preflight"
    print("the hosts are in a network of their own; ask them from its switch, and enter them, by")
    lab_command = f"VIRT_PREFLIGHT_LAB={lab.name} {sys.executable} -m tests.lab exec"
    print(f"  {lab_command} switch -- {program} hosts --fleet {lab.run / 'fleet.toml'}")
    print(f"  {lab_command} h1 -- virsh list --all")
    for host in lab.hosts.values():
        plan = host.plan
        print(f"  {host.name}  {host.address}  {plan.release:9} pid {host.pid}  {plan.purpose}")
    if lab.lesser:
        print(f"a lesser CPU lacks {', '.join(lab.lesser)}")
    return 0


def score(told: argparse.Namespace) -> int:
    known = {scenario.id: scenario for scenario in SCENARIOS}
    wanted = [*known] if told.command == "score" else told.scenarios
    if unknown := [name for name in wanted if name not in known]:
        raise LabError(f"no such scenario: {', '.join(unknown)}")
    lab = hosts.load()
    brought_up = lab is None
    if lab is None:
        lab = hosts.up(wheels=None if told.truth_only else roots.wheels, tell=tell)
    try:
        counted = tally.score_all(
            lab,
            [known[name] for name in wanted],
            ask=None if told.truth_only else ask_cli,
            depths=told.depth or DEPTHS,
        )
    finally:
        if brought_up and not told.keep:
            hosts.down()
    print(*counted.lines(), sep="\n")
    if told.command == "score":
        counted.write()
    return 0 if all(outcome.as_meant is None for outcome in counted.outcomes) else 1


def table(_: argparse.Namespace) -> int:
    print(*tally.table(tally.kept()), sep="\n")
    return 0


def scenarios(_: argparse.Namespace) -> int:
    for scenario in SCENARIOS:
        way = f"{scenario.source}->{scenario.destination}"
        print(f"{scenario.id:36} {way} {scenario.expect:9} {' '.join(scenario.checks)}")
    return 0


def execute(told: argparse.Namespace) -> int:
    lab = hosts.loaded()
    words = told.argv[1:] if told.argv[:1] == ["--"] else told.argv
    before = hosts.beside(lab) if told.host == "switch" else hosts.entering(lab[told.host])
    argv = [*before, *(words or ["bash", "-i"])]
    sys.stdout.flush()
    os.execvp(argv[0], argv)


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


COMMANDS = {
    "up": up,
    "down": down,
    "status": status,
    "exec": execute,
    "run": score,
    "score": score,
    "table": table,
    "scenarios": scenarios,
}

if __name__ == "__main__":
    sys.exit(main())
