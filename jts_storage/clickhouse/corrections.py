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
from jts_storage.domain.correction import Correction
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import Page
from jts_storage.errors import StorageError

Read: TypeAlias = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which corrections are wanted.

    :param since: only those of later commits than this version.
    :param is_kept: whether all that was corrected by later ones is kept: then a candle that none
        has followed was deleted.
    """

    key: SeriesKey
    first: int
    last: int
    since: int
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
        self, key: SeriesKey, first: int, last: int, since: int, limit: int
    ) -> Page[Correction]:
        """What was corrected in a range by later commits than a version; see `CandleStore`."""
        wanted = Wanted(key, first, last, since, limit, self._knows_reach)
        return await self._manager.run_read(corrections, self._manager, self._tables, wanted)


def corrections(manager: ClickHouseManager, tables: Tables, wanted: Wanted) -> Page[Correction]:
    """The first corrections in the order of their commits."""
    read = partial(manager.read_columns, stored=stored_types(tables.candles))
    bound = parameters(wanted.key, wanted.first, wanted.last)
    bound |= {"since": wanted.since, "limit": wanted.limit + 1}
    former = read(statements.select_corrected(tables.history), bound)
    if not former or not len(former["ms"]):
        return Page()
    bound["stamps"] = sorted(set(former["ms"].tolist()))
    then: dict[tuple[int, int], Candle] = {}
    still: set[tuple[int, int]] = set()
    present = read(statements.select_present(tables.candles), bound)
    for place, candle in _candles(wanted.key, present, "begins"):
        then[place] = candle
        still.add(place)
    then |= _candles(wanted.key, read(statements.select_later(tables.history), bound), "begins")
    deleted = set() if wanted.is_kept else _deleted(read, tables, bound)
    found = []
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
        if after is None and not wanted.is_kept and not _is_proven(deleted, ms, ended):
            raise UnprovenDeletion(f"What came of a candle of {wanted.key} is not known here.")
        found.append(Correction(Commit(ended), str(source), before, after))
    return Page(found[: wanted.limit], has_more=len(former["ms"]) > wanted.limit)


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
