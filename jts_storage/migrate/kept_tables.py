"""Tables that migrations replaced and kept: found, compared with those in their place, dropped."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from jts_storage.errors import StorageError
from jts_storage.migrate.copying import Execute, Range, ranges_of
from jts_storage.migrate.replacing import KEPT
from jts_storage.migrate.reports import Progress, Report

_KEYS: Final = {"candles": "symbol, exchange, timeframe, timestamp", "symbols": "code"}
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
    """The old tables of one database.

    :param everywhere: how a table is called of which each host of a cluster has its own.
    """

    execute: Execute
    on_cluster: str
    everywhere: Callable[[str], str]
    chunk_rows: int

    def compared(self, report: Report) -> list[Kept]:
        """Each, and what the table in its place lacks of it."""
        return [self._compared(name, report) for name in self._names()]

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
            self.execute(f"DROP TABLE IF EXISTS {each.table}{self.on_cluster} SYNC")

    def _names(self) -> list[str]:
        rows = self.execute(
            "SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name"
        )
        return [name for (name,) in rows if _NAME.fullmatch(name)]

    def _compared(self, name: str, report: Report) -> Kept:
        found = _NAME.fullmatch(name)
        assert found is not None
        place, source = found[1], self.everywhere(name)
        ranges = (
            ranges_of(self.execute, source, self.chunk_rows)
            if place == "candles"
            else [Range("1", int(self.execute(f"SELECT count() FROM {source}")[0][0]))]
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
    key = _KEYS[place]
    return (
        "SELECT count(), countIf(NOT there) FROM ("
        f"SELECT {key}, max(ours) AS there, min(ours) AS only_there FROM ("
        f"SELECT {key}, 0 AS ours FROM {source} WHERE {where}"
        f" UNION ALL SELECT {key}, 1 AS ours FROM {place} WHERE {where})"
        f" GROUP BY {key} HAVING NOT only_there)"
    )
