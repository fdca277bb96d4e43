"""virt-preflight-agent: serve | facts | record DIR | replay DIR | deputy | janitor."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from virt_preflight.agent.announcement import Announcement, announced
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.fence import Fence, Fenced
from virt_preflight.agent.settings import BadSettings, Settings, in_file, read_settings
from virt_preflight.agent.sources import Source, SourceError
from virt_preflight.agent.sources.observer import UNOBSERVED, SourceObserver
from virt_preflight.agent.sources.recording import BadRecording, load
from virt_preflight.agent.sources.rehearsing import Broom, Rehearsing
from virt_preflight.agent.sources.stage import Staged
from virt_preflight.treaty.addresses import WANTED, wrong_address
from virt_preflight.treaty.logs import LogFormat, log_to_stderr
from virt_preflight.treaty.tables import BadKeyError

if TYPE_CHECKING:
    from virt_preflight.agent.metrics import Metrics
    from virt_preflight.treaty.listening import Listening

DISTRIBUTION = "virt-preflight-agent"
BY_SYSTEMD = "the {0} is started by systemd: systemctl start virt-preflight-{0}.socket"


class Stop(Exception):
    """The command cannot go on; the text is for the operator."""


class Misused(Exception):
    """The command line asks for something that makes no sense."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done · 1 could not run · 2 usage · 130 interrupted."""
    parsed = _parser().parse_args(arguments)
    log_to_stderr()
    try:
        return int(parsed.command(parsed))
    except Misused as error:
        print(f"{DISTRIBUTION}: {error}", file=sys.stderr)
        return 2
    except BadKeyError as error:
        print(f"{DISTRIBUTION}: {in_file(parsed.config, error)}", file=sys.stderr)
        return 1
    except (Stop, BadSettings, BadRecording, SourceError) as error:
        print(f"{DISTRIBUTION}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        print(f"{DISTRIBUTION}: {named}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=DISTRIBUTION, description="Answers for this host, and changes nothing on it."
    )
    parser.add_argument("--version", action="version", version=version(DISTRIBUTION))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="answer dry runs over gRPC")
    _settings_options(serve)
    _listen_options(serve)
    serve.add_argument(
        "--janitor",
        metavar="SOCKET",
        help="have put back what a rehearsal changes here, by a janitor that listens there; "
        "without one, an agent with a deputy attends no rehearsal",
    )
    serve.add_argument(
        "--check-config",
        action="store_true",
        help="only say what of the configuration, certificates too, it could not start with",
    )
    serve.set_defaults(command=_serve)

    facts = commands.add_parser("facts", help="print what is known of this host")
    _settings_options(facts)
    facts.add_argument("-o", "--output", choices=("text", "json"), default="text")
    facts.set_defaults(command=_facts)

    record = commands.add_parser(
        "record", help="keep what this host answers, for `replay` and for tests"
    )
    _settings_options(record)
    record.add_argument("directory", type=Path, help="new or empty")
    record.add_argument(
        "--guest",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also record what is asked for this domain XML, as if it came here",
    )
    record.add_argument(
        "--scrub", action="store_true", help="replace names, UUIDs, addresses and serials"
    )
    record.set_defaults(command=_record)

    replay = commands.add_parser("replay", help="answer as a recorded host did")
    replay.add_argument("directory", type=Path)
    replay.add_argument("--config", type=Path, metavar="FILE", help="agent.toml")
    _listen_options(replay)
    replay.set_defaults(command=_replay)

    deputy = commands.add_parser(
        "deputy", help="look at files for an agent that may not: started by systemd, by its socket"
    )
    deputy.set_defaults(command=_deputy)

    janitor = commands.add_parser(
        "janitor",
        help="put back what a rehearsal changed, for an agent that may not: started by systemd, "
        "by its socket",
    )
    janitor.add_argument(
        "--config", type=Path, metavar="FILE", help="default /etc/virt-preflight/agent.toml"
    )
    janitor.set_defaults(command=_janitor)
    return parser


def _settings_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="default /etc/virt-preflight/agent.toml"
    )
    parser.add_argument("--connect", metavar="URI", help="libvirt, default qemu:///system")
    parser.add_argument(
        "--deputy", metavar="SOCKET", help="ask for files by way of a deputy that listens there"
    )


