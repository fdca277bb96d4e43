"""Which hosts Prometheus is told of: those of the fleet as it is, not whom a caller names."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import grpc

from tests.controller.fakes import Attends, Hangs, Script, running
from tests.controller.samples import destination, source
from tests.service.controllers import controller, program, until
from tests.service.test_announcing import NOBODY, Visitor
from tests.service.test_metrics import Samples, of, samples
from tests.treaty.test_exposition import free_address, scrape
from virt_preflight.controller.client import Controller
from virt_preflight.controller.depth import Depth
from virt_preflight.controller.question import Questions
from virt_preflight.controller.settings import Announced
from virt_preflight.controller.trouble import CannotRunError, MisusedError
from virt_preflight.v1 import agent_pb2, controller_pb2, controller_pb2_grpc, guest_pb2

REHEARSAL = Questions(depth=Depth.REHEARSAL)
PLAYED = agent_pb2.RehearseDryRunResponse(rehearsal=agent_pb2.Rehearsal(doubt="none"))


def hosts_in(found: Samples) -> set[str]:
    return {dict(labels)["host"] for _, labels in found if "host" in dict(labels)}


def test_a_host_that_is_taken_out_of_the_fleet_file_or_renamed_is_gone_from_the_metrics(
    tmp_path: Path,
) -> None:
    file, address, metrics = tmp_path / "fleet.toml", free_address(), free_address()
    host = '[[host]]\nname = "{}"\naddress = "unix:/nowhere"\n'
    file.write_text("".join(map(host.format, ("h1", "h2", "h3"))))
    arguments = ("--fleet", str(file), "--metrics", metrics)
    with program(*arguments, listen=address) as service, Controller(address) as client:
        assert len(client.hosts()) == 3
        until(lambda: hosts_in(samples(metrics)) == {"h1", "h2", "h3"})
        file.write_text("".join(map(host.format, ("h1", "renamed"))))
        service.send_signal(signal.SIGHUP)
        # Nobody asks the controller anything meanwhile.
        until(lambda: of(samples(metrics), "controller_hosts") == 2)
        assert hosts_in(samples(metrics)) == {"h1"}
        assert len(client.hosts()) == 2
        assert hosts_in(samples(metrics)) == {"h1", "renamed"}


def test_an_announced_host_that_is_forgotten_is_gone_from_the_metrics() -> None:
    metrics, soon = free_address(), Announced(hear_every_s=1, forget_after_days=1 / 86_400)
    with controller(NOBODY, metrics=metrics, announced=soon) as address:
        visitor = Visitor(address)
        visitor.comes("h1")
        with Controller(address) as client:
            assert len(client.hosts()) == 1
        assert hosts_in(samples(metrics)) == {"h1"}
        visitor.goes()
        until(lambda: of(samples(metrics), "controller_hosts") == 0, within_s=60)
        assert hosts_in(samples(metrics)) == set()


def test_a_hostile_caller_makes_no_series() -> None:
    """Whatever he names: guests, hosts, checks, methods, depths, labels, and he himself."""
    metrics = free_address()
    with (
        running(source(), destination("h2")) as fleet,
        controller(fleet.hosts, metrics=metrics) as address,
        Controller(address) as client,
        grpc.insecure_channel(address) as channel,
    ):
        client.rank("db1", within_s=30)
        service = controller_pb2_grpc.ControllerServiceStub(channel)
        rank = controller_pb2.RankRequest
        move, choice = controller_pb2.Move, controller_pb2.GuestChoice

        def ask(word: str, number: int) -> None:
            marked = (("x-request-id", word), ("user-agent", word))
            for request in (
                rank(guest=choice(name=word)),
                rank(guest=choice(name="db1"), move=move(from_host=word)),
                rank(guest=choice(name="db1"), move=move(to_hosts=[word])),
                rank(guest=choice(name="db1"), move=move(labels=[f"rack={word}"])),
                rank(
                    guest=choice(name="db1"),
                    move=move(questions=guest_pb2.Questions(waive=[f"{word}.none"])),
                ),
                rank(
                    guest=choice(name="db1"),
                    move=move(
                        questions=guest_pb2.Questions(depth=guest_pb2.Depth.ValueType(number))
                    ),
                ),
            ):
                with suppress(grpc.RpcError):
                    service.Rank(request, metadata=marked, timeout=30)
            for method in (f"/{word}/{word}", f"/virt_preflight.v1.ControllerService/{word}"):
                with suppress(grpc.RpcError):
                    unnamed(channel, method)
            with suppress(MisusedError, CannotRunError):
                client.hosts(labels=[f"{word}=x"])

        ask("marked-0", 1_000)
        before = series(metrics)
        for number in range(1, 6):
            ask(f"marked-{number}", 1_000 + number)
        assert series(metrics) == before
        assert "marked" not in scrape(metrics)


def unnamed(channel: grpc.Channel, method: str) -> None:
    asked: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    asked(b"", timeout=30)


def series(metrics: str) -> set[object]:
    """But for how the program itself does, which comes and goes with the kernel's mood."""
    return {key for key in samples(metrics) if "_process_" not in key[0]}


def rehearsed(attends: Script, plays: Script, within_s: float = 60) -> Samples:
    """What a controller counts of one rehearsal from h1 to h2."""
    metrics = free_address()
    with (
        running(source(RehearseDryRun=plays), destination("h2", AttendRehearsal=attends)) as fleet,
        controller(fleet.hosts, metrics=metrics) as address,
        Controller(address) as client,
    ):
        client.rank("db1", within_s=within_s, questions=REHEARSAL)
        return samples(metrics)


def took(found: Samples, method: str) -> float | None:
    return of(found, "controller_host_answer_seconds_count", method=method)


def test_the_calls_of_a_rehearsal_are_counted_like_all_others() -> None:
    found = rehearsed(Attends(), PLAYED)
    assert took(found, "AttendRehearsal") == 1
    assert took(found, "RehearseDryRun") == 1
    # Both are looked at; begin, attend, rehearse, prepare.
    assert of(found, "controller_host_answers_total", kind="heard") == 6


def test_of_a_rehearsal_whoever_was_late_is_counted_as_late_and_nobody_else() -> None:
    source_hangs = rehearsed(Attends(), Hangs(), within_s=8)
    assert of(source_hangs, "controller_host_answers_total", kind="late") == 1
    assert of(source_hangs, "controller_host_silent", host="h1", kind="late") == 1
    assert of(source_hangs, "controller_host_silent", host="h2", kind="late") is None
    destination_hangs = rehearsed(Attends(ready=False), PLAYED, within_s=8)
    assert of(destination_hangs, "controller_host_answers_total", kind="late") == 1
    assert of(destination_hangs, "controller_host_silent", host="h2", kind="late") == 1
    assert took(destination_hangs, "RehearseDryRun") is None
