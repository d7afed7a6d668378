"""A unit of work whose stores are behind a gateway."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final, TypeVar

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.outcomes import Outcome, new_unit_id
from jts_storage.domain.results import CommitResult
from jts_storage.errors import ConnectionFailed, OutcomeUnknown, StorageError
from jts_storage.models import Models
from jts_storage.ports.models import Model
from jts_storage.proto.jts.storage.v1 import values_pb2, work_pb2
from jts_storage.remote.connection import Connection
from jts_storage.remote.declared import RemoteDocuments, RemoteTable
from jts_storage.remote.handlers import RemoteHandlers
from jts_storage.remote.problems import UNFINISHED
from jts_storage.remote.readable import RemoteIngestion, RemoteStored
from jts_storage.remote.repositories import (
    RemoteWorkBacktests,
    RemoteWorkDocuments,
    RemoteWorkFormulas,
    RemoteWorkStrategies,
)
from jts_storage.remote.session import WorkSession
from jts_storage.remote.target import Target
from jts_storage.unit_of_work.journal_format import encode
from jts_storage.unit_of_work.staged import (
    CollectedEvents,
    StagedCandles,
    StagedIngestion,
    class_name_of,
    event_data,
)
from jts_storage.unit_of_work.staged.names import written
from jts_storage.unit_of_work.staged.tables import StagedTables
from jts_storage.unit_of_work.staged.taking import staged_changes
from jts_storage.unit_of_work.under_way import Commits

R = TypeVar("R")

_SERVICE_OF: Final = {"documents": "declared documents"}

log = logging.getLogger(__name__)


class RemoteWork:
    """The `Work` of one unit of work.

    Candles, symbols, bookkeeping and declared tables are staged here, and travel with the commit.
    Documents are in a transaction that the gateway holds, from the first one on.
    """

    def __init__(
        self,
        connection: Connection,
        commits: Commits,
        handlers: RemoteHandlers,
        models: Models,
        source: str,
        unit_id: str | None,
    ) -> None:
        """:param commits: of this storage that are under way."""
        self._connection, self._commits, self._handlers = connection, commits, handlers
        self._models, self._source = models, source
        self._is_named = unit_id is not None
        self._id = unit_id or new_unit_id()
        lifetime = self.lifetime = Lifetime()
        session = self._session = WorkSession(connection, lifetime, self._id, source)
        self.formulas = RemoteWorkFormulas(Target(session, "WorkFormulas"))
        self.strategies = RemoteWorkStrategies(Target(session, "WorkStrategies"))
        self.backtests = RemoteWorkBacktests(Target(session, "WorkBacktests"))
        self._documents = RemoteWorkDocuments(Target(session, "WorkDocuments"))
        self.ingestion = StagedIngestion(RemoteIngestion(connection), lifetime)
        self.events = CollectedEvents(lifetime)
        self._tables = StagedTables(lambda model: RemoteTable(connection, model), lifetime)
        self.symbols = SYMBOLS.repository(self._tables.of(SYMBOLS))
        self.candles = StagedCandles(RemoteStored(connection), lifetime, self.symbols)

    def repository(self, model: Model[R]) -> R:
        return self._models.repository(
            model,
            documents=lambda model: RemoteDocuments(self._documents, model),
            tables=self._tables.of,
        )

    def take(self, changes: CommitChanges, events: Sequence[DomainEvent]) -> None:
        """:raises StorageError: a gateway serves stores, and no other gateway."""
        raise StorageError(
            "A gateway's client serves nobody.", remedy="Serve where the stores are."
        )

    def under_way(self) -> AbstractContextManager[None]:
        return self._commits.one()

    async def commit(self) -> CommitResult:
        changes, events = staged_changes(self, self._tables, self._source), self.events.collected
        is_empty = not (changes.touches_clickhouse or changes.touches_database or events)
        try:
            if is_empty and not self._session.is_open and not self._is_named:
                return CommitResult()
            return await self._committed(changes, events)
        finally:
            await self.end()

    async def _committed(self, changes: CommitChanges, events: list[DomainEvent]) -> CommitResult:
        try:
            return await self._session.commit(_chunks(changes), map(_event, events))
        except ConnectionFailed as exc:
            if isinstance(exc, OutcomeUnknown) or not self._session.has_asked_to_commit:
                raise
            return await self._settled(exc)

    async def _settled(self, failure: ConnectionFailed) -> CommitResult:
        """Ask what became of a commit whose answer was lost; what is not stored never will be."""
        try:
            outcome = await self._outcome(of_commit=True)
        except StorageError as exc:
            if exc.code == UNFINISHED:
                raise
            raise OutcomeUnknown(
                f"Whether unit of work {self._id} was committed is unknown: {failure.args[0]}",
                hosts=failure.hosts,
                remedy=f"Ask `storage.outcome({self._id!r})` once a gateway answers.",
            ) from exc
        if outcome.is_committed:
            return outcome.result()
        lost = ConnectionFailed(
            f"Unit of work {self._id} was given up, and nothing of it is stored: {failure.args[0]}",
            hosts=failure.hosts,
            remedy="Repeat its work, in a unit of work with another id.",
        )
        lost.transient = True
        raise lost from failure

    async def _outcome(self, **asked: bool) -> Outcome:
        found: Outcome = await self._connection.one("Storage/Outcome", {"id": self._id, **asked})
        return found

    async def deliver(self) -> None:
        """Have the gateway deliver what this process has handlers for, and what comes before."""
        try:
            await self._handlers.deliver(self.events.collected)
        except StorageError:
            # The commit stands all the same; the events are stored, and delivered later.
            log.warning("Events of a commit were not delivered yet.", exc_info=True)

    def deliver_soon(self) -> None:
        self._handlers.deliver_soon(self.events.collected)

    def written(self) -> list[str]:
        documents = [_SERVICE_OF.get(name, name) for name in self._session.written]
        return written(self.candles, self._tables, self.ingestion, self.events, documents)

    async def end(self) -> None:
        session = self._session
        await session.end()
        if session.is_lost and session.written and not session.has_asked_to_commit:
            # A gateway that died leaves its documents locked for a minute: another one frees them.
            session.is_lost = False
            with suppress(StorageError):
                await self._outcome()


def _chunks(changes: CommitChanges) -> Iterator[work_pb2.Chunk]:
    """What was staged, as the journal would keep it, in messages."""
    for chunk in encode(changes):
        message = work_pb2.Chunk(kind=chunk.kind, data=chunk.data, table=chunk.table or "")
        if chunk.key is not None:
            key = chunk.key
            message.key.CopyFrom(
                values_pb2.Key(
                    symbol=key.symbol, timeframe=key.timeframe.value, exchange=key.exchange
                )
            )
        yield message


def _event(event: DomainEvent) -> work_pb2.Event:

    return work_pb2.Event(
        id=event.id,
        type=event.event_type,
        class_name=class_name_of(event),
        key=event.key,
        data=json.dumps(event_data(event)).encode(),
    )
