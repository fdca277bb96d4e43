"""Requests that no agent can answer: refused with the field, over real gRPC."""

from __future__ import annotations

import grpc
import pytest

from tests.service.test_agent import GUEST, channel, guest, refusal
from virt_preflight.v1 import agent_pb2, guest_pb2

__all__ = ["channel"]  # the fixture

NO_MEMORY = GUEST.replace(b"<memory ", b"<memo ").replace(b"</memory>", b"</memo>")


@pytest.mark.parametrize(
    ("request_", "field", "part"),
    [
        (
            agent_pb2.PrepareDryRunRequest(guests=[guest(NO_MEMORY)]),
            "guests[0].domain_xml",
            "<domain>: has no <memory>",
        ),
        (
            agent_pb2.PrepareDryRunRequest(
                guests=[guest()],
                options=guest_pb2.MigrationOptions(
                    xml=b"<domain type='kvm'><name>x</name></domain>"
                ),
            ),
            "options.xml",
            "line 1: <domain>: has no <os> with a <type>",
        ),
        (
            agent_pb2.PrepareDryRunRequest(
                guests=[guest()], questions=guest_pb2.Questions(allow=["bees"])
            ),
            "questions.allow",
            "nothing is called 'bees', only hooks, open-vswitch",
        ),
    ],
    ids=["no memory", "incomplete --xml", "unknown allowance"],
)
async def test_what_is_missing_or_unknown_is_named_with_its_field(
    channel: grpc.aio.Channel,
    request_: agent_pb2.PrepareDryRunRequest,
    field: str,
    part: str,
) -> None:
    violation = await refusal(channel, request_)
    assert violation.field == field
    assert part in violation.description
