"""What was corrected of a series, when, by whom, and to what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from jts_storage.clickhouse import history_statements as statements
from jts_storage.clickhouse.blocks import Array
from jts_storage.clickhouse.candle_mappers import series_from_columns
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.statements import parameters, stored_types
from jts_storage.clickhouse.tables import Tables
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.correction import Correction, Place
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import Page
from jts_storage.errors import StorageError

Read: TypeAlias = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


_MOST_ROWS = 100_000
"""Former rows that are read at once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which corrections are wanted.

    :param behind: only those behind this place.
    :param is_kept: whether all that was corrected by later ones is kept: then a candle that none
        has followed was deleted.
    """

    key: SeriesKey
    first: int
    last: int
    behind: Place
    limit: int
    is_kept: bool = True


class UnprovenDeletion(StorageError):
    """A former candle was deleted, or what came of it is not kept any more; MongoDB knows which."""


class TellsCorrections:
    """Tells of the candles of one table what was corrected."""

    _manager: ClickHouseManager
    _tables: Tables
    _knows_reach = True
    """Whether whoever asks says from where on all corrections are kept."""

    async def corrections(
        self, key: SeriesKey, first: int, last: int, behind: Place, limit: int
    ) -> Page[Correction]:
        """What was corrected in a range behind a place; see `CandleStore`."""
        wanted = Wanted(key, first, last, behind, limit, self._knows_reach)
        return await self._manager.run_read(corrections, self._manager, self._tables, wanted)


def corrections(manager: ClickHouseManager, tables: Tables, wanted: Wanted) -> Page[Correction]:
    """The first corrections in the order of their commits, and of their times in each."""
    read = partial(manager.read_columns, stored=stored_types(tables.candles))
    found: list[Correction] = []
    place = wanted.behind
    # Some rows are no corrections: then others are read, until there are enough of them.
    while len(found) <= wanted.limit:
        rows = min(wanted.limit + 1 - len(found), _MOST_ROWS)
        bound = parameters(wanted.key, wanted.first, wanted.last)
        bound |= {"ended": place[0], "ms": place[1], "limit": rows}
        former = read(statements.select_corrected(tables.history), bound)
        if not former or not len(former["ms"]):
            break
        found += _corrections(read, tables, wanted, bound, former)
        if len(former["ms"]) < rows:
            break
        place = int(former["ended"][-1]), int(former["ms"][-1])
    return Page.first(wanted.limit, found)


def _corrections(
    read: Read, tables: Tables, wanted: Wanted, bound: dict[str, Any], former: Mapping[str, Any]
) -> Iterator[Correction]:
    """Those former rows that a commit replaced by others or deleted, and what came of them."""
    bound["stamps"] = sorted(set(former["ms"].tolist()))
    present = read(statements.select_present(tables.candles), bound)
    then = dict(_candles(wanted.key, present, "begins"))
    still = set(then)
    then |= _candles(wanted.key, read(statements.select_later(tables.history), bound), "begins")
    deleted = set() if wanted.is_kept else _deleted(read, tables, bound)
    for (ms, ended), before, begins, source in zip(
        _places(former, "ended"),
        series_from_columns(wanted.key, former),
        former["begins"].tolist(),
        former["source"],
        strict=True,
    ):
        if (ms, begins) in still:
            continue  # of a commit that died before it could replace it
        # Earlier releases ended what a commit deletes one version before what it writes.
        after = then.get((ms, ended)) or then.get((ms, ended + 1))
        if before == after:
            continue  # deleted, and written again by the same commit
        if after is None and not wanted.is_kept and not _is_proven(deleted, ms, ended):
            raise UnprovenDeletion(f"What came of a candle of {wanted.key} is not known here.")
        yield Correction(Commit(ended), str(source), before, after)


def _deleted(read: Read, tables: Tables, bound: Mapping[str, Any]) -> set[tuple[int, int]]:
    found = read(statements.select_deleted(tables.candles), bound)
    return set(_places(found, "version")) if found else set()


def _is_proven(deleted: Collection[tuple[int, int]], ms: int, ended: int) -> bool:
    # The row that says so has the version before, and had the same one in earlier releases.
    return (ms, ended - 1) in deleted or (ms, ended) in deleted


def _places(columns: Mapping[str, Array], version: str) -> Iterator[tuple[int, int]]:
    return zip(columns["ms"].tolist(), columns[version].tolist(), strict=True)


def _candles(
    key: SeriesKey, columns: Mapping[str, Any], version: str
) -> Iterator[tuple[tuple[int, int], Candle]]:
    if columns:
        yield from zip(_places(columns, version), series_from_columns(key, columns), strict=True)
