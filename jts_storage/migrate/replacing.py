"""A ClickHouse table replaced by one of another definition, with all its rows.

Core knows neither EXCHANGE and RENAME of tables nor DROP ... SYNC, so these are text.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import text_of
from jts_storage.errors import StorageError
from jts_storage.migrate.copying import Copy, RangeCopy, on_every_host
from jts_storage.migrate.definition import LOCAL, Definition
from jts_storage.migrate.running import count, execute, exists, run

KEPT: Final = "_legacy"
"""What the name of a replaced table ends with while it is kept."""

_LONGEST_INSERT: Final = 600.0
_PAUSE: Final = 0.05

_UNIQUE_PATH: Final = "/clickhouse/tables/{uuid}/{shard}"
"""Where replicas of a table meet that takes over the name of one that is still there."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """One table on its way into the place of another; see `jts_storage.migrate.tables.replace`."""

    name: str
    definition: Definition
    copy: Copy
    keep: bool
    first_number: int = 1

    def run(self) -> None:
        """Fill, compare, exchange, put away; what an interrupted run has done is left out."""
        if not self._is_there_already(self._holder):
            copied = self._fill()
            self._exchange()
            if copied is not None:
                # Before anything else: until then nobody sees what was written last.
                self._copying(self._replaced_rows, self.name).catch_up(copied)
        if self._is_beneath and self.definition.marker is not None:
            self._spread_new_columns()
        if exists(self._new):
            self._retire()
        self._clear()

    def print(self) -> None:
        """The same for a person to run."""
        self._create()
        execute(self.copy.insert(self._rows_to_copy, self._filled))
        execute(self.copy.comparison(self._rows_to_copy, self._filled))
        execute("-- go on only if that found nothing")
        self._exchange()
        if self._is_beneath and self.definition.marker is not None:
            self._spread_new_columns()
        if self.keep:
            execute(f"RENAME TABLE {self._new} TO {self._kept(self.first_number)}{{on_cluster}}")
        else:
            execute(f"DROP TABLE {self._new}{{on_cluster}} SYNC")
        self._drop_spread()

    # ---- names

    @property
    def _holder(self) -> str:
        """The table that is replaced by another."""
        return f"{self.name}{LOCAL}" if self._is_beneath else self.name

    @property
    def _new(self) -> str:
        """The other one, and the one that was replaced once their names are exchanged."""
        return f"{self._holder}_new"

    @property
    def _spread(self) -> str:
        return f"{self.name}_spread"

    @property
    def _journal(self) -> str:
        return f"{self.name}_copied"

    @property
    def _leaves_shards(self) -> bool:
        """Whether rows of a distributed table go back to plain tables on the hosts."""
        return run().cluster is not None and self.definition.sharded_by is None

    @property
    def _is_beneath(self) -> bool:
        """Whether the tables that hold a cluster's rows are replaced beneath the distributed one,
        which is there before and after.
        """
        is_sharded = run().cluster is not None and self.definition.sharded_by is not None
        return is_sharded and self.copy.source_is_ours

    @property
    def _filled(self) -> str:
        """Through what the new table gets its rows."""
        return self._spread if self._leaves_shards or self._is_beneath else self._new

    @property
    def _rows_to_copy(self) -> str:
        return self.name if self._is_beneath else self._old_rows(self.name)

    @property
    def _replaced_rows(self) -> str:
        """The rows that were replaced, once the names are exchanged."""
        return self._spread if self._is_beneath else self._old_rows(self._new)

    def _old_rows(self, table: str) -> str:
        return table if self._leaves_shards else on_every_host(table, run().cluster)

    # ---- steps

    def _is_there_already(self, table: str) -> bool:
        if not exists(self.name):
            raise StorageError(
                f"Table {self.name} is missing, though an earlier migration made it.",
                remedy="Run `jts-storage migrate stamp base --chain kit --store clickhouse`, then"
                " `migrate up`: what is there is kept.",
            )
        if self.definition.marker is None:
            return _sort_key(table) == self.definition.order_by.strip("()")
        column, kind = self.definition.marker
        return _type_of(table, column) == kind

    def _fill(self) -> int | None:
        """Copy the rows.

        :returns: the version above which rows may still be lacking; None if they have no versions.
        """
        if not self.copy.is_repeatable:
            self._drop(self._spread, self._new)
        if not exists(self._new):
            # The journal tells of ranges in a table that is gone.
            self._drop(self._journal)
        self._create()
        copying = self._copying(self._rows_to_copy, self._filled)
        version = None if self.copy.version is None else copying.latest_version()
        if count(self._rows_to_copy):
            copying.run(compare=True)
        return None if version is None else copying.catch_up(version)

    def _create(self) -> None:
        cluster = run().cluster
        if cluster is not None and self._is_beneath:
            execute(self.definition.replicated(self._new, cluster, path=_UNIQUE_PATH))
        else:
            for statement in self.definition.statements(self._new, self.name, cluster):
                execute(statement)
        if cluster is not None and self._filled == self._spread:
            # Each shard keeps its part: one host might not hold them all.
            by = self.copy.key[0]
            execute(
                self.definition.distributed(self._spread, over=self._new, by=by, cluster=cluster)
            )

    def _exchange(self) -> None:
        execute(f"EXCHANGE TABLES {self._holder} AND {self._new}{{on_cluster}}")

    def _spread_new_columns(self) -> None:
        """Give the distributed table the columns of those beneath it."""
        cluster, by, distributed = run().cluster, self.definition.sharded_by, f"{self.name}_new"
        assert cluster is not None
        assert by is not None
        if run().execute is None or not self._is_there_already(self.name):
            execute(
                self.definition.distributed(distributed, over=self._holder, by=by, cluster=cluster)
            )
            execute(f"EXCHANGE TABLES {self.name} AND {distributed}{{on_cluster}}")
        self._drop(distributed)

    def _retire(self) -> None:
        """Put the old table away, with care for what was written until the names were exchanged."""
        if self.copy.version is not None:
            self._wait_for_writers()
            self._copying(self._replaced_rows, self.name).run_late()
        if not self.keep and self._shortfall() > 0:
            kept = self._put_by()
            raise StorageError(
                f"Somebody wrote to {self.name} while it was replaced: {kept} has rows that it"
                " lacks.",
                remedy=f"Insert them by hand, drop {kept}, and run the same again.",
            )
        if not self.keep or not count(self._replaced_rows):
            self._drop(self._new)
            return
        if self.copy.is_repeatable and self.copy.version is None:
            self._copying(self._replaced_rows, self.name).run(compare=False)
        self._put_by()

    def _wait_for_writers(self) -> None:
        """Wait for inserts that began before the exchange: they write to the table that was
        replaced, which nobody looks at later.

        :raises StorageError: one of them takes longer than any insert of the kit.
        """
        ends = time.monotonic() + _LONGEST_INSERT
        begun = running = self._inserts()
        while begun & running:
            if time.monotonic() > ends:
                raise StorageError(
                    f"An insert that began before {self.name} was replaced has not ended for"
                    f" {_LONGEST_INSERT:.0f} s; it may write to {self._new}.",
                    remedy="See system.processes, end it, and run the same again.",
                )
            run().alive()
            time.sleep(_PAUSE)
            running = self._inserts()

    def _inserts(self) -> set[str]:
        """Return the inserts that are under way, in whatever table."""
        cluster = run().cluster
        rows = (
            f"clusterAllReplicas({cluster}, system, processes)" if cluster else "system.processes"
        )
        of_inserts = "query_kind IN ('Insert', 'AsyncInsertFlush')"
        found = execute(f"SELECT query_id FROM {rows} WHERE {of_inserts}")
        return {str(query_id) for (query_id,) in found}

    def _shortfall(self) -> int:
        target = self.name
        if self._leaves_shards:
            # One replica of each shard got the rows, or all of them did.
            target = f"cluster({run().cluster}, currentDatabase(), {self.name})"
        return int(execute(self.copy.shortfall(self._replaced_rows, target))[0][0])

    def _put_by(self) -> str:
        kept = self._free_name()
        execute(f"RENAME TABLE {self._new} TO {kept}{{on_cluster}}")
        return kept

    def _clear(self) -> None:
        self._drop(self._journal)
        self._drop_spread()

    def _copying(self, source: str, target: str) -> RangeCopy:
        current = run()
        assert current.execute is not None
        return RangeCopy(
            copy=self.copy,
            source=source,
            target=target,
            journal=self._journal,
            execute=current.execute,
            report=current.report,
            alive=current.alive,
            chunk_rows=current.chunk_rows,
        )

    def _drop_spread(self) -> None:
        if self._filled == self._spread:
            self._drop(self._spread)
        if self._leaves_shards:
            self._drop(f"{self.name}{LOCAL}")

    def _free_name(self) -> str:
        number = self.first_number
        while exists(self._kept(number)):
            number += 1
        return self._kept(number)

    def _kept(self, number: int) -> str:
        return f"{self.name}{KEPT}" + (f"_{number}" if number > 1 else "")

    def _drop(self, *names: str) -> None:
        for name in names:
            execute(f"DROP TABLE IF EXISTS {name}{{on_cluster}} SYNC")


def _type_of(table: str, column: str) -> str | None:
    """Return the type of a column; None if the table has none of this name."""
    c = system.columns.c
    of_column = (system.is_here(system.columns), c.table == table, c.name == column)
    found = execute(text_of(select(c.type).where(*of_column)))
    return str(found[0][0]) if found else None


def _sort_key(table: str) -> str:
    """Return the columns of a sort key as the server writes them."""
    c = system.tables.c
    found = execute(
        text_of(select(c.sorting_key).where(system.is_here(system.tables), c.name == table))
    )
    return str(found[0][0]) if found else ""
