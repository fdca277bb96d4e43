"""A process that stands for many agents: each on an address of its own, answering at once.

Two cores cannot be a thousand hosts, so what an agent would work out is prepared beforehand: what
is measured is who asks. `python -m tests.bench.simulated NETWORK FIRST COUNT PKI [RECORDING...]`
stands for the agents FIRST to FIRST + COUNT - 1, with the certificates in the folder PKI, "-" being
none. With recordings, each of them examines one of those in earnest. It ends when its standard
input does, so it never outlives whoever started it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import grpc

from tests.bench.pki import server_tls
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.factstore import FactStore
from virt_preflight.agent.policy import Policy
from virt_preflight.agent.service import AgentServicer, serve
from virt_preflight.agent.sources.recording import load
from virt_preflight.treaty.listening import Listening, listen, listening
from virt_preflight.v1 import agent_pb2, guest_pb2, report_pb2

PORT = 50551
PREPARE = "/virt_preflight.v1.AgentService/PrepareDryRun"
ECHO = "/virt_preflight.bench.Echo/Echo"
READY = b"ready\n"
GIB = 1024 * 1024
UUID = "6a1f6c2e-0c1e-4a36-9a53-0d6b1c7e3f10"


def address_of(network: int, number: int) -> str:
    """All of 127.0.0.0/8 is this machine's loopback; each run has a network of its own there."""
    return f"127.{network}.{number // 250}.{1 + number % 250}:{PORT}"