def _listen_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="HOST:PORT or unix:/path, may be repeated; default 127.0.0.1:50551",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond loopback without TLS: whoever reaches the port may ask",
    )
    parser.add_argument(
        "--log-format",
        choices=tuple(LogFormat),
        help="lines for people or an object a line; default text",
    )
    parser.add_argument(
        "--metrics", metavar="ADDRESS", help="HOST:PORT where Prometheus asks; default nowhere"
    )


def _settings(parsed: argparse.Namespace) -> Settings:
    if (wrong := wrong_address(getattr(parsed, "listen", None) or ())) is not None:
        raise Misused(f"--listen {wrong}: {WANTED}")
    settings = read_settings(parsed.config)
    return msgspec.structs.replace(
        settings,
        listen=tuple(getattr(parsed, "listen", None) or settings.listen),
        insecure=getattr(parsed, "insecure", False) or settings.insecure,
        libvirt_uri=getattr(parsed, "connect", None) or settings.libvirt_uri,
        metrics=getattr(parsed, "metrics", None) or settings.metrics,
        log_format=LogFormat(getattr(parsed, "log_format", None) or settings.log_format),
    )


def _live(
    settings: Settings, deputy: str | None = None, observer: SourceObserver = UNOBSERVED
) -> Source:
    try:
        from virt_preflight.agent.sources.live.deputy import ByDeputy
        from virt_preflight.agent.sources.live.machine import LiveSource
    except ImportError as error:
        raise Stop(
            f"{error}: install the distribution's python3-libvirt, or virt-preflight-agent[host]"
        ) from None
    if deputy:
        return ByDeputy(settings.libvirt_uri, deputy, observer)
    return LiveSource(settings.libvirt_uri, observer)


def _rehearsing(
    settings: Settings, deputy: str | None, janitor: str | None, observer: SourceObserver
) -> Rehearsing:
    from virt_preflight.agent.sources.live.janitor import BroomOfJanitor, NoBroom
    from virt_preflight.agent.sources.live.rehearsing import LiveBroom, LiveRehearser

    broom: Broom = LiveBroom(settings.libvirt_uri, observer)
    if janitor:
        broom = BroomOfJanitor(janitor, observer)
    elif deputy:
        # Who may not look at files may not put them back either.
        broom = NoBroom()
    return Rehearsing(rehearser=LiveRehearser(settings.libvirt_uri, observer=observer), broom=broom)


def _store(source: Source) -> FactStore:
    return FactStore(
        source=source,
        catalogue=catalogue(),
        clock=time.monotonic,
        stage=source.stage if isinstance(source, Staged) else None,
    )


def _own_name() -> str:
    return os.uname().nodename


def _serve(parsed: argparse.Namespace) -> int:
    settings = _settings(parsed)
    if parsed.check_config:
        _check_config(settings)
        return 0
    metrics = _metrics(settings)
    observer = metrics or UNOBSERVED
    source = _live(settings, parsed.deputy, observer)
    rehearsing = _rehearsing(settings, parsed.deputy, parsed.janitor, observer)
    return _answer_for(_own_name(), source, settings, metrics, rehearsing)


def _replay(parsed: argparse.Namespace) -> int:
    recording, settings = load(parsed.directory), _settings(parsed)
    return _answer_for(recording.host, recording, settings, _metrics(settings))


def _starting(host: str, settings: Settings) -> tuple[Listening, Announcement | None]:
    """How it is to listen, and what to say of itself. Raises Stop, BadKeyError."""
    announcement = announced(settings.announce, host, settings.listen)
    from virt_preflight.treaty.certificates import BadCertificateError
    from virt_preflight.treaty.listening import CannotListenError, listening

    try:
        how = listening(settings.listen, settings.tls, insecure=settings.insecure)
    except (BadCertificateError, CannotListenError) as error:
        raise Stop(str(error)) from None
    return how, announcement


def _check_config(settings: Settings) -> None:
    """What a start would find wrong before it listens. Raises Stop, BadKeyError."""
    _starting(_own_name(), settings)
    if settings.metrics:
        from virt_preflight.treaty.exposition import CannotExpose, how_exposed

        try:
            how_exposed(settings.metrics, settings.tls, insecure=settings.insecure)
        except CannotExpose as error:
            raise Stop(str(error)) from None


def _metrics(settings: Settings) -> Metrics | None:
    """They cost memory and time to start, which nobody has to pay who wants none."""
    if not settings.metrics:
        return None
    from virt_preflight.agent.metrics import Metrics

    return Metrics(version(DISTRIBUTION))


