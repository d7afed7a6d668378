"""Rate limits in a SQLite file, which the processes of a machine share."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import (
    Column,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    delete,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from jts_storage._runtime.forks import tell_children
from jts_storage.domain.rate_books import (
    Book,
    Clock,
    Exhausted,
    Granted,
    Refused,
    SlotRequest,
    present,
    windows_of,
)
from jts_storage.domain.rate_limits import SECOND, Limit, LimitKey, RateLimitState
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.relational.errors import translate
from jts_storage.relational.lock_holder import holder
from jts_storage.relational.statements import compiled_for_sqlite

T = TypeVar("T")

_LOCK_SECONDS: Final = 2.0
_TRY_SECONDS: Final = 0.05
"""The thread waits no longer for a lock, since other accounts wait for the thread meanwhile."""

_AGAIN_SECONDS: Final = 0.02
_SETTLING: Final = SECOND
"""Beyond the window, for requests that are under way when the file is replaced."""

_REPLACED: Final = {"of": "", "by": ""}
"""The row that says since when this file is in the place of another; no account has its key."""

_DELETE: Final = (
    "Stop the processes that use the file, delete it with its -wal and -shm, and start them a"
    " minute later: it is made anew, and the counts of today are lost."
)
_SYNC_SECONDS: Final = 1.0
"""How much of what was counted a power cut may take. A crash of a process takes nothing."""

log = logging.getLogger(__name__)

metadata = MetaData()
rate_limits = Table(
    "rate_limits",
    metadata,
    Column("name", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("book", Text, nullable=False),
    PrimaryKeyConstraint("name", "account"),
)
_its_key = (rate_limits.c.name == bindparam("of")) & (rate_limits.c.account == bindparam("by"))
_written = sqlite.insert(rate_limits).values(
    name=bindparam("of"), account=bindparam("by"), book=bindparam("kept")
)
_CREATE: Final = compiled_for_sqlite(CreateTable(rate_limits, if_not_exists=True))
_READ: Final = compiled_for_sqlite(select(rate_limits.c.book).where(_its_key))
_WRITE: Final = compiled_for_sqlite(
    _written.on_conflict_do_update(
        index_elements=["name", "account"], set_={"book": _written.excluded.book}
    )
)
_ACCOUNTS: Final = compiled_for_sqlite(
    select(rate_limits.c.account)
    .where(rate_limits.c.name == bindparam("of"))
    .order_by(rate_limits.c.account)
)
_CLEAR: Final = compiled_for_sqlite(delete(rate_limits))


class SqliteRateLimits:
    """A `RateLimitStore` in a file: each call is one transaction that claims the file at once.

    A thread of its own runs it whole, since handing each statement over would take longer than
    the statement. What is counted survives processes that are killed; of a machine that loses its
    power, all but the last second.

    :param clock: what time it is, for all processes alike.
    """

    def __init__(self, path: Path, clock: Clock = present) -> None:
        self.path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._is_replaced = False
        self._thread = _thread()
        self._synced = 0.0
        tell_children(self)

    def begin_in_child(self) -> None:
        self._connection, self._file, self._thread = None, None, _thread()

    async def take(
        self, slot: SlotRequest, *, patience: float | None = None
    ) -> Granted | Refused | Exhausted:
        def work(book: Book) -> Granted | Refused | Exhausted:
            at = self._clock()
            wait = self._silence(slot.limits, at.now)
            return Refused(wait) if wait else book.take(slot, at)

        return await self._changed(slot.key, work, "taking a slot", patience)

    async def leave(self, slot: SlotRequest) -> None:
        def work(book: Book) -> None:
            book.leave(slot, self._clock())

        await self._changed(slot.key, work, "giving a slot back")

    async def forget(self, slot: SlotRequest) -> None:
        def work(book: Book) -> None:
            book.forget(slot, self._clock())

        await self._changed(slot.key, work, "giving a slot back")

    async def state(self, key: LimitKey, limits: Sequence[Limit]) -> RateLimitState:
        def work(connection: sqlite3.Connection) -> RateLimitState:
            return self._read(connection, key).report(key, limits, self._clock())

        if not self.path.exists():  # looking makes no file
            return Book().report(key, limits, self._clock())
        return await self._run(work, "reading rate limits")

    async def accounts(self, name: str) -> Sequence[str]:
        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(_ACCOUNTS.sql, _ACCOUNTS.args({"of": name}))
            return [account for (account,) in rows.fetchall()]

        return await self._run(work, "listing accounts") if self.path.exists() else []

    async def reset(self) -> None:
        await self._run(lambda known: known.execute(_CLEAR.sql).close(), "resetting rate limits")

    async def close(self) -> None:
        thread, self._thread = self._thread, _thread()
        await asyncio.wrap_future(thread.submit(self._disconnect))
        thread.shutdown(wait=False)

    # ---- in the thread

    def _disconnect(self) -> None:
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            connection.close()

    async def _changed(
        self, key: LimitKey, work: Callable[[Book], T], doing: str, patience: float | None = None
    ) -> T:
        def change(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                book = self._read(connection, key)
                outcome = work(book)
                kept = json.dumps(book.encoded(), separators=(",", ":"))
                values = {"of": key.name, "by": key.account, "kept": kept}
                connection.execute(_WRITE.sql, _WRITE.args(values))
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return outcome

        return await self._run(change, doing, patience)

    def _read(self, connection: sqlite3.Connection, key: LimitKey) -> Book:
        values = {"of": key.name, "by": key.account}
        row = connection.execute(_READ.sql, _READ.args(values)).fetchone()
        return Book() if row is None else _decoded(row[0])

    async def _run(
        self,
        work: Callable[[sqlite3.Connection], T],
        doing: str,
        patience: float | None = None,
    ) -> T:
        """Do it in the thread, and again as long as the file is locked, if there is patience."""
        seconds = _LOCK_SECONDS if patience is None else min(patience, _LOCK_SECONDS)
        end = time.monotonic() + seconds
        while True:
            try:
                return await asyncio.wrap_future(self._thread.submit(self._do, work))
            except (sqlite3.Error, OSError, ValueError) as exc:
                if not _is_busy(exc) or time.monotonic() >= end:
                    raise self._error(exc, doing, seconds) from exc
            await asyncio.sleep(_AGAIN_SECONDS)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connected()
        self._set_synchronous(connection)
        return work(connection)

    def _silence(self, limits: Sequence[Limit], now: int) -> int:
        """Microseconds to wait since the file was replaced: what the other one counted is lost."""
        connection = self._connection
        assert connection is not None
        row = connection.execute(_READ.sql, _READ.args(_REPLACED)).fetchone()
        if row is None or int(row[0]) > now:  # the machine has begun anew since
            return 0
        ends = (int(row[0]) + each.span + _SETTLING + 1 for each in windows_of(limits))
        return max(0, max(ends, default=0) - now)

    def _connected(self) -> sqlite3.Connection:
        if self._file is not None and self._file != _file_at(self.path):
            self._is_replaced = True
            log.warning("The rate limits in %s were replaced: a window has to pass.", self.path)
            self._disconnect()
        connection = self._opened()
        if self._is_replaced:
            values = {**_REPLACED, "kept": str(self._clock().now)}
            connection.execute(_WRITE.sql, _WRITE.args(values)).close()
            self._is_replaced = False
        self._file = _file_at(self.path)
        return connection

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(
                self.path, timeout=_TRY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                _set_up(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _set_synchronous(self, connection: sqlite3.Connection) -> None:
        """Let the disk have all once a second: for each slot it would take too long."""
        now = time.monotonic()
        is_due = now - self._synced >= _SYNC_SECONDS
        self._synced = now if is_due else self._synced
        connection.execute(f"PRAGMA synchronous = {'FULL' if is_due else 'NORMAL'}")

    def _error(self, exc: BaseException, doing: str, waited: float) -> StorageError:
        hosts = (str(self.path),)
        if not isinstance(exc, sqlite3.Error | OSError):
            return StorageError(
                f"The rate limits in {self.path} cannot be read: {exc}",
                remedy=_DELETE,
            )
        if getattr(exc, "sqlite_errorname", "") == "SQLITE_NOTADB":  # nor will it ever be one
            return StorageError(f"{self.path} is no SQLite database ({doing})", remedy=_DELETE)
        if _is_busy(exc):
            who = holder(self.path) or "another process"
            return ConnectionFailed(
                f"The rate limits in {self.path} were locked for {waited:.3g} s by {who} ({doing})",
                hosts=hosts,
                remedy="See whether that process hangs or is stopped.",
                code="SQLITE_BUSY",
            )
        return translate(exc, doing=doing, hosts=hosts)


def _is_busy(exc: BaseException) -> bool:
    return str(getattr(exc, "sqlite_errorname", "")).startswith("SQLITE_BUSY")


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _decoded(text: str) -> Book:
    """
    :raises ValueError: it is no book.
    """
    try:
        return Book.decoded(json.loads(text))
    except (TypeError, LookupError) as exc:
        raise ValueError(f"{text[:50]!r} is no book") from exc


def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "jts-rate-limits")


def _set_up(connection: sqlite3.Connection) -> None:
    """Several processes do this at once; not every one of these waits for the file by itself."""
    end = time.monotonic() + _TRY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute(_CREATE.sql).close()
            return
        except sqlite3.OperationalError as exc:
            if not _is_busy(exc) or time.monotonic() > end:
                raise
            time.sleep(_AGAIN_SECONDS)
