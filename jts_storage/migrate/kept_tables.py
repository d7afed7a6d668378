"""Tables that migrations replaced and kept: found, compared with those in their place, dropped."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnClause,
    column,
    func,
    literal_column,
    not_,
    select,
    text,
    types,
    union_all,
)

from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.tables import build
from jts_storage.errors import StorageError
from jts_storage.migrate.copying import (
    Execute,
    RowRange,
    count_rows,
    on_every_host,
    ranges_of,
    table_names,
)
from jts_storage.migrate.replacing import KEPT
from jts_storage.migrate.reports import Progress, Report
from jts_storage.migrate.running import Run

_KEYS: Final = {"candles": ("symbol", "exchange", "timeframe", "timestamp"), "symbols": ("code",)}
"""What kept tables call the columns of a key: as the models call them in Python, for good."""
_NAME: Final = re.compile(rf"({'|'.join(_KEYS)}){KEPT}(_\d+)?")


@dataclass(frozen=True, slots=True)
class Kept:
    """An old table beside the one that took its place.

    :param keys: how many different candles or symbols its rows are of.
    :param missing: how many of them the table in its place does not have, also not as deleted.
    """

    table: str
    in_its_place: str
    rows: int
    keys: int
    missing: int


@dataclass(frozen=True, slots=True)
class KeptTables:
    """The old tables of one database."""

    execute: Execute
    run: Run

    def compared(self, report: Report) -> list[Kept]:
        """Each, and what the table in its place lacks of it."""
        return [
            self._compared(name, report)
            for name in table_names(self.execute)
            if _NAME.fullmatch(name)
        ]

    def drop(self, kept: Sequence[Kept]) -> None:
        """:raises StorageError: one of them has what is nowhere else; then none is dropped."""
        for each in kept:
            if each.missing:
                raise StorageError(
                    f"{each.table} has {each.missing:,} of {each.keys:,} keys that"
                    f" {each.in_its_place} does not have; nothing was dropped.",
                    remedy=f"Copy them over, or drop {each.table} by hand if they are not wanted.",
                )
        for each in kept:
            # Core knows no SYNC.
            self.execute(f"DROP TABLE IF EXISTS {each.table}{self.run.on_cluster} SYNC")

    def _compared(self, name: str, report: Report) -> Kept:
        found = _NAME.fullmatch(name)
        assert found is not None
        place, source = found[1], on_every_host(name, self.run.cluster)
        ranges = (
            ranges_of(self.execute, source, self.run.chunk_rows)
            if place == "candles"
            else [RowRange("1", count_rows(self.execute, source))]
        )
        total = sum(each.rows for each in ranges)
        began, rows, keys, missing = time.monotonic(), 0, 0, 0
        for each in ranges:
            all_keys, lacking = self.execute(_lacking(place, source, each.where))[0]
            rows, keys, missing = rows + each.rows, keys + int(all_keys), missing + int(lacking)
            seconds = time.monotonic() - began
            report(Progress(f"{name} against {place}", rows, total, rows, seconds))
        return Kept(name, place, rows, keys, missing)


def _lacking(place: str, source: str, where: str) -> str:
    # The source may be a function of a cluster, and the condition is in the words of kept tables.
    kept, condition = text(source), literal_column(where, types.Boolean)
    names: list[ColumnClause[Any]] = [column(name) for name in _KEYS[place]]
    declared = getattr(build(), place)
    ours = select(*(declared.c[name.key].label(name.key) for name in names)).subquery()
    both = union_all(
        select(*names, literal_column("0").label("ours")).select_from(kept).where(condition),
        select(*ours.c, literal_column("1").label("ours")).where(condition),
    ).subquery()
    is_ours, key = both.c.ours, [both.c[name.key] for name in names]
    missing = (
        select(func.max(is_ours).label("there"))
        .group_by(*key)
        .having(not_(func.min(is_ours)))
        .subquery()
    )
    return text_of(select(func.count(), func.countIf(not_(missing.c.there))))