def more_files() -> int:
    """A connection is a file: as many as the machine lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def fleet(
    count: int, processes: int, recordings: Sequence[Path] = (), certificates: Path | None = None
) -> Iterator[list[str]]:
    """The addresses of that many agents in a few processes, which end with the block."""
    each, network = -(-count // processes), network_of_this_run()
    words = [str(certificates or "-"), *map(str, recordings)]
    with ExitStack() as until:
        started = [
            until.enter_context(_standing(network, range(count)[first : first + each], words))
            for first in range(0, count, each)
        ]
        for process in started:
            _await(process)
        yield [address_of(network, number) for number in range(count)]


@contextmanager
def standing_for(first: int, count: int) -> Iterator[None]:
    """Agents of that fleet from `first` on, of a process of their own."""
    with _standing(network_of_this_run(), range(first, first + count), ["-"]) as process:
        _await(process)
        yield


def network_of_this_run() -> int:
    """So that two runs at a time do not meet."""
    return 16 + os.getpid() % 200


@contextmanager
def _standing(network: int, numbers: range, words: Sequence[str]) -> Iterator[Popen[bytes]]:
    which = map(str, (network, numbers.start, len(numbers)))
    command = [sys.executable, "-m", "tests.bench.simulated", *which, *words]
    with Popen(command, stdin=PIPE, stdout=PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def _await(process: Popen[bytes]) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != READY:
        raise RuntimeError("the simulated agents did not start")


def prepared_answers() -> list[bytes]:
    """Real answers, no two alike: every third tells of three findings."""
    return [_answer(number) for number in range(30)]


def _answer(number: int) -> bytes:
    report = report_pb2.Report(
        host=f"compute-{number:04}.example",
        guest_name="db1",
        guest_uuid=UUID,
        verdict=report_pb2.VERDICT_CLEAR,
        claims=report_pb2.Claims(memory_kib=8 * GIB, vcpus=4),
        capacity=report_pb2.Capacity(
            memory_total_kib=512 * GIB, memory_free_kib=(40 + 7 * number) * GIB
        ),
        depth=guest_pb2.DEPTH_FACTS,
        checks_asked=120,
        checks_not_applicable=60,
    )
    report.facts_age.FromMilliseconds(95)
    if number % 3 == 0:
        report.verdict = report_pb2.VERDICT_BLOCKED
        report.findings.extend(_findings())
    return agent_pb2.PrepareDryRunResponse(reports=[report]).SerializeToString()


def _findings() -> Iterator[report_pb2.Finding]:
    for check, title, subject, wanted, found, remedy, command in (
        (
            *("nics.bridge-absent", "bridge absent", "interface 52:54:00:aa:bb:cc"),
            *("bridge br-prod", "no such link"),
            "Create the bridge on the host, or choose a host that has it.",
            "ip link add br-prod type bridge",
        ),
        (
            *("pages.too-few-free", "too few free huge pages", "2048 KiB pages"),
            *("4096 free", "512 free"),
            "Reserve more pages of that size, or first move away a guest that holds some.",
            "virsh allocpages --pagesize 2048 --pagecount 3584 --add",
        ),
        (
            *("disks.absent", "disk absent", "disk vda"),
            *("/var/lib/libvirt/images/db1.qcow2", "no such file"),
            "Put the image on storage that both hosts see, or copy it with --copy-storage-all.",
            "ls -l /var/lib/libvirt/images/db1.qcow2",
        ),
    ):
        yield report_pb2.Finding(
            check=check,
            title=title,
            severity=report_pb2.SEVERITY_BLOCKER,
            side=report_pb2.SIDE_DESTINATION,
            phase=report_pb2.PHASE_PREPARE,
            depth=guest_pb2.DEPTH_FACTS,
            subject=subject,
            wanted=wanted,
            found=found,
            remedy=remedy,
            commands=[command],
        )


def handlers(answers_by_method: dict[str, Iterable[bytes]]) -> grpc.GenericRpcHandler:
    """The next of the method's answers, whatever is asked."""

    def answering(answers: Iterable[bytes]) -> Callable[[bytes, object], Awaitable[bytes]]:
        coming = itertools.cycle(answers)

        async def answer(request: bytes, context: object) -> bytes:
            return next(coming)

        return answer

    found: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        method: grpc.unary_unary_rpc_method_handler(answering(answers))
        for method, answers in answers_by_method.items()
    }

    class Handlers(grpc.GenericRpcHandler):
        def service(
            self, details: grpc.HandlerCallDetails
        ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
            return found.get(details.method)

    return Handlers()


async def answer_at(how: Listening) -> list[grpc.aio.Server]:
    """The prepared answers at all the addresses. The echo's are the same, and nobody's work."""
    answers = prepared_answers()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handlers({PREPARE: answers, ECHO: answers}),))
    listen(server, how)
    await server.start()
    return [server]


async def examine_at(addresses: Sequence[str], recordings: Sequence[Path]) -> list[grpc.aio.Server]:
    """A real agent at each address, for each recording in turn."""
    return [
        await serve(
            AgentServicer(
                host=f"{recording.host}-{number}",
                store=FactStore(source=recording, catalogue=catalogue(), clock=time.monotonic),
                policy=Policy(),
            ),
            Listening(plain=(address,)),
        )
        for number, (address, recording) in enumerate(
            zip(addresses, itertools.cycle([load(path) for path in recordings]), strict=False)
        )
    ]


async def stand_for(
    addresses: Sequence[str], recordings: Sequence[Path] = (), certificates: Path | None = None
) -> None:
    """Until standard input ends."""
    if recordings:
        servers = await examine_at(addresses, recordings)
    else:
        tls = server_tls(certificates)
        # Elsewhere than on loopback the tests have a network of their own.
        how = listening(addresses, tls, insecure=certificates is None)
        servers = await answer_at(how)
    print(READY.decode(), end="", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    for server in servers:
        await server.stop(grace=None)


if __name__ == "__main__":
    more_files()
    net, start, number_of = map(int, sys.argv[1:4])
    asyncio.run(
        stand_for(
            [address_of(net, number) for number in range(start, start + number_of)],
            [Path(word) for word in sys.argv[5:]],
            None if sys.argv[4] == "-" else Path(sys.argv[4]),
        )
    )
