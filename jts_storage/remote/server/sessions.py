"""Units of work of clients: each a stream, which holds a unit of work of this process."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final

from grpc import aio

from jts_storage.domain import checks
from jts_storage.domain.outcomes import unit_id
from jts_storage.errors import InvalidData, StorageError
from jts_storage.proto.jts.storage.v1 import values_pb2, work_pb2
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote import problems
from jts_storage.remote.methods import IN_WORK
from jts_storage.remote.parts import parts_of
from jts_storage.remote.server.calls import (
    Context,
    answer_of,
    answering,
    arguments_of,
    as_known,
    message_of,
    together,
)
from jts_storage.remote.server.limits import Limits
from jts_storage.remote.server.served import ServedBackend, in_work
from jts_storage.remote.server.staged import StagedElsewhere, events_of
from jts_storage.remote.wire import Batch
from jts_storage.unit_of_work.unit import UnitOfWork

_WHAT: Final = "a unit of work"


class Works:
    """The units of work of all clients."""

    def __init__(self, backend: ServedBackend, limits: Limits) -> None:
        self._backend, self._limits = backend, limits

    async def work(self, _: Any, context: Context) -> None:
        """One unit of work, until it is committed or the client goes."""
        async with answering(context, _WHAT, is_stream=True):
            first = await self._next(context)
            if first is None:
                return
            if first.WhichOneof("step") != "begin":
                raise InvalidData("must begin first", field="step")
            async with self._begun(first.begin) as uow:
                try:
                    await _Work(self, uow, context).run()
                finally:
                    await uow.rollback()

    async def commit(self, asked: bytes, context: Context) -> pb.Committed:
        """One unit of work, all of it at once."""
        committed = pb.Committed()
        async with answering(context, _WHAT, is_stream=True):  # no deadline: a commit goes on
            whole = message_of(pb.WholeWork, asked)
            staged = StagedElsewhere(self._limits.staged_bytes)
            async with self._begun(whole.begin) as uow:
                for chunk in whole.chunks:
                    staged.add(chunk)
                committed = await _committed(uow, staged, whole.commit)
        return committed

    def _begun(self, begin: pb.Begin) -> UnitOfWork:
        source = checks.text(begin.source, "source")
        return self._backend.unit_of_work(source, unit_id(begin.id, "id"))

    @property
    def backend(self) -> ServedBackend:
        return self._backend

    @property
    def limits(self) -> Limits:
        return self._limits

    async def _next(self, context: Context) -> work_pb2.WorkRequest | None:
        return await next_of(context, self._limits.idle_seconds)


async def next_of(context: Context, seconds: float) -> work_pb2.WorkRequest | None:
    """What the client asks next; None once it is done.

    :raises StorageError: it asks nothing for too long, and holds documents meanwhile.
    """
    try:
        async with asyncio.timeout(seconds):
            request = await context.read()
    except TimeoutError:
        raise StorageError(
            f"A unit of work asked nothing for {seconds:g} s, and was dropped.",
            remedy="Compute first, then write and commit.",
        ) from None
    return None if request is aio.EOF else message_of(work_pb2.WorkRequest, request)


class _Work:
    """One of them."""

    def __init__(self, works: Works, uow: UnitOfWork, context: Context) -> None:
        self._works, self._uow, self._context = works, uow, context
        self._staged = StagedElsewhere(works.limits.staged_bytes)
        self._pieces: list[bytes] = []

    async def run(self) -> None:
        while (
            request := await next_of(self._context, self._works.limits.idle_seconds)
        ) is not None:
            step = request.WhichOneof("step")
            if step == "call":
                await self._call(request.call)
            elif step == "chunk":
                self._staged.add(request.chunk)
            elif step == "commit":
                await self._commit(request.commit)
                return
            else:
                raise InvalidData("is no step that is known here", field="step", value=step)

    async def _commit(self, asked: pb.Commit) -> None:
        committed = await _committed(self._uow, self._staged, asked)
        await self._context.write(pb.WorkAnswer(committed=committed))

    async def _call(self, call: pb.Call) -> None:
        self._pieces.append(call.piece)
        if sum(map(len, self._pieces)) > self._works.limits.call_bytes:
            raise StorageError(
                f"A call is larger than {self._works.limits.call_bytes:,} bytes.",
                remedy="Save less at once.",
            )
        if call.goes_on:
            return
        text, self._pieces = b"".join(self._pieces), []
        try:
            await self._answer(message_of(pb.CallText, text))
        except Exception as exc:  # noqa: BLE001 - the unit of work goes on
            problem = problems.problem_of(as_known(exc, _WHAT))
            await self._context.write(pb.WorkAnswer(problem=problem))

    async def _answer(self, call: pb.CallText) -> None:
        method = IN_WORK.get(call.method)
        if method is None:
            raise InvalidData("is no method that is known here", field="method", value=call.method)
        bound = in_work(self._uow, self._works.backend.models, method)
        found = await answer_of(bound, method, arguments_of(call.arguments))
        if method.comes != "one by one":
            await self._send(found)
            return
        async with aclosing(found):
            async for value in together(found):
                await self._send(value)
        await self._context.write(pb.WorkAnswer(ended=pb.Ended()))

    async def _send(self, value: Any) -> None:
        for part in parts_of(value):
            message = values_pb2.Part(batch=bytes(part.data)) if isinstance(part, Batch) else part
            await self._context.write(pb.WorkAnswer(part=message))


async def _committed(uow: UnitOfWork, staged: StagedElsewhere, asked: pb.Commit) -> pb.Committed:
    if asked.chunks or asked.events or not staged.is_empty:
        uow.take(staged.changes(asked.chunks), events_of([*staged.events, *asked.events]))
    result = await uow.commit()
    committed = pb.Committed()
    if result.commit is not None:
        committed.version = result.commit.version
    return committed
