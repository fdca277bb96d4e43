"""Write the man pages from the programs' own descriptions: `generate.py DIRECTORY`.

One page for virt-preflight and one for each of its commands, one for virt-preflight-agent.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from virt_preflight.agent.cli import _parser as agents_parser
from virt_preflight.controller.cli import cli

FILES = {
    "virt-preflight": (
        ("~/.config/virt-preflight/fleet.toml", "the hosts to ask"),
        ("/etc/virt-preflight/fleet.toml", "the same for everybody"),
    ),
    "virt-preflight-agent": (
        ("/etc/virt-preflight/agent.toml", "where to listen, which libvirt to ask, policy"),
        ("/usr/share/polkit-1/rules.d/60-virt-preflight.rules", "what libvirt lets it ask"),
        ("/run/virt-preflight-deputy.sock", "where it asks its deputy for files"),
    ),
}
EXITS = (
    ("0", "done"),
    ("1", "could not run"),
    ("2", "the command line makes no sense"),
    ("130", "interrupted"),
)


def main(arguments: list[str]) -> int:
    """Every page into the directory named."""
    place = Path(arguments[0])
    place.mkdir(parents=True, exist_ok=True)
    (place / "virt-preflight.1").write_text(_group())
    for name, command in cli.commands.items():
        (place / f"virt-preflight-{name}.1").write_text(_command(name, command))
    (place / "virt-preflight-agent.8").write_text(_agent())
    return 0


# ------------------------------------------------------------------------------------------- roff


def escaped(text: str) -> str:
    """Text that means itself: no backslash, hyphen or leading dot is taken for a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("×", "x")
    return re.sub(r"^([.'])", r"\\&\1", plain, flags=re.MULTILINE)


def head(name: str, section: int, summary: str, of: str) -> Iterator[str]:
    """The first lines of a page."""
    moment = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC)
    where = f"virt-preflight {version(of)}"
    yield f'.TH {name.upper()} {section} {moment:%Y-%m-%d} "{where}" "virt-preflight"'
    yield ".SH NAME"
    yield f"{name} \\- {escaped(_sentence(summary))}"


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs; those that click marks (with a backspace) keep their lines."""
    for number, block in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        if block.startswith("\b"):
            yield ".nf"
            yield from (escaped(line) for line in block[1:].strip("\n").splitlines())
            yield ".fi"
        else:
            yield escaped(" ".join(block.split()))


def terms(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A list of terms, each with what it is."""
    for term, what in pairs:
        yield ".TP"
        yield f".B {escaped(term)}"
        yield escaped(" ".join(what.split())) or "\\&"


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------------- virt-preflight


def _group() -> str:
    def lines() -> Iterator[str]:
        yield from head("virt-preflight", 1, cli.get_short_help_str(200), "virt-preflight")
        yield ".SH SYNOPSIS"
        yield ".B virt\\-preflight"
        yield ".I COMMAND"
        yield "[" + escaped("OPTIONS") + "]"
        yield ".SH DESCRIPTION"
        yield from paragraphs(cli.help or "")
        yield ".SH COMMANDS"
        short = {name: one.get_short_help_str(200) for name, one in cli.commands.items()}
        yield from terms((f"virt-preflight {name}", what) for name, what in short.items())
        yield ".SH FILES"
        yield from terms(FILES["virt-preflight"])
        yield ".SH SEE ALSO"
        pages = [f"virt-preflight-{name}(1)" for name in cli.commands]
        yield escaped(", ".join([*pages, "virt-preflight-agent(8)", "virsh(1)"]))

    return _page(lines())


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"virt-preflight {name}")

    def lines() -> Iterator[str]:
        called = f"virt-preflight-{name}"
        yield from head(called, 1, command.get_short_help_str(200), "virt-preflight")
        yield ".SH SYNOPSIS"
        yield f".B {escaped(f'virt-preflight {name}')}"
        yield escaped(" ".join(command.collect_usage_pieces(context)))
        yield ".SH DESCRIPTION"
        yield from paragraphs(command.help or "")
        records = (one.get_help_record(context) for one in command.get_params(context))
        yield ".SH OPTIONS"
        yield from terms(record for record in records if record)
        yield from _epilog(command.epilog or "")
        yield ".SH SEE ALSO"
        yield escaped("virt-preflight(1), virt-preflight-agent(8)")

    return _page(lines())


def _epilog(text: str) -> Iterator[str]:
    for block in filter(None, re.split(r"\n\s*\n", text.strip())):
        of_exits = block.replace("\b\nExit codes:\n", "\b\n", 1)
        yield ".SH NOTES" if of_exits == block else ".SH EXIT STATUS"
        yield from paragraphs(of_exits)


# --------------------------------------------------------------------------- virt-preflight-agent


def _agent() -> str:
    parser = agents_parser()
    commands = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    helps = {one.dest: one.help or "" for one in commands._choices_actions}

    def lines() -> Iterator[str]:
        name = "virt-preflight-agent"
        yield from head(name, 8, parser.description or "", name)
        yield ".SH SYNOPSIS"
        for number, (command, its) in enumerate(commands.choices.items()):
            if number:
                yield ".br"
            usage = " ".join(its.format_usage().removeprefix("usage: ").split())
            yield f".B {escaped(f'{name} {command}')}"
            yield escaped(usage.removeprefix(f"{name} {command}").strip()) or "\\&"
        yield ".SH DESCRIPTION"
        yield from paragraphs(parser.description or "")
        yield ".SH COMMANDS"
        for command, its in commands.choices.items():
            yield f".SS {escaped(command)}"
            yield escaped(helps[command][:1].upper() + helps[command][1:] + ".")
            yield from terms(_options(its))
        yield ".SH FILES"
        yield from terms(FILES[name])
        yield ".SH EXIT STATUS"
        yield from terms(EXITS)
        yield ".SH SEE ALSO"
        yield escaped("virt-preflight(1), virsh(1), libvirtd(8), polkit(8)")

    return _page(lines())


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for one in parser._actions:
        if isinstance(one, argparse._HelpAction) or one.help is argparse.SUPPRESS:
            continue
        value = one.metavar or ("|".join(map(str, one.choices)) if one.choices else one.dest)
        taken = "" if one.nargs == 0 else f" {value}"
        named = ", ".join(one.option_strings) + taken if one.option_strings else str(value)
        yield named, one.help or ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
