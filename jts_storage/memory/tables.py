"""Rows by table and key, and sessions that read and write them.

Rows never change: whether somebody replaced one meanwhile is a question of identity.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from time import time_ns
from typing import Any, Protocol, TypeAlias

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.beginnings import Beginnings
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.snapshot import Snapshot
from jts_storage.errors import Conflict
from jts_storage.memory.past import Past
from jts_storage.memory.revisions import HAVE_HISTORY, Former
from jts_storage.memory.subscriptions import Queues

StoredRow: TypeAlias = Any
"""What the mapper of a real store makes of an entity: a document, or the row of a table."""

RowKey = tuple[str, Hashable]

FORMULAS = "formulas"
STRATEGIES = "strategies"
BACKTESTS = "backtest_results"
SYMBOL_BARS = "symbol_bars_aggregates"
CHECKPOINTS = "checkpoints"
REFERENCES = "uow_references"
"""A row for each formula that was put to use or deleted, new each time: whoever does the one
while somebody else does the other has a conflict."""


class MemoryDatabase:
    """All rows of one in-memory storage; safe to use from several threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.rows: dict[RowKey, StoredRow] = {}
        self.former: dict[RowKey, list[Former]] = {}
        """What commits made of documents, oldest first."""
        self.candles: dict[SeriesKey, Columns] = {}
        self.past: dict[SeriesKey, Past] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.beginnings = Beginnings()
        self.outcomes: dict[str, Outcome] = {}
        self.subscriptions = Queues()
        self.version = 0
        """Of the latest commit."""
        self.bars: dict[SeriesKey, Columns] = {}
        self.appended: dict[str, list[Any]] = {}
        """Arrow tables by the declared table that they were appended to."""

    def next_version(self) -> int:
        """Versions are nanoseconds since 1970, each later than the one before."""
        self.version = self.present()
        return self.version

    def present(self) -> int:
        """The lowest version that a later commit may get."""
        return max(self.version + 1, time_ns())


class Session(Protocol):
    """Reads and writes rows, at once or in a transaction.

    :ivar keeps_history: whether what it makes of documents is kept.
    """

    keeps_history: bool

    def exclusive(self) -> AbstractContextManager[Any]:
        """Keeps others out between a read and the write that depends on it."""
        ...

    def get(self, table: str, key: Hashable) -> StoredRow | None: ...

    def put(self, table: str, key: Hashable, row: StoredRow) -> None: ...

    def delete(self, table: str, key: Hashable) -> bool: ...

    def scan(self, table: str) -> Iterator[StoredRow]: ...

    def former(self, table: str, key: Hashable) -> Sequence[Former]:
        """What commits made of a row, oldest first."""
        ...


class Autocommit:
    """A session whose writes take effect at once."""

    keeps_history = False

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def exclusive(self) -> AbstractContextManager[Any]:
        return self._database.lock

    def get(self, table: str, key: Hashable) -> StoredRow | None:
        return self._database.rows.get((table, key))

    def put(self, table: str, key: Hashable, row: StoredRow) -> None:
        with self._database.lock:
            self._database.rows[table, key] = row

    def delete(self, table: str, key: Hashable) -> bool:
        with self._database.lock:
            return self._database.rows.pop((table, key), None) is not None

    def scan(self, table: str) -> Iterator[StoredRow]:
        with self._database.lock:
            items = list(self._database.rows.items())
        return (row for (name, _), row in items if name == table)

    def former(self, table: str, key: Hashable) -> Sequence[Former]:
        with self._database.lock:
            return tuple(self._database.former.get((table, key), ()))


class MemoryTransaction:
    """A session whose writes take effect together, if nobody changed the same rows meanwhile.

    It reads all rows as they were at its first look.
    """

    keeps_history = True

    def __init__(self, database: MemoryDatabase, lifetime: Lifetime) -> None:
        self._database = database
        self._lifetime = lifetime
        self._written: dict[RowKey, StoredRow | None] = {}
        self._revisions: list[tuple[RowKey, StoredRow | None]] = []

    def exclusive(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def get(self, table: str, key: Hashable) -> StoredRow | None:
        self._lifetime.check()
        place = (table, key)
        if place in self._written:
            return self._written[place]
        return self._seen.get(place)

    @property
    def tables(self) -> set[str]:
        """Those that it writes to."""
        return {table for table, _ in self._written}

    def put(self, table: str, key: Hashable, row: StoredRow) -> None:
        self.get(table, key)
        self._write(table, key, row)

    def delete(self, table: str, key: Hashable) -> bool:
        existed = self.get(table, key) is not None
        if existed:
            self._write(table, key, None)
        return existed

    def _write(self, table: str, key: Hashable, row: StoredRow | None) -> None:
        self._written[table, key] = row
        if table in HAVE_HISTORY:
            self._revisions.append(((table, key), row))

    def scan(self, table: str) -> Iterator[StoredRow]:
        self._lifetime.check()
        rows = self._seen | self._written
        return (row for (name, _), row in rows.items() if name == table and row is not None)

    def former(self, table: str, key: Hashable) -> Sequence[Former]:
        with self._database.lock:
            return tuple(self._database.former.get((table, key), ()))

    @cached_property
    def _seen(self) -> dict[RowKey, StoredRow | None]:
        with self._database.lock:
            return dict(self._database.rows)

    def check(self) -> None:
        """:raises Conflict: somebody changed a row that this transaction writes."""
        for table, key in self._written:
            if self._database.rows.get((table, key)) is not self._seen.get((table, key)):
                if table == REFERENCES:
                    raise Conflict(
                        f"Document {key} was put to use or deleted by somebody else before this"
                        " commit.",
                        remedy="Read again and repeat.",
                    )
                raise Conflict(
                    f"{table} {key} was changed by somebody else before this commit.",
                    remedy="Read it again and repeat.",
                )

    def apply(self, version: int, source: str) -> None:
        """:param version: of the commit, under which what it makes of documents is kept."""
        for place, row in self._revisions:
            self._database.former.setdefault(place, []).append(Former(version, row, source))
        for place, row in self._written.items():
            if row is None:
                self._database.rows.pop(place, None)
            else:
                self._database.rows[place] = row
