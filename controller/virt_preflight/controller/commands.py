"""What each command does, once its words are understood: ask, show, and say how it went."""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from virt_preflight.controller import asking, fleet, wire
from virt_preflight.controller.agents import Agents
from virt_preflight.controller.answers import Heard
from virt_preflight.controller.asking import Asker, Watch, unwatched
from virt_preflight.controller.catalogue import Catalogue, named
from virt_preflight.controller.depth import LONGER_S, Depth
from virt_preflight.controller.dryrun import DryRun, conclude
from virt_preflight.controller.exits import Exit
from virt_preflight.controller.fanout import Pace
from virt_preflight.controller.options import MigrationOptions
from virt_preflight.controller.outcome import Demand, exit_code, strict_exit_code
from virt_preflight.controller.progress import counter
from virt_preflight.controller.question import GuestFile, Question, Questions
from virt_preflight.controller.render import documents, encoding
from virt_preflight.controller.render.forms import Form, Look
from virt_preflight.controller.sockets import make_room
from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.controller.words import CheckWords, Colour, FleetWords, ShowWords

T = TypeVar("T")

# What agents accept of one guest.
XML_AT_MOST = 10 * 1024 * 1024
STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed(Generic[T]):
    """An answer, when it was asked for and how long it took."""

    said: T
    asked_at: datetime
    took_ms: int


