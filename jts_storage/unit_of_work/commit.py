"""A commit that several stores take part in, or that has events: journalled, then decided."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage._runtime.steps import of_commit, tell
from jts_storage._runtime.tasks import alongside
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.events import DomainEvent
from jts_storage.errors import OutcomeUnknown, StorageError
from jts_storage.mongo.revisions import Revisions
from jts_storage.mongo.transaction import commit, commit_alone, may_be_committed
from jts_storage.unit_of_work.clock_expressions import MOST_NAMES
from jts_storage.unit_of_work.outcomes import NotedUnit
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.place import Place, written_under
from jts_storage.unit_of_work.recovery import Recovery

log = logging.getLogger(__name__)


class JournalledCommit:
    """One commit over several stores; `docs/why.md` says what is seen when it dies, and where.

    :param session: in whose transaction the documents are.
    :param symbols_above: what the version of its symbols must be above; None if it has none.
    :param revisions: of its documents; None if no history is kept.
    :param unit: where it is noted by the id that its client gave it; None if it has none.
    """

    def __init__(
        self,
        stores: Stores,
        session: AsyncClientSession,
        changes: CommitChanges,
        events: Sequence[DomainEvent],
        symbols_above: int | None,
        revisions: Revisions | None = None,
        unit: NotedUnit | None = None,
    ) -> None:
        self._stores = stores
        self._recovery = Recovery(stores)
        self._session = session
        self._changes = changes
        self._events = events
        self._symbols_above = symbols_above
        self._revisions = revisions
        self._unit = unit
        self._id = ObjectId()
        self._decided = False

    async def run(self) -> int:
        """Commit to all stores; return the version of what was written.

        :raises StorageError: nothing is stored, unless the message says that the commit is decided,
            or that its outcome is unknown.
        """
        try:
            with of_commit(self._id):
                return await self._run()
        except StorageError as exc:
            if not self._decided:
                raise
            raise StorageError(
                f"Commit {self._id} is decided, but not every store has it yet: {exc}",
                remedy="Do not repeat it: `recover` will finish it, as does the next opening.",
            ) from exc

    async def _run(self) -> int:
        stores = self._stores
        reached("before the journal")
        await self._recovery.finish_first(self._changes)
        async with AsyncExitStack() as undecided:
            # A chunk may be stored although its answer was lost, so all are dropped in any case.
            undecided.push_async_callback(self._discard)
            chunks = await stores.journal.prepare(self._id, self._changes)
            reached("chunks written")
            async with stores.journal.held(self._id), AsyncExitStack() as listed:
                if self._revisions is not None:
                    await self._revisions.read()
                async with self._bookkeeping():
                    reached("database ready")
                    # Only once the rows of the bookkeeping are locked: of two commits that change
                    # the same rows, the second then has the higher version in every store.
                    place = await listed.enter_async_context(self._place())
                    self._changes.symbols_version = place.symbols_version
                    await self._write_entry(place, chunks)
                    place.check()
                    # From here on the commit may be decided even if an error comes back, so the
                    # chunks that finish it must stay.
                    undecided.pop_all()
                    place.decided_in = self._session
                    await self._decide(place)
                    # If it fails now, others finish what the journal has of it, once what was sent
                    # to ClickHouse has arrived.
                    place.decided_in, place.lands = None, True
                    self._decided = True
                    reached("decided")
                reached("database committed")
                await self._finish(place)
        # Only once it is off the list of those under way, for which events wait.
        if place.subscriptions:
            self._stores.subscribers.wake()
        return written_under(place)

    def _place(self) -> AbstractAsyncContextManager[Place]:
        keys = {event.key for event in self._events}
        return self._stores.clock.place(
            symbols_above=self._symbols_above,
            event_keys=keys,
            series=self._changes.few_series_names(MOST_NAMES),
            identity=self._id,
            lands=False,
            unit=None if self._unit is None else self._unit.listed,
        )

    async def _write_entry(self, place: Place, chunks: int) -> None:
        version = place.version
        names = self._changes.bookkeeping_names | self._changes.series_names
        await self._stores.journal.decide(
            self._id,
            version,
            chunks,
            names,
            self._session,
            self._changes.symbols_version,
            [change.name for change in self._changes.tables],
        )
        await self._stores.outbox.add(self._events, version, self._session)
        listed = place.subscriptions
        await self._stores.deliveries.add(self._events, listed, version, self._session)
        if self._revisions is not None:
            await self._revisions.store(written_under(place))
        if self._unit is not None:
            await self._unit.committed(written_under(place))
        reached("entry written")

    async def _decide(self, place: Place) -> None:
        """Commit in MongoDB: until then nothing of the commit counts, from then on all of it."""
        try:
            await commit(self._stores.mongo, self._session, "committing")
        except StorageError as exc:
            if await self._is_decided(exc):
                return
            # No entry yet, but the server may still be committing: nobody can say.
            if may_be_committed(exc):
                raise self._unknown(exc) from exc
            place.decided_in = None
            await self._discard()
            raise

    async def _is_decided(self, failure: StorageError) -> bool:
        try:
            return await self._stores.journal.is_decided(self._id)
        except StorageError:
            raise self._unknown(failure) from failure

    def _unknown(self, failure: StorageError) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"Whether commit {self._id} was decided is unknown: {failure}",
            remedy="It is there in whole or not at all. Once MongoDB answers, run `recover`, then "
            "read before you repeat it.",
        )

    async def _finish(self, place: Place) -> None:
        version = place.version
        await self._recovery.wait_for_earlier(self._changes, version)
        await self._stores.wait_for_writers(place, self._changes)
        if self._changes.candles and self._stores.candles.keeps_history:
            series = self._changes.few_series_names(MOST_NAMES)
            await self._recovery.finish_earlier(series, version)
        await self._stores.store_series(self._changes, version)
        reached("series stored")
        if any(change.mode == "append" for change in self._changes.tables):
            await self._take_back_if_overtaken(version)
        await self._stores.journal.done(self._id)
        reached("journal done")

    async def _take_back_if_overtaken(self, version: int) -> None:
        """Delete what was appended if another process has taken the commit over meanwhile.

        It found this process paused, and appends the same rows under a version of its own.
        """
        if await self._stores.journal.is_ours(self._id):
            return
        await self._stores.forget_appended(self._changes, [version + 1])

    @asynccontextmanager
    async def _bookkeeping(self) -> AsyncIterator[None]:
        """The bookkeeping written and checked; committed at the end of the block.

        It is committed before ClickHouse is asked for anything, since SQLite's file is locked until
        then.
        """
        if not self._changes.touches_database:
            yield
            return
        async with self._stores.bookkeeping(self._changes, str(self._id)):
            yield

    async def _discard(self) -> None:
        """Drop the chunks of what was not decided; what cannot be dropped is purged later."""
        try:
            await self._stores.journal.discard(self._id)
        except StorageError:
            log.info("Chunks of a commit that failed stay until they are purged.", exc_info=True)


async def commit_documents(
    stores: Stores, session: AsyncClientSession, revisions: Revisions
) -> int:
    """Commit documents and nothing else; return the version that their revisions have.

    :raises ConnectionFailed: whether they are stored is unknown, as it says.
    """
    async with (
        alongside(revisions.read()) as reading,
        # Only once the documents are written: of two commits that change the same one, the second
        # then has the higher version. Nobody needs to wait until it is off the list: who reads as
        # of a moment waits for those that are on it.
        stores.clock.place(lands=False, behind=stores.commits.behind) as place,
    ):
        await reading
        await revisions.store(written_under(place))
        place.check()
        place.decided_in = session
        try:
            await commit_alone(stores.mongo, session, "committing")
        except StorageError as exc:
            if not may_be_committed(exc):
                place.decided_in = None
            raise
    return written_under(place)


reached: Callable[[str], None] = tell
"""Called with the name of each step of a commit. Tests replace it to kill the process there."""
