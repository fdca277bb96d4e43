"""The command line. Only click is imported up here: `--help` and completion must be instant."""

import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

import click

from virt_preflight.controller.depth import Depth
from virt_preflight.controller.exits import Exit
from virt_preflight.controller.grammar import (
    fleet_options,
    hosts_options,
    listen_options,
    migrate_options,
    place_options,
    question_options,
    show_options,
    word,
)
from virt_preflight.controller.options import FLAGS, MigrationOptions
from virt_preflight.controller.printable import printable
from virt_preflight.controller.render.forms import Form
from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.controller.words import CheckWords, Colour, FleetWords, ServeWords, ShowWords

PROGRAM = "virt-preflight"

EXIT_CODES = """\b
Exit codes:
  0    some host can take it (with --to: all of them can)
  1    could not run
  2    the command line makes no sense
  3    no host can take it (or, with --to, not every host is known to)
  4    --strict, and it could only be moved at a risk
  5    cannot say: no host can take it; some did not answer or could not tell
  130  interrupted
With 0, 3, 4 and 5 there is an answer on standard output, with 1 and 2 none.
A guest that no host has is 1; when no host answers at all, it is 5.
"""

EXIT_CODES_OF_LISTS = """\b
Exit codes:
  0    some host answered
  1    could not run
  2    the command line makes no sense
  5    cannot say: no host answered
  130  interrupted
"""

EXIT_CODES_OF_CHECKS = """\b
Exit codes:
  0    here it is
  1    could not run: no host answered
  2    the command line makes no sense, or there is no such check
  130  interrupted
"""

EXIT_CODES_OF_SERVE = """\b
Exit codes:
  0    it was told to stop (SIGTERM, SIGINT) and has
  1    could not run
  2    the command line makes no sense
"""

DEPTHS = """\b
Depths, each further than the one before:
  facts      what the agents know of their hosts
  libvirt    libvirt's own answers, as far as it gives them without an effect
  trial      every destination starts a small stand-in of the guest, paused,
             and ends it at once: tens of MiB are taken meanwhile, hooks run
  rehearsal  the destinations prepare for the guest itself, one after another,
             and call it off: a QEMU starts there, huge pages and locked
             memory are taken meanwhile; where there are hooks, with --allow
The first two have no effect on any host; of the others lines in logs stay.
"""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="virt-preflight", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> int:
    """The dry run of live migration: which hosts can take a guest, and why not the others."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(Exit.USAGE)
    return 0


@cli.command(epilog=f"{DEPTHS}\n{EXIT_CODES}")
@place_options
@migrate_options
@question_options
@fleet_options
@show_options
def check(**given: Any) -> int:
    """Whether DOMAIN could be moved, where to, and why not elsewhere."""
    from virt_preflight.controller import commands

    words, which, show = _check_words(given), _fleet_words(given), _show_words(given)
    code = commands.check(words, which, show)
    if words.allow and words.depth is not Depth.REHEARSAL:
        _told("note: --allow changes nothing without --depth rehearsal", Exit.OK)
    return code


@cli.command(epilog=EXIT_CODES_OF_LISTS)
@fleet_options
@show_options
def hosts(**given: Any) -> int:
    """The fleet: who answers, versions, what is free, age of facts."""
    from virt_preflight.controller import commands

    return commands.hosts(_fleet_words(given), _show_words(given))


@cli.command(epilog=EXIT_CODES_OF_SERVE)
@listen_options
@hosts_options
def serve(**given: Any) -> int:
    """The controller as a service: schedulers and commands with --server ask it over gRPC."""
    from virt_preflight.controller import commands

    words = ServeWords(
        config=given["config"],
        listen=given["listen"],
        insecure=given["insecure"],
        log_format=given["log_format"],
        metrics=given["metrics"],
        check_config=given["check_config"],
    )
    hosts = FleetWords(hosts=given["hosts"], fleet=given["fleet"], server=None, timeout_s=None)
    return commands.serve(words, hosts)


@cli.command(epilog=EXIT_CODES_OF_CHECKS)
@fleet_options
@show_options
def checks(**given: Any) -> int:
    """Every check: id, severity, title."""
    from virt_preflight.controller import commands

    return commands.checks(_fleet_words(given), _show_words(given))


@cli.command(epilog=EXIT_CODES_OF_CHECKS)
@click.argument("check_id", metavar="CHECK", type=word)
@fleet_options
@show_options
def explain(check_id: str, **given: Any) -> int:
    """One check: what it looks at, why it matters, the remedy."""
    from virt_preflight.controller import commands

    return commands.explain(check_id, _fleet_words(given), _show_words(given))


def main() -> NoReturn:
    """The program."""
    # What gRPC logs about an unreachable host is said by us, in one line and in plain words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code for the arguments. Whatever ends the command early is told in one line."""
    try:
        return int(cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False))
    except click.UsageError as error:
        return _told(error.format_message(), Exit.USAGE)
    except MisusedError as error:
        return _told(str(error), Exit.USAGE)
    except click.ClickException as error:
        return _told(error.format_message(), Exit.CANNOT_RUN)
    except CannotRunError as error:
        return _told(str(error), Exit.CANNOT_RUN)
    except OSError as error:
        return _told(error.strerror or str(error), Exit.CANNOT_RUN)
    except (click.Abort, KeyboardInterrupt):
        return _told("interrupted", Exit.INTERRUPTED)


def _told(what: str, code: Exit) -> int:
    with suppress(OSError):  # nobody can be told; the exit code still says it
        click.echo(f"{PROGRAM}: {printable(' '.join(what.split()))}", err=True)
    return code


def _check_words(given: dict[str, Any]) -> CheckWords:
    flags = {name: given[name] for name in FLAGS}
    return CheckWords(
        domain=given["domain"],
        xml_file=given["xml_file"],
        from_host=given["from_host"],
        to_hosts=_flat(given["to_hosts"]),
        labels=tuple(dict.fromkeys(given["labels"])),
        options=MigrationOptions(
            **flags,
            migrate_disks=given["migrate_disks"] or (),
            dname=given["dname"] or "",
            migrateuri=given["migrateuri"] or "",
            desturi=given["desturi"] or "",
        ),
        only=_flat(given["only"]),
        skip=_flat(given["skip"]),
        waive=_flat(given["waive"]),
        allow=_flat(given["allow"]),
        depth=Depth(given["depth"]),
        strict=given["strict"],
    )


def _fleet_words(given: dict[str, Any]) -> FleetWords:
    return FleetWords(
        hosts=given["hosts"],
        fleet=given["fleet"],
        server=given["server"],
        timeout_s=given["timeout_s"],
    )


def _show_words(given: dict[str, Any]) -> ShowWords:
    return ShowWords(form=Form(given["form"]), colour=Colour(given["colour"]))


def _flat(lists: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The words of a repeated option, each once, in the order in which they were given."""
    return tuple(dict.fromkeys(one for group in lists for one in group))