def _answer_for(
    host: str,
    source: Source,
    settings: Settings,
    metrics: Metrics | None,
    rehearsing: Rehearsing | None = None,
) -> int:
    log_to_stderr(settings.log_format)
    # gRPC would write its own lines to stderr beside ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    how, announcement = _starting(host, settings)
    store = _store(source)
    # Who asks from elsewhere may learn of storage; on this machine, and where an operator wants no
    # secrets at all, there is nothing to hide.
    if how.secure or settings.policy.storage is not None:
        fence = Fence(source=source, storage=settings.policy.storage, clock=time.monotonic)
        store.looking = Fenced(source=source, fence=fence)
    with ExitStack() as ending:
        if metrics is not None:
            from virt_preflight.treaty.exposition import CannotExpose, exposed

            metrics.of_facts(store.ages_s)
            try:
                ending.enter_context(
                    exposed(
                        metrics.registry,
                        settings.metrics,
                        settings.tls,
                        insecure=settings.insecure,
                    )
                )
            except CannotExpose as error:
                raise Stop(str(error)) from None
        return asyncio.run(
            _until_stopped(host, store, settings, how, metrics, rehearsing, announcement)
        )


async def _until_stopped(
    host: str,
    store: FactStore,
    settings: Settings,
    how: Listening,
    metrics: Metrics | None,
    rehearsing: Rehearsing | None,
    announcement: Announcement | None,
) -> int:
    from virt_preflight.agent.announcing import announcing
    from virt_preflight.agent.service import AgentServicer, serve, untold
    from virt_preflight.treaty.listening import CannotListenError
    from virt_preflight.treaty.readiness import ready

    servicer = AgentServicer(
        host=host,
        store=store,
        policy=settings.as_policy(),
        rehearsing=rehearsing,
        identity=how.identity,
        reported=metrics.reported if metrics else untold,
    )
    try:
        if metrics is not None and (identity := how.identity) is not None:
            metrics.of_certificate(lambda: identity.ends)
        server = await serve(servicer, how, settings.roles, settings.limits, metrics)
    except CannotListenError as error:
        raise Stop(str(error)) from None
    logging.info("%s answers at %s", host, ", ".join(settings.listen))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    ready()
    if store.stage is not None:
        await loop.run_in_executor(None, store.stage.tidy)
    await loop.run_in_executor(None, servicer.tidy_up)
    async with announcing(announcement, settings.tls, insecure=settings.insecure):
        await loop.run_in_executor(None, servicer.learn_ahead)
        await stopped.wait()
    await server.stop(grace=1.0)
    return 0


def _deputy(_: argparse.Namespace) -> int:
    from virt_preflight.agent.sources.live.deputy import serve
    from virt_preflight.agent.sources.live.lines import listener_of_systemd
    from virt_preflight.agent.sources.live.machine import LiveSource

    listener = listener_of_systemd()
    if listener is None:
        raise Stop(BY_SYSTEMD.format("deputy"))
    serve(listener, LiveSource())
    return 0


def _janitor(parsed: argparse.Namespace) -> int:
    from virt_preflight.agent.sources.live.janitor import Janitor
    from virt_preflight.agent.sources.live.lines import listener_of_systemd, serve

    listener = listener_of_systemd()
    if listener is None:
        raise Stop(BY_SYSTEMD.format("janitor"))
    serve(listener, Janitor(_settings(parsed).libvirt_uri).answer)
    return 0


def _facts(parsed: argparse.Namespace) -> int:
    from virt_preflight.agent.description import facts_as_json, facts_as_text

    settings = _settings(parsed)
    store = _store(_live(settings, parsed.deputy))
    shown = facts_as_json if parsed.output == "json" else facts_as_text
    printed = shown(store, settings.as_policy())
    with suppress(BrokenPipeError):
        print(printed, flush=True)
    return 0


def _record(parsed: argparse.Namespace) -> int:
    from virt_preflight.agent.recorder import record

    settings = _settings(parsed)
    guests = {path: path.read_bytes() for path in parsed.guest}
    record(
        _live(settings, parsed.deputy),
        parsed.directory,
        host=_own_name(),
        guests=guests,
        policy=settings.as_policy(),
        recorded_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        scrub=parsed.scrub,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
