"""Symbols in ClickHouse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import func

from jts_storage.clickhouse import symbol_statements as statements
from jts_storage.clickhouse.declared import DeclaredTable
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbol_model import SYMBOLS, DeclaredSymbols
from jts_storage.clickhouse.tables import Tables, build
from jts_storage.clickhouse.versions import Versions
from jts_storage.domain.changes import stamp_all
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import InvalidData, SchemaDrift
from jts_storage.models.table_repository import ReadOnly

_ROWS_SHOWN = 10

_versions = Versions()


class SymbolTable(DeclaredTable):
    """The rows of symbols, also in a table of the original schema."""

    def _as_read(self, column: Any) -> Any:
        # The original schema has seconds without a zone; an explicit one keeps the moment.
        is_time = column.name == self.table.c.updated_at.name
        return func.toDateTime64(column, 3, "UTC") if is_time else column


class ClickHouseSymbolStore(DeclaredSymbols):
    """A `SymbolReader` over one `ClickHouseManager`, its blocking work done in threads.

    :param tables: the declared tables, if not those of `tables.build`.
    """

    def __init__(self, manager: ClickHouseManager, *, tables: Tables | None = None) -> None:
        self._manager = manager
        self._has_versions = False
        self._symbols = (tables or build(manager.config.cluster)).symbols
        self.table = SymbolTable(manager, SYMBOLS, table=self._symbols)
        super().__init__(SYMBOLS, ReadOnly(self.table))

    # ---- the unit of work writes through these

    def apply(self, rows: pa.Table, version: int) -> None:
        """Store rows of symbols, replacing those of an earlier version.

        :raises SchemaDrift: the table has no versions yet.
        """
        self._check_schema()
        self.table.replace(rows.select(SYMBOLS.schema.names), version)

    def latest_version(self) -> int:
        """Return the highest version that is stored, whoever wrote it; 0 if nothing is.

        One that is `FURTHEST_AHEAD` does not count: it is in the way of its own symbol alone.

        :raises SchemaDrift: the table has no versions yet.
        """
        self._check_schema()
        latest, _ = self._latest_and_now(())
        return latest

    def version_before_now(self, replacing: Collection[str]) -> int:
        """Return what a version must be above to be later than what is stored, and earlier than
        what other programs will store: theirs is ClickHouse's time.

        :param replacing: the codes of symbols that are to be stored.
        :raises SchemaDrift: the table has no versions yet.
        :raises InvalidData: one of them is stored under a version that nothing can be above.
        """
        self._check_schema()
        latest, now = self._latest_and_now(replacing)
        # Not long before now: migration 0005 may take over rows later, all far below it.
        return max(latest, now - 1)

    def _latest_and_now(self, replacing: Collection[str]) -> tuple[int, int]:
        """Return `latest_version`, and the server's time as a version."""
        query = statements.select_versions(self._symbols)
        [(latest, highest, moment)] = self._manager.execute(query)
        if highest > latest:
            self._refuse_unreplaceable(replacing, int(latest))
        return int(latest), int(moment)

    def _refuse_unreplaceable(self, codes: Collection[str], latest: int) -> None:
        query = statements.select_above(self._symbols)
        rows = self._manager.execute(query, {"version": latest})
        found = {code: version for code, version in rows if code in codes}
        if not found:
            return
        shown = list(found.items())[:_ROWS_SHOWN]
        names = ", ".join(f"{code!r} (version {version})" for code, version in shown)
        more = " and others" if len(found) > _ROWS_SHOWN else ""
        raise InvalidData(
            f"symbols cannot be saved over rows whose version nothing can be above: {names}{more}",
            field="version",
            remedy="Another program wrote them. Remove them from the table symbols"
            f" (ALTER TABLE symbols DELETE WHERE version >= {min(found.values())}), and save"
            " again.",
        )

    def _check_schema(self) -> None:
        if self._has_versions:
            return
        query = statements.select_columns(self._symbols)
        columns = [name for (name,) in self._manager.execute(query)]
        if not columns:
            raise SchemaDrift(
                "Table symbols does not exist.", remedy="Run `jts-storage migrate up`."
            )
        if self._symbols.c.version.name not in columns:
            raise SchemaDrift(
                "Table symbols has an earlier schema, which can be read but not written: "
                "it knows no versions.",
                remedy="Run `jts-storage migrate up`; no row is lost.",
            )
        self._has_versions = True


class ClickHouseSymbolRepository(ClickHouseSymbolStore):
    """A `SymbolRepository` for a service without the other stores: each save is a commit."""

    def store(self, symbols: Sequence[Symbol], version: int) -> None:
        """Store symbols under a version; of equal codes the last counts."""
        latest = {symbol.code: symbol for symbol in symbols}
        self.apply(SYMBOLS.to_columns(latest.values()), version)

    async def save_many(self, symbols: Iterable[Symbol]) -> Sequence[Symbol]:
        stamped = stamp_all(symbols)
        if stamped:
            await self._manager.run(self._save_many, stamped)
        return stamped

    def _save_many(self, stamped: Sequence[Symbol]) -> None:
        """Store symbols under a version that the server's clock gives, above all that is stored."""
        self._check_schema()
        codes = {symbol.code for symbol in stamped}

        def least() -> int:
            latest, now = self._latest_and_now(codes)
            return max(latest + 1, now)

        with _versions.of("symbols", least) as versions:
            self.store(stamped, versions(1))
