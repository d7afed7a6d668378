"""An incremental import comes to the same in blocks of any size, interrupted or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jts_storage import Candle, CandleSeries, Market, SeriesKey, Storage, Timeframe
from jts_storage.domain.moments import AsOf
from jts_storage.readable import ReadableStores
from jts_storage.testing.contracts.samples import examples
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.quality import Action, QualityPolicy, Rule
from jts_storage.usecases.quarantine import Quarantine
from jts_storage.usecases.results import COUNTS, ImportResult

KEY = SeriesKey("A", Timeframe.M1)
START = datetime(2024, 1, 2, tzinfo=UTC)
SECOND = int(START.timestamp())
ALL = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
WHOLE = 1_000
SEEDED = (0, 3, 4, 9)
"""The minutes that are stored before."""
TORN = 9
"""The close of a row that contradicts itself."""


class Killed(BaseException):
    pass


@dataclass
class Killer:
    """Ends an import once, after so many blocks."""

    after: int
    blocks: int = 0

    def __call__(self, _: ImportProgress) -> None:
        self.blocks += 1
        if self.blocks == self.after:
            raise Killed


@dataclass
class Case:
    """Rows as minute and close, and what is done with them."""

    rows: list[tuple[int, int]]
    actions: dict[Rule, Action] = field(default_factory=dict)

    @property
    def text(self) -> str:
        lines = (
            f"{SECOND + 60 * minute},{close},{close - (close == TORN)},{close},{close},{number}\n"
            for number, (minute, close) in enumerate(self.rows)
        )
        return "t,o,h,l,c,v\n" + "".join(lines)

    def options(self, block_rows: int) -> ImportOptions:
        return ImportOptions(
            mode="incremental",
            create=Market.KOSPI,
            block_rows=block_rows,
            policy=QualityPolicy(actions=self.actions),
        )


async def seed(storage: Storage) -> None:
    series = make_candles(KEY, 10, start=START)
    async with storage.unit_of_work() as uow:
        for minute in SEEDED:
            await uow.candles.save_many(KEY, series[minute : minute + 1])
        await uow.commit()


async def outcome(
    path: Path, case: Case, block_rows: int, *, killed_after: int | None = None
) -> dict[str, Any]:
    async with Storage.in_memory() as storage:
        await seed(storage)
        options = case.options(block_rows)
        killer = None if killed_after is None else Killer(killed_after)
        while True:
            try:
                result = await ImportCandles(storage).run(
                    path, Timeframe.M1, symbol="A", options=options, progress=killer
                )
            except Killed:
                continue
            return await told(storage, result)


async def told(storage: Storage, result: ImportResult) -> dict[str, Any]:
    series = await storage.candles.get_range(KEY, *ALL)
    aside = await Quarantine(storage).review()
    others = sum(getattr(result, name) for name in COUNTS if name != "read")
    assert others == result.read, "a row was lost or counted twice"
    return {
        "stored": [(candle.timestamp.minute, candle.close, candle.volume) for candle in series],
        "aside": sorted((row.row, row.reasons) for row in aside),
        "skipped": result.skipped,
        "differing": result.differing,
        "inserted": result.inserted,
        "again": (result.duplicates, result.replaced, result.unchanged),
        "rejected": result.rejected,
        "broken": result.broken,
    }


MINUTES = st.integers(0, 12)
ROWS = st.lists(st.tuples(MINUTES, st.sampled_from([1, 2, TORN])), min_size=1, max_size=9)


@settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS)
@example(rows=[(5, 1), (6, 1), (5, 2), (6, 2)])
@example(rows=[(11, 1), (5, 1), (7, 1), (6, 1), (5, 2), (3, 1)])
async def test_rows_that_come_again_in_a_gap_are_stored_alike(
    tmp_path: Path, rows: list[tuple[int, int]]
) -> None:
    case, path = Case(rows), tmp_path / "p.csv"
    path.write_text(case.text)
    whole = await outcome(path, case, WHOLE)
    for size in (1, 2, 3):
        assert await outcome(path, case, size) == whole
        for killed_after in (1, 2)[: 3 - size]:
            assert await outcome(path, case, size, killed_after=killed_after) == whole


ACTIONS = st.dictionaries(
    st.sampled_from([Rule.ORDER, Rule.OVERLAP, Rule.JUMP, Rule.OHLC, Rule.ZERO_VOLUME]),
    st.sampled_from([Action.REJECT, Action.QUARANTINE, Action.FLAG]),
).filter(lambda actions: actions.get(Rule.OHLC) is not Action.FLAG)


@settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS, actions=ACTIONS)
# A row that is set aside: the next one is compared with the one before, and in a run that was
# interrupted as well.
@example(rows=[(5, 1), (6, 2), (7, 1), (8, 1)], actions={Rule.JUMP: Action.QUARANTINE})
@example(rows=[(10, 2), (11, TORN), (12, 2)], actions={})
@example(rows=[(1, 1), (1, 2), (2, 2), (5, 2), (6, 1)], actions={Rule.JUMP: Action.QUARANTINE})
async def test_rows_are_judged_alike(
    tmp_path: Path, rows: list[tuple[int, int]], actions: dict[Rule, Action]
) -> None:
    case, path = Case(rows, actions), tmp_path / "p.csv"
    path.write_text(case.text)
    whole = await outcome(path, case, WHOLE)
    for size in (1, 2, 3):
        assert await outcome(path, case, size) == whole
        for killed_after in (1, 2)[: 3 - size]:
            assert await outcome(path, case, size, killed_after=killed_after) == whole


async def test_history_is_read_only_where_the_import_has_filled_a_gap_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    as_of, data_set = ReadableStores.as_of, Storage.data_set

    async def spied_as_of(self: ReadableStores, moment: AsOf) -> Any:
        asked.append("as_of")
        return await as_of(self, moment)

    async def spied_data_set(self: Storage, *args: Any, **more: Any) -> Any:
        asked.append("data_set")
        return await data_set(self, *args, **more)

    monkeypatch.setattr(ReadableStores, "as_of", spied_as_of)
    monkeypatch.setattr(Storage, "data_set", spied_data_set)
    path = tmp_path / "p.csv"
    for minutes, expected in (
        ([10, 11, 12, 11], []),  # behind all that was stored
        ([0, 3, 4, 9], []),  # nothing new
        ([5, 6, 7, 8], ["data_set"]),  # a gap, in order
        ([8, 7, 6, 5], ["data_set"]),
        ([5, 6, 5, 7], ["data_set", "as_of"]),
    ):
        asked.clear()
        case = Case([(minute, 1) for minute in minutes])
        path.write_text(case.text)
        await outcome(path, case, 2)
        assert asked == expected


async def series_of(
    storage: Storage, *blocks: list[tuple[int, int]]
) -> AsyncIterator[CandleSeries]:
    """A block of each; before the last, what was is purged."""
    for number, rows in enumerate(blocks, 1):
        if number == len(blocks):
            await storage.candles.purge_history([KEY])
        candles = []
        for minute, close in rows:
            price = Decimal(close)
            stamp = START + timedelta(minutes=minute)
            candles.append(Candle(stamp, price, price, price, price, volume=1))
        yield CandleSeries.from_candles(KEY, candles)


async def test_without_history_the_first_of_two_rows_in_a_gap_stays() -> None:
    async with Storage.in_memory() as storage:
        await seed(storage)
        case = Case([])
        result = await ImportCandles(storage).run(
            series_of(storage, [(5, 1), (6, 1)], [(5, 2), (7, 2)]), options=case.options(2)
        )
        found = await told(storage, result)
        assert (found["skipped"], found["differing"], found["inserted"]) == (1, 1, 3)
        closes = {minute: close for minute, close, _ in found["stored"]}
        assert (closes[5], closes[6], closes[7]) == (1, 1, 2)


async def test_a_state_of_an_earlier_release_is_gone_on_with(tmp_path: Path) -> None:
    case, path = Case([(5, 1), (6, 1), (7, 1), (8, 1), (5, 2), (10, 1)]), tmp_path / "p.csv"
    path.write_text(case.text)
    async with Storage.in_memory() as storage:
        await seed(storage)

        async def run(progress: Killer | None) -> ImportResult:
            return await ImportCandles(storage).run(
                path, Timeframe.M1, symbol="A", options=case.options(2), progress=progress
            )

        with pytest.raises(Killed):
            await run(Killer(2))
        (state,) = await storage.ingestion.checkpoints.list()
        new = {"filled", "began", "pending_before"}
        async with storage.unit_of_work() as uow:
            older = {name: value for name, value in state.data.items() if name not in new}
            await uow.ingestion.checkpoints.save(state.name, older)
            await uow.commit()
        found = await told(storage, await run(None))
        # What its run had stored counts as stored before, as it did then.
        assert (found["inserted"], found["skipped"], found["differing"]) == (5, 1, 1)


@pytest.mark.parametrize("is_purged", [False, True])
async def test_the_block_after_the_pending_one_is_judged_by_its_last_row(
    tmp_path: Path, is_purged: bool
) -> None:
    """Its own rows, which are stored by now, are not those that were skipped."""
    case, path = Case([(5, 1), (6, 1), (7, 2), (8, 2)]), tmp_path / "p.csv"
    path.write_text(case.text)
    async with Storage.in_memory() as storage:
        await seed(storage)

        async def run(progress: Killer | None) -> ImportResult:
            return await ImportCandles(storage).run(
                path, Timeframe.M1, symbol="A", options=case.options(2), progress=progress
            )

        with pytest.raises(Killed):
            await run(Killer(1))
        if is_purged:
            await storage.candles.purge_history([KEY])
        found = await told(storage, await run(None))
        assert (found["broken"]["jump"], found["inserted"], found["skipped"]) == (1, 4, 0)
