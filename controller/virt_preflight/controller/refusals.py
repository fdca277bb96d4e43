"""Why there is no answer, as a status has it: code, reason and the fields that are wrong."""

from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

Context = grpc.aio.ServicerContext[Any, Any]

# Of google.rpc.ErrorInfo.
DOMAIN = "virt-preflight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why there is no answer, as a status has it."""

    code: int
    reason: str
    message: str
    fields: tuple[tuple[str, str], ...] = ()


async def refuse(context: Context, told: Refusal) -> NoReturn:
    """End the call with it."""
    status = status_pb2.Status(code=told.code, message=told.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=told.reason, domain=DOMAIN))
    if told.fields:
        bad = error_details_pb2.BadRequest()
        for field, why in told.fields:
            bad.field_violations.add(field=field, description=why)
        status.details.add().Pack(bad)
    packed = rpc_status.to_status(status)
    await context.abort(packed.code, packed.details, packed.trailing_metadata)
    raise AssertionError("abort raises")
