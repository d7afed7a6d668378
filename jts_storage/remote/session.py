"""The stream of one unit of work, whose documents are in a transaction that the gateway holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, Final, NoReturn

import grpc
from grpc import aio

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import CommitResult
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.proto.jts.storage.v1 import values_pb2
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote import problems
from jts_storage.remote.connection import Connection
from jts_storage.remote.grpc_internals import Ended, send
from jts_storage.remote.methods import IN_WORK
from jts_storage.remote.parts import PIECE_BYTES, Assembly
from jts_storage.remote.protocol import WHOLE_SINCE, path_of
from jts_storage.remote.wire import Batch

_END_SECONDS: Final = 5.0
_REFUSED: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
"""What a gateway says of a caller before it hears what is asked: nothing of it was done."""

WHOLE_BYTES: Final = 2**20
"""Up to so many bytes a unit of work without documents is sent in one request."""


class WorkSession:
    """One unit of work at a gateway; the stream is opened when it is first needed."""

    def __init__(
        self, connection: Connection, lifetime: Lifetime, identity: str, source: str
    ) -> None:
        self._connection, self._lifetime = connection, lifetime
        self._id, self._source = identity, source
        self._stream: Any = None
        self._address = connection.address
        self._asking = asyncio.Lock()
        self.has_asked_to_commit = False
        self.is_lost = False
        """Whether the gateway may hold its documents although nobody can end it there."""

        self.written: dict[str, None] = {}
        """The services whose documents it has written."""

    @property
    def _begin(self) -> pb.Begin:
        return pb.Begin(id=self._id, source=self._source)

    @property
    def is_open(self) -> bool:
        return self._stream is not None

    async def one(self, method: str, arguments: Mapping[str, Any]) -> Any:
        async with self._asking:
            await self._call(method, arguments)
            found = await self._values(ends=False)
        return found[0]

    async def many(self, method: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
        # All at once: who reads on may call something else of this unit of work in between.
        async with self._asking:
            await self._call(method, arguments)
            found = await self._values(ends=True)
        for values in found:
            for value in values if isinstance(values, list) else [values]:
                yield value

    async def commit(self, chunks: Iterable[pb.Chunk], events: Iterable[pb.Event]) -> CommitResult:
        """Send what the client staged, and have all of it committed."""
        # What runs is part of it, and its answer comes first; what waits for its turn is refused.
        async with self._asking:
            if self._stream is None and self._connection.minor >= WHOLE_SINCE:
                whole, chunks, events = _gathered(self._begin, chunks, events)
                found = None if whole is None else await self._commit_whole(whole)
                if found is not None:
                    return _result_of(found)
            return await self._commit(chunks, events)

    async def _commit_whole(self, whole: pb.WholeWork) -> pb.Committed | None:
        """Send all of it in one request; None where the gateway is of an earlier release."""
        for _ in self._connection.config.addresses[1:]:
            try:
                return await self._send_whole(whole)
            except problems.GatewayAway:
                if self.has_asked_to_commit:
                    raise
                self.is_lost = False  # it was gone before it heard anything: the next one is asked
        return await self._send_whole(whole)

    async def _send_whole(self, whole: pb.WholeWork) -> pb.Committed | None:
        await self._connection.ready()
        self._address = self._connection.address
        call = self._connection.channel.unary_unary(
            path_of("Gateway", "Commit"),
            request_serializer=pb.WholeWork.SerializeToString,
            response_deserializer=pb.Committed.FromString,
        )
        self.has_asked_to_commit = True
        try:
            found: pb.Committed = await call(
                whole,
                timeout=self._connection.config.commit_timeout,
                metadata=self._connection.metadata,
            )
        except aio.AioRpcError as exc:
            # Where it cannot have been heard, nobody has to be asked what became of it.
            is_unknown = exc.code() is grpc.StatusCode.UNIMPLEMENTED
            if is_unknown or problems.NOT_CONNECTED in str(exc.details()):
                self.has_asked_to_commit = False
            if is_unknown:
                return None
            raise self._lost(exc) from exc
        except asyncio.CancelledError:
            self._connection.check_cancelled()
            raise
        return found

    async def _commit(self, chunks: Iterable[pb.Chunk], events: Iterable[pb.Event]) -> CommitResult:
        count = 0
        for chunk in chunks:
            await self._write(pb.WorkRequest(chunk=chunk))
            count += 1
        *more, last = _in_messages(events)
        for message in more:
            chunk = pb.Chunk(kind="events", data=message.SerializeToString())
            await self._write(pb.WorkRequest(chunk=chunk))
            count += 1
        last.chunks = count
        self.has_asked_to_commit = True
        await self._write(pb.WorkRequest(commit=last))
        answer = await self._read(self._connection.config.commit_timeout)
        if answer.WhichOneof("step") == "problem":
            raise problems.error_of(answer.problem)
        return _result_of(answer.committed)

    async def end(self) -> None:
        """Drop what is not committed; once it returns, the gateway holds nothing of it."""
        stream, self._stream = self._stream, None
        if stream is None or stream.done():  # such as one that was waited for too long
            return
        with suppress(aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            await stream.done_writing()
            async with asyncio.timeout(_END_SECONDS):
                while await stream.read() is not aio.EOF:
                    pass
        stream.cancel()

    async def _call(self, method: str, arguments: Mapping[str, Any]) -> None:
        self._lifetime.check()
        text = pb.CallText(
            method=method, arguments=self._connection.arguments_of(arguments)
        ).SerializeToString()
        for start in range(0, len(text), PIECE_BYTES):
            goes_on = start + PIECE_BYTES < len(text)
            piece = pb.Call(piece=text[start : start + PIECE_BYTES], goes_on=goes_on)
            await self._write(pb.WorkRequest(call=piece))
        if IN_WORK[method].scope == "write":
            self.written[IN_WORK[method].of] = None

    async def _values(self, *, ends: bool) -> list[Any]:
        """The values of one answer: exactly one, or all until it ends."""
        assembly = Assembly()
        found: list[Any] = []
        while True:
            answer = await self._read(self._connection.config.timeout)
            step = answer.WhichOneof("step")
            if step == "problem":
                raise problems.error_of(answer.problem)
            if step == "ended":
                return found
            found += assembly.add(_part(answer.part))
            if found and not ends:
                return found

    async def _write(self, request: pb.WorkRequest) -> None:
        if self._stream is None:
            await self._connection.ready()
            self._address = self._connection.address
            self._stream = self._opened()
            await self._write(pb.WorkRequest(begin=self._begin))
        self._check_stream()
        try:
            async with asyncio.timeout(self._connection.config.timeout):
                await send(self._stream, request)
        except Ended:
            await self._end_told()
        except aio.AioRpcError as exc:
            raise self._lost(exc) from exc
        except TimeoutError:
            self._stream.cancel()
            raise self._silent(self._connection.config.timeout) from None
        except asyncio.CancelledError:
            # It may have been sent all the same: the next call would read its answer.
            self._stream.cancel()
            raise

    def _check_stream(self) -> None:
        """:raises StorageError: it was given up, which gRPC would call a cancelled task."""
        if self._stream.cancelled():
            self._connection.check_cancelled()
            raise self._away(f"The gateway at {self._address} was waited for too long before.")

    async def _end_told(self) -> NoReturn:
        """Raise what the gateway ended the stream with, past answers that nobody has read."""
        while True:
            await self._read(self._connection.config.timeout)

    async def _read(self, seconds: float) -> pb.WorkAnswer:
        self._check_stream()
        try:
            async with asyncio.timeout(seconds):
                answer = await self._stream.read()
        except aio.AioRpcError as exc:
            raise self._lost(exc) from exc
        except TimeoutError:
            raise self._silent(seconds) from None
        except asyncio.CancelledError:
            self._connection.check_cancelled()
            raise
        if answer is aio.EOF:
            raise self._away(f"The gateway at {self._address} ended a unit of work.")
        found: pb.WorkAnswer = answer
        return found

    def _opened(self) -> Any:
        opened = self._connection.channel.stream_stream(
            path_of("Gateway", "Work"),
            request_serializer=pb.WorkRequest.SerializeToString,
            response_deserializer=pb.WorkAnswer.FromString,
        )
        return opened(metadata=self._connection.metadata)

    def _lost(self, exc: aio.AioRpcError) -> StorageError:
        if exc.code() in _REFUSED:
            self.has_asked_to_commit = False
        error = self._connection.error_of(exc, "a unit of work", self._address)
        if isinstance(error, problems.GatewayAway):
            return self._away(str(error.args[0]))
        if self.has_asked_to_commit and problems.told(exc) is None:
            # Whatever gRPC says of it: the gateway may have committed all the same.
            return self._away(str(error))
        return error

    def _away(self, message: str) -> ConnectionFailed:
        self.is_lost = True
        self._connection.use_next(self._address)
        error = problems.away(message, self._address)
        # Nothing is stored of what was not committed: all of it can be done again.
        error.transient = not self.has_asked_to_commit
        return error

    def _silent(self, seconds: float) -> ConnectionFailed:
        self.is_lost = True
        self._connection.use_next(self._address)
        error = problems.too_slow(self._address, seconds)
        # Where there is no other gateway, this one would take as long again.
        has_others = self._connection.address != self._address
        error.transient = has_others and not self.has_asked_to_commit
        return error


def _part(part: values_pb2.Part) -> values_pb2.Part | Batch:
    return Batch(part.batch) if part.WhichOneof("piece") == "batch" else part


def _result_of(committed: pb.Committed) -> CommitResult:
    return CommitResult(Commit(committed.version) if committed.HasField("version") else None)


def _gathered(
    begin: pb.Begin, chunks: Iterable[pb.Chunk], events: Iterable[pb.Event]
) -> tuple[pb.WholeWork | None, Iterable[pb.Chunk], Iterable[pb.Event]]:
    """All of it as one message, if it is small, and the chunks and events once more."""
    left, told = iter(chunks), list(events)
    taken: list[pb.Chunk] = []
    size = sum(event.ByteSize() for event in told)
    while size <= WHOLE_BYTES:
        chunk = next(left, None)
        if chunk is None:
            commit = pb.Commit(events=told, chunks=len(taken))
            return pb.WholeWork(begin=begin, chunks=taken, commit=commit), taken, told
        taken.append(chunk)
        size += chunk.ByteSize()
    return None, chain(taken, left), told


def _in_messages(events: Iterable[pb.Event]) -> Iterator[pb.Commit]:
    """The events in as many messages as they need; at least one."""
    message, size = pb.Commit(), 0
    for event in events:
        if size and size + event.ByteSize() > PIECE_BYTES:
            yield message
            message, size = pb.Commit(), 0
        message.events.append(event)
        size += event.ByteSize()
    yield message
