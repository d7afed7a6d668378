"""Calls as a stranger makes them: bytes, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from grpc import aio

from jts_storage import new_unit_id
from jts_storage.errors import StorageError
from jts_storage.proto.jts.storage.v1 import work_pb2 as work
from jts_storage.remote import problems
from jts_storage.remote.grpc_internals import Ended, send
from jts_storage.remote.methods import METHODS
from jts_storage.remote.protocol import path_of


class Told(NamedTuple):
    """How a call ended.

    :param error: what the gateway told of it, if it did.
    """

    code: str
    details: str
    error: StorageError | None


def same(data: bytes) -> bytes:
    return data


@asynccontextmanager
async def channel(address: str) -> AsyncIterator[aio.Channel]:
    opened = aio.insecure_channel(address)
    try:
        yield opened
    finally:
        await opened.close()


async def call(to: aio.Channel, method: str, data: bytes, **options: Any) -> Told:
    """One call of a method with any bytes as its arguments."""
    path = path_of(*method.split("/"))
    known = METHODS.get(method)
    options.setdefault("timeout", 30)
    try:
        if known is None or known.comes == "at once":
            await to.unary_unary(path, same, same)(data, **options)
        else:
            async for _ in to.unary_stream(path, same, same)(data, **options):
                pass
    except aio.AioRpcError as exc:
        return _told(exc)
    return Told("OK", "", None)


async def unit_of_work(to: aio.Channel, messages: Iterable[bytes], **options: Any) -> Told:
    """A stream of any bytes."""
    stream = to.stream_stream(path_of("Gateway", "Work"), same, same)(timeout=30, **options)
    try:
        with suppress(Ended):
            for message in messages:
                await send(stream, _Bytes(message))
            await stream.done_writing()
        while await stream.read() is not aio.EOF:
            pass
    except aio.AioRpcError as exc:
        return _told(exc)
    return Told((await stream.code()).name, await stream.details() or "", None)


async def staged(to: aio.Channel, *chunks: work.Chunk, **options: Any) -> Told:
    """A unit of work that commits chunks, each sent by itself."""
    steps = [
        work.WorkRequest(begin=work.Begin(id=new_unit_id())),
        *(work.WorkRequest(chunk=chunk) for chunk in chunks),
        work.WorkRequest(commit=work.Commit(chunks=len(chunks))),
    ]
    return await unit_of_work(to, [step.SerializeToString() for step in steps], **options)


class _Bytes:
    """Of a message that may be none."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:
        return self._data


def _told(exc: aio.AioRpcError) -> Told:
    return Told(exc.code().name, exc.details() or "", problems.told(exc))
