"""The calls of a gateway: arguments read, a port asked, and its answer sent in parts."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from jts_storage._runtime.steps import carried
from jts_storage.errors import ConnectionFailed, InvalidData, StorageError
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import problems, values
from jts_storage.remote.frames import are_columns
from jts_storage.remote.methods import METHODS, Method
from jts_storage.remote.parts import parts_of
from jts_storage.remote.protocol import COMPRESSION, PACKAGE, SPEAKS, TRACE, TRADES_SINCE
from jts_storage.remote.server.served import Served
from jts_storage.remote.wire import serialized

_TRACE: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TOGETHER: Final = 500
"""So many values that come one by one travel together."""

_MOST_PATIENCE: Final = 3_600.0

M = TypeVar("M", bound=Message)

log = logging.getLogger(__name__)

Context = aio.ServicerContext[Any, Any]


def handlers(served: Served) -> Iterator[grpc.GenericRpcHandler]:
    """Every method of `METHODS`, by service."""
    services: dict[str, dict[str, Any]] = {}
    for path, method in METHODS.items():
        service, _, name = path.partition("/")
        services.setdefault(service, {})[name] = _handler(served, path, method)
    for service, found in services.items():
        yield grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", found)


def _handler(served: Served, path: str, method: Method) -> Any:
    if method.comes == "at once":

        async def at_once(asked: bytes, context: Context) -> pb.Value:
            value = pb.Value()
            async with answering(context, path):
                values.fill(value, await _called(served, method, asked), "result")
            return value

        return grpc.unary_unary_rpc_method_handler(
            at_once, response_serializer=pb.Value.SerializeToString
        )

    async def in_parts(asked: bytes, context: Context) -> None:
        async with answering(context, path):
            found = await _called(served, method, asked)
            for part in parts_of(found, compressed=wants_compression(context)):
                await context.write(part)

    async def one_by_one(asked: bytes, context: Context) -> None:
        async with answering(context, path, is_stream=True):
            iterator = await _called(served, method, asked)
            async with aclosing(iterator):
                async for value in together(iterator):
                    for part in parts_of(value, compressed=wants_compression(context)):
                        await context.write(part)

    return grpc.unary_stream_rpc_method_handler(
        in_parts if method.comes == "in parts" else one_by_one,
        response_serializer=serialized,
    )


async def _called(served: Served, method: Method, asked: bytes) -> Any:
    arguments = arguments_of(message_of(pb.Arguments, asked))
    bound = await served.bound(method, arguments)
    return await answer_of(bound, method, arguments)


async def answer_of(bound: Callable[..., Any], method: Method, arguments: dict[str, Any]) -> Any:
    """What a method gives; an iterator as it is.

    :raises InvalidData: it takes other arguments.
    """
    missing = [name for name in method.names if name not in arguments]
    if missing:
        raise InvalidData(f"lack {', '.join(missing)}", field="arguments")
    placed = [arguments.pop(name) for name in method.names]
    _check_arguments(bound.__func__, placed, arguments)  # type: ignore[attr-defined]
    found = bound(*placed, **arguments)
    return await found if inspect.isawaitable(found) else found


def _check_arguments(function: Any, placed: list[Any], named: dict[str, Any]) -> None:
    """:raises InvalidData: the function takes others."""
    try:
        _check_names(function, len(placed), frozenset(named))
    except TypeError as exc:
        raise InvalidData(f"are not those of the method: {exc}", field="arguments") from exc


@lru_cache(maxsize=1_000)  # of what fits alone: an error is not kept, nor are a stranger's names
def _check_names(function: Any, placed: int, named: frozenset[str]) -> None:
    """:raises TypeError: the function takes other arguments."""
    inspect.signature(function).bind(None, *[None] * placed, **dict.fromkeys(named))


def message_of(kind: type[M], data: bytes) -> M:
    """A message from its bytes, which gRPC would refuse with a traceback in the log.

    :raises InvalidData: they hold none.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise InvalidData("is no message of this protocol", field="message") from exc


def arguments_of(asked: pb.Arguments) -> dict[str, Any]:
    """
    :raises InvalidData: one of them is no value.
    """
    return {name: values.read(asked.named[name]) for name in asked.named}


async def together(iterator: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Columns one by one, and all else in lists."""
    waiting: list[Any] = []
    async for value in iterator:
        if are_columns(value):
            yield value
            continue
        waiting.append(value)
        if len(waiting) == _TOGETHER:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


class answering:  # noqa: N801 - used like a function
    """Within it, what a call is refused for becomes its status, and its deadline that of stores.

    What is written in this task from then on is as the client understands it.
    """

    def __init__(self, context: Context, path: str, *, is_stream: bool = False) -> None:
        self._context, self._path = context, path
        seconds = None if is_stream else context.time_remaining()
        self._bound = asyncio.timeout(min(seconds, _MOST_PATIENCE) if seconds else None)

    async def __aenter__(self) -> None:
        # Each call has a task, and so a context, of its own.
        told = dict(self._context.invocation_metadata() or ())
        carried.set(_trace_of(told))
        values.in_columns.set(_minor_of(told) >= TRADES_SINCE)
        await self._bound.__aenter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            await self._bound.__aexit__(kind, error, trace)
        except TimeoutError as exc:
            error = ConnectionFailed("The stores took longer than the client waits.")
            error.__cause__ = exc
        if error is None or isinstance(error, asyncio.CancelledError | aio.AbortError):
            return
        if isinstance(error, Stopping):
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway is stopping")
        await refused(self._context, error, self._path)


def _trace_of(headers: Mapping[str, str | bytes]) -> str | None:
    """The trace that the caller names, if it is one."""
    told = headers.get(TRACE)
    return told if isinstance(told, str) and _TRACE.fullmatch(told) else None


async def refused(context: Context, error: BaseException, what: str) -> None:
    """End a call by its error; what is no error of the kit is logged and not told."""
    known = as_known(error, what)
    problem = problems.problem_of(known).SerializeToString()
    await context.abort(
        problems.code_of(known),
        problems.plain(known),
        trailing_metadata=((problems.TRAILER, problem),),
    )


def as_known(error: BaseException, what: str) -> StorageError:
    """The error as the kit says it."""
    if isinstance(error, StorageError):
        return error
    log.error("A call failed: %s", what, exc_info=error)
    return StorageError(
        f"The gateway failed ({what}); its log says more.", remedy="Look there, and report it."
    )


class Stopping(Exception):
    """The gateway is to stop, or a client takes nothing: it is told to go on elsewhere."""


async def read_until(context: Context, *over: asyncio.Task[Any]) -> Any:
    """What the client sends next.

    :raises Stopping: one of the tasks has ended.
    """
    reading = asyncio.ensure_future(context.read())
    try:
        await asyncio.wait((reading, *over), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        reading.cancel()
        raise
    if any(task.done() for task in over):
        reading.cancel()
        raise Stopping
    return reading.result()


def wants_compression(context: Context) -> bool:
    """Whether the client is far enough away for columns to be compressed."""
    return (COMPRESSION, "zstd") in (context.invocation_metadata() or ())


def _minor_of(headers: Mapping[str, str | bytes]) -> int:
    """The minor of the protocol that the client speaks."""
    text = str(headers.get(SPEAKS, "0"))
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0
