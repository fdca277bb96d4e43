"""This host announces itself: a stream to each controller, for as long as the agent lives.

Whatever happens to a stream, the agent answers on, and tries again until it is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import grpc

from virt_preflight.agent.announcement import Announcement
from virt_preflight.treaty.addresses import host_of
from virt_preflight.treaty.certificates import BadCertificateError
from virt_preflight.treaty.identities import Handshakes
from virt_preflight.treaty.rebuffs import rebuff
from virt_preflight.treaty.tls import ClientTls
from virt_preflight.v1 import fleet_pb2, fleet_pb2_grpc

# Between two attempts: at first, and at most. A controller that starts again has all agents of the
# fleet come back within the first seconds, none at the same moment.
AGAIN_AFTER_S = 1.0
AGAIN_AT_MOST_S = 30.0
# Up to so much of a wait is left to chance.
JITTER = 0.5
ANSWERED_WITHIN_S = 10.0
# What a controller may ask for; it is not to keep us busy, nor to have us fall silent.
HEAR_EVERY_S = (1.0, 3600.0)
CHANNEL = (
    # Controllers are in the operator's own network; http_proxy is for the way out of it.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # One that vanished is noticed, however long it is until the next heartbeat.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 * 1024),
)
WORDS_AT_MOST = 300
# Before it gRPC names addresses, after it what the kernel said.
NOT_CONNECTED = "Failed to connect to remote host: "


@asynccontextmanager
async def announcing(
    announcement: Announcement | None, tls: ClientTls, *, insecure: bool
) -> AsyncIterator[None]:
    """While the block lasts, the controllers are told that this host is there."""
    if announcement is None:
        yield
        return
    handshakes = Handshakes(tls)
    tellers = [
        _Teller(controller, announcement, handshakes, insecure=insecure)
        for controller in announcement.controllers
    ]
    tasks = [asyncio.create_task(teller.tell_for_ever()) for teller in tellers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Teller:
    """One controller, and what was last said of it: each change once."""

    def __init__(
        self, controller: str, announcement: Announcement, handshakes: Handshakes, *, insecure: bool
    ) -> None:
        self._controller = controller
        self._handshakes = handshakes
        self._insecure = insecure
        self._presence = fleet_pb2.Presence(
            name=announcement.name,
            address=announcement.address,
            labels=dict(announcement.labels),
            agent_version=version("virt-preflight-agent"),
        )
        self._said = ""

    async def tell_for_ever(self) -> None:
        now = asyncio.get_running_loop().time
        wait_s = AGAIN_AFTER_S
        while True:
            began = now()
            why = await self._tell()
            self._say(logging.WARNING, f"not announced to {self._controller}: {why}")
            # One that ends soon each time is no reason to try ever more often.
            if now() - began > AGAIN_AT_MOST_S:
                wait_s = AGAIN_AFTER_S
            await asyncio.sleep(wait_s * random.uniform(1 - JITTER, 1))  # noqa: S311 - no secret
            wait_s = min(wait_s * 2, AGAIN_AT_MOST_S)

    async def _tell(self) -> str:
        """One stream, from its beginning to its end; why it ended."""
        try:
            credentials = self._handshakes.credentials(self._controller, insecure=self._insecure)
        except BadCertificateError as error:
            return str(error)
        try:
            async with _channel(self._controller, credentials) as channel:
                stream = fleet_pb2_grpc.FleetServiceStub(channel).Announce()
                ended = asyncio.Event()
                stream.add_done_callback(lambda _: ended.set())
                message = fleet_pb2.AnnounceRequest(presence=self._presence)
                while True:
                    async with asyncio.timeout(ANSWERED_WITHIN_S):
                        if not ended.is_set():
                            await stream.write(message)
                        answer = await stream.read()
                    if not isinstance(answer, fleet_pb2.AnnounceResponse):
                        return "it ended the stream"
                    where = f"{self._presence.name} at {self._presence.address}"
                    self._say(logging.INFO, f"announced to {self._controller}: {where}")
                    with suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), _seconds(answer))
                    message = fleet_pb2.AnnounceRequest(heartbeat=fleet_pb2.Heartbeat())
        except TimeoutError:
            return f"no answer within {ANSWERED_WITHIN_S:g} s"
        except grpc.aio.AioRpcError as error:
            return _why(self._controller, error, secret=credentials is not None)
        except asyncio.InvalidStateError:  # it ended while we were about to write
            return "it ended the stream"

    def _say(self, level: int, what: str) -> None:
        if what != self._said:
            self._said = what
            logging.log(level, "%s", what)


def _channel(controller: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(controller, options=CHANNEL)
    return grpc.aio.secure_channel(controller, credentials, options=CHANNEL)


def _seconds(answer: fleet_pb2.AnnounceResponse) -> float:
    least, most = HEAR_EVERY_S
    asked_for = answer.hear_every.seconds + answer.hear_every.nanos / 1e9
    return min(max(asked_for, least), most)


def _why(controller: str, error: grpc.aio.AioRpcError, *, secret: bool) -> str:
    """In one line; a controller is a stranger until proven otherwise."""
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return "no controller answers there, or one that takes no announcements"
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        told = rebuff(error.details() or "", host_of(controller), secret=secret)
        if told is not None:
            return told.why
    said = (error.details() or error.code().name.lower()).rpartition(NOT_CONNECTED)[2]
    plain = "".join(one if one.isprintable() else " " for one in said)
    return " ".join(plain.split())[:WORDS_AT_MOST]
