"""What the history tells of commits that come late, or are applied again after later ones."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import count, permutations
from typing import Any

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.corrections import Wanted, corrections
from jts_storage.clickhouse.history import Kept
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import START
from tests.runs import some_by_day

# What the statements mean is the same whatever the way to the engine.
pytestmark = pytest.mark.parametrize(
    "bare_manager", some_by_day(["embedded", "tcp"], 2), indirect=True
)

Change = Callable[..., CandleChanges]

fresh = count()


def save(close: int) -> Change:
    def of(*keys: SeriesKey) -> CandleChanges:
        changes = CandleChanges(source=f"close {close}")
        for key in keys:
            candle = Candle(START, Decimal(1), Decimal(9), Decimal(1), Decimal(close), 1)
            changes.save(SeriesRows.of(CandleSeries(key, [candle])))
        return changes

    return of


def delete(*keys: SeriesKey) -> CandleChanges:
    changes = CandleChanges(source="deletion")
    for key in keys:
        changes.delete(key, FIRST_MS, LAST_MS)
    return changes


class Told:
    """Commits applied to one store, and what it tells of the past of some new series."""

    def __init__(self, manager: ClickHouseManager, series: int = 1) -> None:
        self._manager = manager
        self._keys = [SeriesKey(f"late {next(fresh)}", Timeframe.D1) for _ in range(series)]
        self._candles = ClickHouseCandleRepository(manager)

    @property
    def symbols(self) -> list[str]:
        return [key.symbol for key in self._keys]

    def apply(self, change: Change, version: int) -> None:
        self._candles.apply(change(*self._keys), version)

    async def closes(self, *versions: int) -> list[list[int]]:
        """As of each version, by whatever way it is read."""
        found = []
        for version in versions:
            was = self._candles.as_of(version)
            for key in self._keys:
                series = await was.get_range(key, *FOREVER)
                assert await was.get_latest(key) == series
                panel = await was.get_panel(Timeframe.D1, *FOREVER, keys=[key])
                assert panel.get(key, CandleSeries.empty(key)) == series
            found.append([int(candle.close) for candle in series])
        return found

    def corrections(self) -> list[tuple[int, str]]:
        wanted = Wanted(self._keys[-1], FIRST_MS, LAST_MS, (0, LAST_MS), 100)
        found = corrections(self._manager, tables.build(), wanted)
        return [(each.commit.version, each.source) for each in found]


@pytest.mark.parametrize("series", some_by_day([2, 1]))
@pytest.mark.parametrize("second", [delete, save(3)], ids=["deleted", "corrected"])
async def test_a_commit_that_is_applied_again_changes_nothing_that_was(
    manager: ClickHouseManager, series: int, second: Change
) -> None:
    told = Told(manager, series)
    told.apply(save(2), 10)
    told.apply(second, 20)
    told.apply(save(4), 30)
    before = await told.closes(11, 20, 21, 31), told.corrections()
    assert before[0] == [[2], [2], [] if second is delete else [3], [4]]
    for change, version in ((save(2), 10), (second, 20), (save(2), 10)):
        told.apply(change, version)
        assert (await told.closes(11, 20, 21, 31), told.corrections()) == before


@pytest.mark.parametrize(
    "order", some_by_day(([*each],) for each in permutations((2, 3, 4))), ids=str
)
async def test_commits_that_come_in_any_order_are_read_as_they_were_numbered(
    manager: ClickHouseManager, order: list[int]
) -> None:
    told = Told(manager)
    for close in order:
        told.apply(save(close), 10 * (close - 1))
    assert await told.closes(10, 11, 20, 21, 30, 31) == [[], [2], [2], [3], [3], [4]]
    # What was kept already cannot be made to end sooner: 2 counted until 4, as far as it tells.
    ended = 31 if order[-1] == 3 else 21
    assert [version for version, _ in told.corrections()] == [ended, 31]


async def test_what_comes_late_counts_until_the_deletion_that_overtook_it(
    manager: ClickHouseManager,
) -> None:
    told = Told(manager)
    told.apply(save(1), 5)
    told.apply(delete, 20)
    told.apply(save(2), 10)
    assert await told.closes(6, 11, 20, 21) == [[1], [2], [2], []]


async def test_of_two_former_rows_that_count_at_once_the_later_one_is_read(
    manager: ClickHouseManager,
) -> None:
    told = Told(manager)
    told.apply(save(2), 10)
    told.apply(save(4), 30)
    earlier = (
        "INSERT INTO candles_history SELECT * REPLACE (toUInt64(5) AS since,"
        " toDecimal64(1, 4) AS close) FROM candles_history WHERE symbol = %(symbol)s"
    )
    manager.execute(earlier, {"symbol": told.symbols[0]}, idempotent=False)
    assert await told.closes(6, 21, 31) == [[1], [2], [4]]


async def test_what_changes_nothing_is_written_all_the_same_beside_another_write(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write under a version in between would count, if the later one had left its row out."""
    key = SeriesKey(f"late {next(fresh)}", Timeframe.D1)
    candles = ClickHouseCandleRepository(manager)
    candles.apply(save(2)(key), 5)
    keep = candles._keep

    def then_another(*given: Any) -> Kept:
        kept = keep(*given)
        monkeypatch.undo()
        ClickHouseCandleRepository(manager).apply(save(3)(key), 10)
        return kept

    monkeypatch.setattr(candles, "_keep", then_another)
    candles.replace_rows(save(2)(key).upserts, 20, source="", is_settled=True)
    assert [candle.close for candle in await candles.get_range(key, *FOREVER)] == [2]
