"""One runner at a time on a ClickHouse, which has no locks: a table in which the first row wins.

Each holder takes the next number. Two that try the same number insert under the same
deduplication token, so the server keeps the row of one, and reading it back tells whose. A holder
adds a sign of life now and then; when the last one is too old, the next number may be taken.
It is no lease of `mongo.leases`, because ClickHouse may be migrated where there is no MongoDB.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Select, func, insert, select

from jts_storage._runtime.processes import is_gone, new_owner, returned
from jts_storage.clickhouse.constructs import text_of
from jts_storage.migrate.clickhouse_tables import lock_table
from jts_storage.migrate.copying import Execute
from jts_storage.migrate.waiting import Waiting, taken_over

LEASE_SECONDS: Final = 60.0
_WHERE: Final = "this ClickHouse"


class Lock:
    """The right to migrate; to be held with `held`."""

    def __init__(self, execute: Execute, cluster: str | None) -> None:
        self._execute = execute
        self._table = lock_table(cluster)
        # On a cluster a row counts when most replicas have it, and a reader waits for it.
        self._reading: Mapping[str, Any] = {"select_sequential_consistency": 1} if cluster else {}
        self._writing: Mapping[str, Any] = {"async_insert": 0, "insert_deduplicate": 1} | (
            {"insert_quorum": "auto", "insert_quorum_parallel": 0} if cluster else {}
        )

    @contextmanager
    def held(self, patience: float) -> Iterator[Callable[[], None]]:
        """Hold it, and get what must be called now and then to keep it.

        :raises Conflict: another runner kept it for all of `patience` seconds.
        """
        owner = new_owner()
        with returned(owner):  # an attempt that fails may have taken it before it failed
            number = self._take(owner, patience)
        try:
            yield _Beat(self, number, owner)
        finally:
            with returned(owner):
                self._write(number, "free", owner)

    def holder(self) -> int:
        """The latest number that was taken."""
        return int(self._read(select(func.max(self._table.c.number)))[0][0])

    def write_beat(self, number: int, owner: str) -> None:
        self._write(number, "alive", owner)

    def _take(self, owner: str, patience: float) -> int:
        waiting = Waiting(_WHERE, patience)
        while True:
            latest, who = self._latest()
            if who is None and self._try(latest + 1, owner):
                return latest + 1
            time.sleep(waiting.pause(who, LEASE_SECONDS))

    def _latest(self) -> tuple[int, str | None]:
        """The latest number, and who holds it, if anybody still does."""
        c = self._table.c
        rows = self._read(
            select(
                c.number,
                func.argMin(c.owner, c.event != "take"),
                func.countIf(c.event == "free"),
                func.toFloat64(func.now64(3)) - func.toFloat64(func.max(c.at)),
            )
            .group_by(c.number)
            .order_by(c.number.desc())
            .limit(1)
        )
        if not rows:
            return 0, None
        number, who, freed, silence = rows[0]
        over = freed or silence > LEASE_SECONDS or is_gone(who)
        return int(number), None if over else str(who)

    def _try(self, number: int, owner: str) -> bool:
        self._write(number, "take", owner, token=f"take-{number}")
        c = self._table.c
        won = self._read(select(c.owner).where(c.number == number, c.event == "take"))
        return [row[0] for row in won] == [owner] and self.holder() == number

    def _read(self, query: Select[Any]) -> Any:
        return self._execute(text_of(query), settings=self._reading)

    def _write(self, number: int, event: str, owner: str, token: str = "") -> None:
        token = token or f"{event}-{number}-{time.time_ns()}"
        row = insert(self._table).values(number=number, event=event, owner=owner)
        self._execute(
            text_of(row),
            settings={**self._writing, "insert_deduplication_token": token},
        )


class _Beat:
    """Writes a sign of life, at most a few in a lease, and notices when the lock was lost."""

    def __init__(self, lock: Lock, number: int, owner: str) -> None:
        self._lock, self._number, self._owner = lock, number, owner
        self._last = time.monotonic()
        self._busy = threading.Lock()

    def __call__(self) -> None:
        with self._busy:
            if time.monotonic() - self._last < LEASE_SECONDS / 6:
                return
            if self._lock.holder() != self._number:
                raise taken_over(_WHERE)
            self._lock.write_beat(self._number, self._owner)
            self._last = time.monotonic()
