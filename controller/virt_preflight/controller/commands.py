"""What each command does, once its words are understood: ask, show, and say how it went."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from virt_preflight.controller import fleet
from virt_preflight.controller.answers import Heard
from virt_preflight.controller.asking import Watch, unwatched
from virt_preflight.controller.catalogue import Catalogue, named
from virt_preflight.controller.dryrun import DryRun
from virt_preflight.controller.exits import Exit
from virt_preflight.controller.options import with_defaults
from virt_preflight.controller.outcome import Demand, exit_code, strict_exit_code
from virt_preflight.controller.progress import counter
from virt_preflight.controller.question import GuestFile, Question, Questions
from virt_preflight.controller.render import documents, encoding
from virt_preflight.controller.render.forms import Form, Look
from virt_preflight.controller.respondent import Agents, Respondent, Seen, Service, Timed
from virt_preflight.controller.settings import (
    SERVER_VARIABLE,
    Settings,
    address_of,
    read_settings,
)
from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.controller.words import CheckWords, Colour, FleetWords, ServeWords, ShowWords
from virt_preflight.treaty import request_id
from virt_preflight.treaty.addresses import WANTED, wrong_address
from virt_preflight.treaty.logs import LogFormat, log_to_stderr
from virt_preflight.treaty.tls import LIBVIRTS

# What agents accept of one guest.
XML_AT_MOST = 10 * 1024 * 1024
STDIN = "-"
REQUEST_ID_VARIABLE = "VIRT_PREFLIGHT_REQUEST_ID"


@contextmanager
def _one_question() -> Iterator[None]:
    """All that is asked by one command has one id, which is the script's own if it gives one."""
    given = os.environ.get(REQUEST_ID_VARIABLE, "")
    if given and not request_id.is_one(given):
        raise MisusedError(f"${REQUEST_ID_VARIABLE}: {given}: wanted {request_id.WANTED}")
    with request_id.asking(given):
        yield


@_one_question()
def check(words: CheckWords, which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight check`."""
    question = _question(words)
    respondent = _respondent(which)
    with _watch() as watch:
        run = respondent.dry_run(question, watch)
    _write(_dry_run(run, show))
    demand = Demand.EVERY if words.to_hosts else Demand.ANY
    judge = strict_exit_code if words.strict else exit_code
    return judge(run.candidates, demand)


@_one_question()
def hosts(which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight hosts`."""
    respondent = _respondent(which)
    with _watch() as watch:
        timed = respondent.hosts(watch)
    _write(_host_list(timed, show))
    answered = any(isinstance(answer, Heard) for _, answer in timed.said)
    return Exit.OK if answered else Exit.CANNOT_SAY


@_one_question()
def checks(which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight checks`."""
    _write(_check_list(_respondent(which).checks(), show))
    return Exit.OK


@_one_question()
def explain(check_id: str, which: FleetWords, show: ShowWords) -> int:
    """`virt-preflight explain CHECK`."""
    catalogue = _respondent(which).checks()
    one = named(check_id, catalogue.checks)
    if show.form in (Form.TABLE, Form.WIDE):
        from virt_preflight.controller.render.lists import explanation

        _write(explanation(one, _look(show)))
    else:
        _write(_check_list(replace(catalogue, checks=(one,)), show))
    return Exit.OK


def serve(words: ServeWords, which: FleetWords) -> int:
    """`virt-preflight serve`."""
    from virt_preflight.controller import service

    if (wrong := wrong_address(words.listen or ())) is not None:
        raise MisusedError(f"--listen {wrong}: {WANTED}")
    given = read_settings(None if words.config is None else Path(words.config))
    settings = msgspec.structs.replace(
        given,
        listen=words.listen or given.listen,
        insecure=words.insecure or given.insecure,
        metrics=words.metrics or given.metrics,
        log_format=LogFormat(words.log_format or given.log_format),
    )
    if which.hosts is None and which.fleet is None:
        which = replace(which, fleet=given.fleet)
    log_to_stderr(settings.log_format)
    known, read_again = _served(which, settings)
    if words.check_config:
        service.check(settings)
    else:
        asyncio.run(service.until_stopped(known, settings, read_again))
    return Exit.OK


def _served(
    which: FleetWords, settings: Settings
) -> tuple[fleet.Fleet, Callable[[], fleet.Fleet] | None]:
    """The fleet of a service, and how it is read again where it is in a file."""
    if which.hosts is not None:
        return _armed(fleet.from_names(which.hosts), settings), None
    hosts_may_come = settings.announced.hosts == "allow"
    if which.fleet is None and hosts_may_come and fleet.find(os.environ) is None:
        return _armed(fleet.Fleet(hosts=()), settings), None
    path = fleet.locate(which.fleet, os.environ, "--hosts or --fleet")

    def read() -> fleet.Fleet:
        return _armed(fleet.read(path, hosts_may_come=hosts_may_come), settings)

    return read(), read


def _armed(known: fleet.Fleet, settings: Settings) -> fleet.Fleet:
    """With the service's own certificates, where the fleet file names none."""
    return replace(known, tls=settings.tls.of_client()) if known.tls == LIBVIRTS else known


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
        labels=words.labels,
        options=with_defaults(options),
        questions=Questions(
            depth=words.depth,
            only=words.only,
            skip=words.skip,
            waive=words.waive,
            allow=words.allow,
        ),
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


def _respondent(which: FleetWords) -> Respondent:
    """The hosts or the controller that the user names, else those that files and variables name."""
    given = [name for name in ("hosts", "fleet", "server") if getattr(which, name) is not None]
    # Of a fleet file a controller's clients take the certificates.
    if len(given) > 1 and given != ["fleet", "server"]:
        raise MisusedError(f"{' and '.join(f'--{name}' for name in given)} exclude each other")
    server = which.server
    elsewhere = os.environ.get(SERVER_VARIABLE)
    if server is None and not given and elsewhere and not fleet.is_known(os.environ):
        server = elsewhere
    if server is not None:
        trust = fleet.trust(which.fleet, os.environ)
        return Service(address=address_of(server), timeout_s=which.timeout_s, trust=trust)
    known = _fleet(which, "--hosts, --fleet or --server")
    return Agents(fleet=known, timeout_s=which.timeout_s)


def _fleet(which: FleetWords, ways: str) -> fleet.Fleet:
    if which.hosts is not None:
        return fleet.from_names(which.hosts)
    return fleet.read(fleet.locate(which.fleet, os.environ, ways))


@contextmanager
def _watch() -> Iterator[Watch]:
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield unwatched
        return
    with counter(sys.stderr) as watch:
        yield watch


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


def _host_list(timed: Timed[Seen], show: ShowWords) -> str:
    known = fleet.Fleet(hosts=tuple(host for host, _ in timed.said))
    answers = [answer for _, answer in timed.said]
    match show.form:
        case Form.JSON | Form.YAML as form:
            document = documents.host_list(known, answers, timed.asked_at, timed.took_ms)
            return encoding.as_json(document) if form is Form.JSON else encoding.as_yaml(document)
        case Form.JSONL:
            return encoding.as_json_lines(documents.described_hosts(known, answers))
        case Form.NAME:
            heard = (host.name for host, answer in timed.said if isinstance(answer, Heard))
            return encoding.as_names(heard)
        case form:
            from virt_preflight.controller.render.lists import hosts_table

            return hosts_table(known, answers, form, _look(show), timed.asked_at)


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
