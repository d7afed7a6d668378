"""Store candles as they come in: taken one by one, committed by time or by number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Self

from jts_storage._runtime.tasks import run_to_the_end, stopped
from jts_storage.domain import checks
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.candle_changes import WITHOUT_A_PAUSE
from jts_storage.errors import InvalidData, StorageError
from jts_storage.ports.unit_of_work import UnitOfWork

RunInUnitOfWork = Callable[[Callable[[UnitOfWork], Awaitable[None]]], Awaitable[None]]

_LONGEST_PAUSE = 5.0
"""Seconds until a commit that failed is tried again, at most."""

log = logging.getLogger(__name__)


class Ingest:
    """A `LiveIngest` over units of work.

    :param run: calls its argument in a unit of work and commits it, as `Storage.run` does.
    :param check_storage: raises when no unit of work can begin any more.
    """

    def __init__(
        self,
        run: RunInUnitOfWork,
        *,
        every: float,
        rows: int,
        limit: int,
        check_storage: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._check_storage = run, check_storage
        self._every = checks.finite(every, "every")
        if every <= 0:
            raise InvalidData("must be above 0", field="every", value=every)
        self._rows = checks.whole(rows, "rows", least=1)
        self._limit = checks.whole(limit, "limit", least=1)
        if limit < rows:
            raise InvalidData(f"must not be below rows, {rows}", field="limit", value=limit)
        self._waiting: list[tuple[SeriesKey, Candle]] = []
        self._waiting_since = 0.0
        self._in_commit: list[tuple[SeriesKey, Candle]] = []
        self._in_commit_since = 0.0
        self._added = self._stored = self._commits = 0
        self._flush_to = 0
        self._not_before = 0.0
        self._failures = 0
        self._failure: Exception | None = None
        self._is_untold = False
        self._wake = asyncio.Event()
        self._outcome = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._state = "has not been entered"

    @property
    def oldest(self) -> timedelta | None:
        if not self.pending:
            return None
        since = self._in_commit_since if self._in_commit else self._waiting_since
        return timedelta(seconds=monotonic() - since)

    @property
    def pending(self) -> int:
        return self._added - self._stored

    @property
    def stored(self) -> int:
        return self._stored

    @property
    def commits(self) -> int:
        return self._commits

    async def add(self, key: SeriesKey, candle: Candle) -> None:
        checks.instance(key, SeriesKey, "key")
        checks.instance(candle, Candle, "candle")
        self._check_takes_candles()
        while self.pending >= self._limit:
            self._have_writer()
            await self._outcome.wait()
            self._check_takes_candles()
        if not self._waiting:
            self._waiting_since = monotonic()
        self._waiting.append((key, candle))
        self._added += 1
        if len(self._waiting) in (1, self._rows):
            self._wake.set()
        if not self._added % WITHOUT_A_PAUSE:
            await asyncio.sleep(0)

    async def flush(self) -> None:
        self._check_open()
        await self._flush()

    async def __aenter__(self) -> Self:
        if self._state != "has not been entered":
            raise StorageError(
                "An ingest can be entered only once.", remedy="Ask the storage for a new one."
            )
        self._state = ""
        self._have_writer()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._state = "is over"
        try:
            # Even if the caller is cancelled meanwhile: what was added is to be stored.
            await run_to_the_end(self._finish())
        except StorageError:
            if error is None:
                raise
            # The error of the block goes on.
            log.exception("%d candles were lost when an ingest was left.", self.pending)

    async def _finish(self) -> None:
        try:
            await self._flush()
        finally:
            if self._writer is not None:
                await stopped(self._writer)
            self._tell()  # who waits in `add` is told that it is over

    async def _flush(self) -> None:
        wanted, seen = self._added, self._failures
        self._is_untold = False  # what failed is tried again now
        while self._stored < wanted:
            self._have_writer()
            self._flush_to = max(self._flush_to, wanted)
            self._wake.set()
            await self._outcome.wait()
            if self._failures > seen:
                self._is_untold = False
                raise self._error()

    # ---- the writer

    def _have_writer(self) -> None:
        """Begin a writer if there is none, or none any more: a loop that ends cancels all tasks."""
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
            self._writer.add_done_callback(lambda _: self._tell())

    async def _write(self) -> None:
        while True:
            await self._until_due()
            await self._commit()

    async def _until_due(self) -> None:
        while (seconds := self._seconds_left()) is None or seconds > 0:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    def _seconds_left(self) -> float | None:
        """Until the next commit; None while there is nothing to commit."""
        if not self._waiting:
            return None
        if self._flush_to > self._stored:
            return 0
        is_many = len(self._waiting) >= self._rows
        due = 0.0 if is_many else self._waiting_since + self._every
        return max(due, self._not_before) - monotonic()

    async def _commit(self) -> None:
        batch, self._in_commit_since = self._waiting, self._waiting_since
        self._in_commit, self._waiting = batch, []
        try:
            await self._run(self._save)
        except BaseException as exc:
            # Before those that came meanwhile, which are later.
            self._waiting, self._in_commit = batch + self._waiting, []
            self._waiting_since = self._in_commit_since
            self._flush_to = 0
            if not isinstance(exc, Exception):  # cancelled: the next writer stores them
                raise
            log.warning("%d candles were not stored yet: %s", len(batch), exc)
            self._not_before = monotonic() + min(self._every, _LONGEST_PAUSE)
            self._failures += 1
            self._failure, self._is_untold = exc, True
        else:
            self._stored += len(batch)
            self._commits += 1
            self._is_untold = False
        self._in_commit = []
        self._tell()

    async def _save(self, uow: UnitOfWork) -> None:
        for key, candle in self._in_commit:
            await uow.candles.save_many(key, [candle])

    # ---- what is told

    def _tell(self) -> None:
        """Wake all who wait for the outcome of a commit."""
        self._outcome.set()
        self._outcome = asyncio.Event()

    def _check_open(self) -> None:
        if self._state:
            raise StorageError(
                f"This ingest {self._state}.",
                remedy="Use it within `async with storage.ingest()`, a blocking one within `with`.",
            )

    def _check_takes_candles(self) -> None:
        self._check_open()
        self._check_storage()
        self._raise_untold()

    def _raise_untold(self) -> None:
        if self._is_untold:
            self._is_untold = False
            raise self._error()

    def _error(self) -> StorageError:
        if self._state:  # it is being left, and tries no more
            error = StorageError(
                f"{self.pending} candles were lost when an ingest was left: {self._failure}",
                remedy="Add them to another ingest.",
            )
        else:
            error = StorageError(
                f"{self.pending} candles are not stored yet: {self._failure}",
                remedy="They are kept, and tried again as long as the ingest is open.",
            )
        error.__cause__ = self._failure
        return error