def check(words: CheckWords, which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight check`."""
    question = _question(words)
    hosts = _fleet(which)
    with _watch() as watch:
        ask = partial(asking.ask, question)
        timed = _timed(lambda: _asking(hosts, which, watch, ask, words.depth))
    run = conclude(timed.said, question, hosts.uris, timed.asked_at, timed.took_ms)
    _write(_dry_run(run, show))
    demand = Demand.EVERY if words.to_hosts else Demand.ANY
    judge = strict_exit_code if words.strict else exit_code
    return judge(run.candidates, demand)


def hosts(which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight hosts`."""
    known = _fleet(which)
    call = wire.describe_host()

    async def ask(asker: Asker) -> list[documents.Described]:
        return await asker.all("asking", known.hosts, call, asker.brisk)

    with _watch() as watch:
        timed = _timed(lambda: _asking(known, which, watch, ask))
    _write(_host_list(known, timed, show))
    answered = any(isinstance(answer, Heard) for answer in timed.said)
    return Exit.OK if answered else Exit.CANNOT_SAY


def checks(which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight checks`."""
    _write(_check_list(_catalogue(which), show))
    return Exit.OK


def explain(check_id: str, which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight explain CHECK`."""
    catalogue = _catalogue(which)
    one = named(check_id, catalogue.checks)
    if show.form in (Form.TABLE, Form.WIDE):
        from virt_preflight.controller.render.lists import explanation

        _write(explanation(one, _look(show)))
    else:
        _write(_check_list(replace(catalogue, checks=(one,)), show))
    return Exit.OK


def _question(words: CheckWords) -> Question:
    guest: str | GuestFile | None = words.domain
    options = words.options
    if words.xml_file is not None:
        xml = _domain_xml(words.xml_file)
        if guest is None:
            guest = GuestFile(name=_spoken_file(words.xml_file), xml=xml)
        else:
            options = replace(options, xml=xml, xml_file=words.xml_file)
    if guest is None:
        raise MisusedError("check: name a domain, or give the XML of one with --xml FILE")
    if isinstance(guest, GuestFile) and words.from_host is not None:
        raise MisusedError("--from: a domain from a file runs nowhere yet; name one to use --from")
    return Question(
        guest=guest,
        from_host=words.from_host,
        to_hosts=words.to_hosts,
        options=with_defaults(options),
        questions=Questions(
            depth=words.depth,
            only=words.only,
            skip=words.skip,
            waive=words.waive,
            allow=words.allow,
        ),
    )


def with_defaults(options: MigrationOptions) -> MigrationOptions:
    """A live move by way of libvirtd, unless the user wants another: what the command will do."""
    if options.live and options.offline:
        raise MisusedError("--live and --offline exclude each other")
    if options.compressed and options.parallel:
        # qemuMigrationParamsSetCompression, qemu/qemu_migration_params.c, since libvirt 9.4.
        raise MisusedError("--compressed and --parallel exclude each other")
    return replace(
        options,
        live=options.live or not options.offline,
        p2p=options.p2p or not options.direct,
    )


def _domain_xml(file_name: str) -> bytes:
    spoken = _spoken_file(file_name)
    try:
        xml = _read(file_name)
    except OSError as error:
        raise CannotRunError(f"{spoken}: {error.strerror}") from error
    if len(xml) > XML_AT_MOST:
        raise CannotRunError(f"{spoken}: larger than {XML_AT_MOST >> 20} MiB")
    if not xml.strip():
        raise CannotRunError(f"{spoken}: is empty")
    try:
        xml.decode()
    except UnicodeDecodeError as error:
        line = xml.count(b"\n", 0, error.start) + 1
        raise CannotRunError(f"{spoken}: not UTF-8 (at line {line})") from error
    return xml


def _read(file_name: str) -> bytes:
    if file_name != STDIN:
        with Path(file_name).open("rb") as file:
            return _capped(file)
    if sys.stdin is None:
        raise CannotRunError("standard input: is closed")
    return _capped(sys.stdin.buffer)


def _capped(file: BinaryIO) -> bytes:
    return file.read(XML_AT_MOST + 1)


def _spoken_file(file_name: str) -> str:
    return "standard input" if file_name == STDIN else file_name


def _fleet(which: FleetWords) -> fleet.Fleet:
    if which.hosts is not None and which.fleet is not None:
        raise MisusedError("--hosts and --fleet exclude each other")
    if which.hosts is not None:
        return fleet.from_names(which.hosts)
    return fleet.read(fleet.locate(which.fleet, os.environ))


def _asking(
    known: fleet.Fleet,
    which: FleetWords,
    watch: Watch,
    ask: Callable[[Asker], Awaitable[T]],
    depth: Depth = Depth.FACTS,
) -> T:
    """What came of it. Connections to agents are open from the first question to the last."""
    room = make_room(len(known.hosts), known.in_flight)

    def pace(depth: Depth) -> Pace:
        each_s = patience_s(known, which, depth)
        return Pace(each_s=each_s, all_s=max(each_s, known.deadline_s), in_flight=room.in_flight)

    async def connected() -> T:
        async with Agents(room.kept) as agents:
            paces = {"pace": pace(depth), "brisk": pace(Depth.FACTS)}
            return await ask(Asker(fleet=known, agents=agents, watch=watch, **paces))

    return asyncio.run(connected())


def patience_s(known: fleet.Fleet, which: FleetWords, depth: Depth) -> float:
    """How long one host is waited for. What the user says at the terminal holds as it is."""
    return known.timeout_s + LONGER_S[depth] if which.timeout_s is None else which.timeout_s


@contextmanager
def _watch() -> Iterator[Watch]:
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield unwatched
        return
    with counter(sys.stderr) as watch:
        yield watch


def _catalogue(which: FleetWords) -> Catalogue:
    return _asking(_fleet(which), which, unwatched, asking.ask_for_checks)


def _timed(ask: Callable[[], T]) -> Timed[T]:
    asked_at, started = datetime.now(UTC), time.monotonic()
    said = ask()
    return Timed(said=said, asked_at=asked_at, took_ms=round((time.monotonic() - started) * 1000))


def _dry_run(run: DryRun, show: ShowWords) -> str:
    match show.form:
        case Form.JSON:
            return encoding.as_json(documents.dry_run(run))
        case Form.JSONL:
            return encoding.as_json_lines(documents.hosts_of(run))
        case Form.YAML:
            return encoding.as_yaml(documents.dry_run(run))
        case Form.NAME:
            return encoding.as_names(one.host for one in run.candidates if one.takes_it)
        case form:
            from virt_preflight.controller.render.table import dry_run_table

            return dry_run_table(run, form, _look(show))


def _host_list(known: fleet.Fleet, timed: Timed[list[documents.Described]], show: ShowWords) -> str:
    match show.form:
        case Form.JSON | Form.YAML as form:
            document = documents.host_list(known, timed.said, timed.asked_at, timed.took_ms)
            return encoding.as_json(document) if form is Form.JSON else encoding.as_yaml(document)
        case Form.JSONL:
            return encoding.as_json_lines(documents.described_hosts(known, timed.said))
        case Form.NAME:
            heard = (answer.host for answer in timed.said if isinstance(answer, Heard))
            return encoding.as_names(heard)
        case form:
            from virt_preflight.controller.render.lists import hosts_table

            return hosts_table(known, timed.said, form, _look(show))


def _check_list(catalogue: Catalogue, show: ShowWords) -> str:
    match show.form:
        case Form.JSON:
            return encoding.as_json(documents.check_list(catalogue))
        case Form.JSONL:
            return encoding.as_json_lines(documents.described_checks(catalogue))
        case Form.YAML:
            return encoding.as_yaml(documents.check_list(catalogue))
        case Form.NAME:
            return encoding.as_names(one.check for one in catalogue.checks)
        case form:
            from virt_preflight.controller.render.lists import checks_table

            return checks_table(catalogue, form, _look(show))


def _look(show: ShowWords) -> Look:
    terminal = sys.stdout is not None and sys.stdout.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Look(
        width=shutil.get_terminal_size().columns if terminal else None,
        colour=show.colour is Colour.ALWAYS
        or (show.colour is Colour.AUTO and terminal and not plain),
    )


def _write(text: str) -> None:
    """To standard output. That nobody reads to the end (`| head`) is no error of ours."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
    except OSError as error:
        _abandon_stdout()
        raise CannotRunError(f"standard output: {error.strerror}") from error


def _abandon_stdout() -> None:
    """Python flushes once more at its end; what is left goes where it cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
