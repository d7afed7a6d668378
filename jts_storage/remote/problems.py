"""The errors of the kit as a gateway tells them, and back."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.message import DecodeError

from jts_storage import errors
from jts_storage.errors import ConnectionFailed, InvalidData, PoolTimeout, StorageError
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import values

TRAILER: Final = "jts-problem-bin"
NOT_CONNECTED: Final = "failed to connect to all addresses"
"""What gRPC says where a call was not sent."""

_LONGEST: Final = 1_200
"""Characters of a text: what comes behind an answer has 8 KiB."""

KINDS: Final[dict[str, type[StorageError]]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, StorageError)
}
_CODES: Final = (
    (errors.OutcomeUnknown, grpc.StatusCode.UNKNOWN),
    (errors.InUse, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.SchemaDrift, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Conflict, grpc.StatusCode.ABORTED),
    (errors.InvalidData, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.InvalidConfiguration, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.PoolTimeout, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.ConnectionFailed, grpc.StatusCode.UNAVAILABLE),
)


UNFINISHED: Final = "unfinished"
"""The code of the error of a commit that is decided, and not in every store yet."""


def unfinished(unit_id: str) -> StorageError:
    return StorageError(
        f"Unit of work {unit_id} is decided, but not every store has it yet.",
        code=UNFINISHED,
        remedy="Do not repeat it: `recover` will finish it, as does the next opening.",
    )


def code_of(error: StorageError) -> grpc.StatusCode:
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.UNKNOWN)


def problem_of(error: StorageError) -> pb.Problem:
    """All that an error says; secrets are in none."""
    problem = pb.Problem(
        kind=next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in KINDS),
        message=_short(str(error.args[0])),
        remedy=_short(error.remedy or ""),
        transient=error.transient,
        repeatable=error.repeatable,
    )
    if error.code is not None:
        values.fill(problem.code, error.code, "code")
    if isinstance(error, InvalidData):
        problem.field = error.field or ""
        problem.document = error.document or ""
        if error.row is not None:
            problem.row = error.row
        _fill_value(problem, error.value)
    if isinstance(error, ConnectionFailed):
        problem.hosts.extend(error.hosts)
    return problem


def error_of(problem: pb.Problem) -> StorageError:
    """The error that a gateway told."""
    kind = KINDS.get(problem.kind, StorageError)
    error = kind.__new__(kind)
    # Past the constructor, which would put field and row before the message once more.
    Exception.__init__(error, problem.message)
    error.remedy = problem.remedy or None
    error.code = values.read(problem.code) if problem.HasField("code") else None
    error.transient, error.repeatable = problem.transient, problem.repeatable
    if isinstance(error, InvalidData):
        error.field = problem.field or None
        error.document = problem.document or None
        error.row = problem.row if problem.HasField("row") else None
        error.value = values.read(problem.value) if problem.HasField("value") else None
    if isinstance(error, ConnectionFailed):
        error.hosts = tuple(problem.hosts)
    return error


def _fill_value(problem: pb.Problem, value: object) -> None:
    if value is None:
        return
    if isinstance(value, str | bytes) and len(value) > _LONGEST:
        value = value[:_LONGEST]
    try:
        values.fill(problem.value, value, "value")
    except StorageError:
        problem.ClearField("value")
    if problem.value.ByteSize() > _LONGEST:
        values.fill(problem.value, repr(value)[:_LONGEST], "value")


def _short(text: str) -> str:
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return shown.encode("utf-8", "backslashreplace").decode()


def told(exc: grpc.aio.AioRpcError) -> StorageError | None:
    """The error that the gateway itself told; None if gRPC ended the call, or something between."""
    for name, data in exc.trailing_metadata() or ():
        if name == TRAILER and isinstance(data, bytes):
            try:
                return error_of(pb.Problem.FromString(data))
            except (DecodeError, StorageError):
                return None
    return None


def of_status(exc: grpc.aio.AioRpcError, doing: str, address: str) -> StorageError:
    """What gRPC says of a call that failed before a repository was asked."""
    code, details = exc.code(), _short(exc.details() or "")
    if code is grpc.StatusCode.UNAVAILABLE or _is_broken(exc):
        return away(f"No gateway answers at {address} ({doing}): {details}", address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return GatewaySilent(
            f"The gateway at {address} took too long ({doing})",
            hosts=[address],
            remedy="Ask for less at once, or raise `timeout` in the url.",
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return StorageError(
            f"The gateway at {address} does not know this client: {details}",
            remedy="Give a token that it knows: grpcs://token@host:port.",
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return StorageError(
            f"The gateway at {address} refuses this ({doing}): {details}",
            remedy="Use a token with that scope.",
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return StorageError(
            f"The gateway at {address} does not know how ({doing}).",
            remedy="Upgrade jts-storage there.",
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _too_much(doing, address, details)
    return StorageError(f"The gateway at {address} failed ({doing}): {details}", code=code.name)


def _is_broken(exc: grpc.aio.AioRpcError) -> bool:
    """Whether the stream ended under a call: gRPC says so in several ways, by where it noticed."""
    return exc.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED) or (
        exc.code() is grpc.StatusCode.UNKNOWN and "Stream removed" in (exc.details() or "")
    )


def _too_much(doing: str, address: str, details: str) -> StorageError:
    if "message larger than max" in details:
        return StorageError(
            f"What was asked is larger than one message ({doing}): {details}",
            remedy="Ask for less at once.",
        )
    error = PoolTimeout(
        f"The gateway at {address} runs as many calls as it takes ({doing}): {details}",
        remedy="Ask for less at a time, or let it take more (--calls).",
    )
    error.repeatable = True
    return error


def away(message: str, address: str) -> ConnectionFailed:
    """The error where no gateway was reached."""
    error = GatewayAway(message, hosts=[address], remedy="Is `jts-storage serve` running there?")
    error.repeatable = True
    return error


def too_slow(address: str, seconds: float) -> ConnectionFailed:
    return GatewaySilent(
        f"The gateway at {address} sent nothing for {seconds:g} s",
        hosts=[address],
        remedy="Ask for less at once, or raise `timeout` in the url.",
    )


class GatewayAway(ConnectionFailed):
    """No gateway was reached, or the connection to it broke."""


class GatewaySilent(ConnectionFailed):
    """A gateway that took a call did not answer in time: it hangs, or has much to do."""


class UnknownCall(StorageError):
    """A gateway of an earlier release was called."""


def plain(error: StorageError) -> str:
    """What a client without the kit sees of an error."""
    return _short(str(error))
