"""A ClickHouse table replaced by one of another definition, with all its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jts_storage.clickhouse.sql import literal
from jts_storage.errors import StorageError
from jts_storage.migrate.copying import Copy, RangeCopy, on_every_host
from jts_storage.migrate.definition import LOCAL, Definition
from jts_storage.migrate.running import count, execute, exists, run

KEPT: Final = "_legacy"
"""What the name of a replaced table ends with while it is kept."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """One table on its way into the place of another; see `jts_storage.migrate.tables.replace`."""

    name: str
    definition: Definition
    copy: Copy
    keep: bool

    def run(self) -> None:
        """Fill, compare, exchange, put away; what an interrupted run has done is left out."""
        if not self._is_there_already():
            self._fill()
            self._exchange()
        if exists(self._new):
            self._retire()
        self._clear()

    def print(self) -> None:
        """The same for a person to run."""
        self._create()
        execute(self.copy.insert(self._old_rows(self.name), self._filled))
        execute(self.copy.comparison(self._old_rows(self.name), self._filled))
        execute("-- go on only if that found nothing")
        self._exchange()
        if self.keep:
            execute(f"RENAME TABLE {self._new} TO {self.name}{KEPT}{{on_cluster}}")
        else:
            execute(f"DROP TABLE {self._new}{{on_cluster}} SYNC")
        if self._leaves_shards:
            self._drop(self._spread, f"{self.name}{LOCAL}")

    # ---- names

    @property
    def _new(self) -> str:
        return f"{self.name}_new"

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
    def _filled(self) -> str:
        """Through what the new table gets its rows."""
        return self._spread if self._leaves_shards else self._new

    def _old_rows(self, table: str) -> str:
        return table if self._leaves_shards else on_every_host(table, run().cluster)

    # ---- steps

    def _is_there_already(self) -> bool:
        column, kind = self.definition.marker
        found = execute(
            "SELECT type FROM system.columns WHERE database = currentDatabase()"
            f" AND table = {literal(self.name)} AND name = {literal(column)}"
        )
        if not exists(self.name):
            raise StorageError(
                f"Table {self.name} is missing, though an earlier migration made it.",
                remedy="Run `jts-storage migrate stamp base --store clickhouse`, then"
                " `migrate up`: what is there is kept.",
            )
        return [tuple(row) for row in found] == [(kind,)]

    def _fill(self) -> None:
        if not self.copy.is_repeatable:
            self._drop(self._spread, self._new)
        if not exists(self._new):
            # The journal tells of ranges in a table that is gone.
            self._drop(self._journal)
        self._create()
        if count(self._old_rows(self.name)):
            self._copy_ranges(self.name, self._filled, compare=True)

    def _create(self) -> None:
        cluster = run().cluster
        for statement in self.definition.statements(self._new, self.name, cluster):
            execute(statement)
        if cluster is not None and self._leaves_shards:
            # Each shard keeps its part: one host might not hold them all.
            by = self.copy.key[0]
            execute(
                self.definition.distributed(self._spread, over=self._new, by=by, cluster=cluster)
            )

    def _exchange(self) -> None:
        execute(f"EXCHANGE TABLES {self.name} AND {self._new}{{on_cluster}}")

    def _retire(self) -> None:
        """Put the old table away, with care for what was written until the names were exchanged."""
        if not self.keep and self._shortfall() > 0:
            kept = self._put_by()
            raise StorageError(
                f"Somebody wrote to {self.name} while it was replaced: {kept} has rows that it"
                " lacks.",
                remedy=f"Insert them by hand, drop {kept}, and run the same again.",
            )
        if not self.keep or not count(self._old_rows(self._new)):
            self._drop(self._new)
            return
        if self.copy.is_repeatable:
            self._copy_ranges(self._new, self.name, compare=False)
        self._put_by()

    def _shortfall(self) -> int:
        target = self.name
        if self._leaves_shards:
            # One replica of each shard got the rows, or all of them did.
            target = f"cluster({run().cluster}, currentDatabase(), {self.name})"
        return int(execute(self.copy.shortfall(self._old_rows(self._new), target))[0][0])

    def _put_by(self) -> str:
        kept = self._free_name()
        execute(f"RENAME TABLE {self._new} TO {kept}{{on_cluster}}")
        return kept

    def _clear(self) -> None:
        self._drop(self._journal)
        if self._leaves_shards:
            self._drop(self._spread, f"{self.name}{LOCAL}")

    def _copy_ranges(self, source: str, target: str, *, compare: bool) -> None:
        current = run()
        assert current.execute is not None
        RangeCopy(
            copy=self.copy,
            source=self._old_rows(source),
            target=target,
            journal=self._journal,
            execute=current.execute,
            report=current.report,
            alive=current.alive,
            chunk_rows=current.chunk_rows,
        ).run(compare=compare)

    def _free_name(self) -> str:
        number = 1
        while exists(kept := f"{self.name}{KEPT}" + (f"_{number}" if number > 1 else "")):
            number += 1
        return kept

    def _drop(self, *names: str) -> None:
        for name in names:
            execute(f"DROP TABLE IF EXISTS {name}{{on_cluster}} SYNC")
