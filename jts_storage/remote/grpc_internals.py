"""All that the kit uses of grpcio beside what it documents: a message to a stream that is over."""

from __future__ import annotations

from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]

DEPENDS_ON = {
    "grpc.aio._call:Call": ("_cython_call",),
    "grpc._cython.cygrpc:InternalError": ("args",),
    "grpc._cython.cygrpc:ExecuteBatchError": ("args",),
}
"""What is used of a class; an attribute counts that its ``__init__`` sets."""


class Ended(Exception):
    """The other end takes no more; reading tells why."""


async def send(stream: Any, message: Any) -> None:
    """Send a message.

    `stream.write` calls whatever ended the stream an internal error, and every second time forgets
    the status that the gateway gave: what was refused would look like a gateway that is away.

    :raises Ended: the stream is over.
    :raises AioRpcError: the same, where its status is here already.
    """
    await stream.wait_for_connection()
    try:
        await stream._cython_call.send_serialized_message(message.SerializeToString())  # noqa: SLF001
    except (cygrpc.InternalError, cygrpc.ExecuteBatchError) as exc:
        raise Ended from exc
