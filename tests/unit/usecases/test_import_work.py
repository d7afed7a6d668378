"""What an import does with the rows it has read, and how it goes on after a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jts_storage import CandleSeries, Market, SeriesKey, Storage, Symbol, Timeframe
from jts_storage.errors import InvalidData, NotFound
from jts_storage.testing.factories import START, make_candles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.known_symbols import KnownSymbols
from jts_storage.usecases.quality import Action, QualityPolicy, Rule
from jts_storage.usecases.quarantine import Quarantine
from jts_storage.usecases.results import COUNTS, ImportResult

KEY = SeriesKey("005930", Timeframe.M1)
ALL = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
HEADER = "timestamp,open,high,low,close,volume\n"


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with Storage.in_memory() as storage:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(Symbol("005930", "Samsung Electronics", Market.KOSPI))
            await uow.commit()
        yield storage


async def run(storage: Storage, data: Any, **options: Any) -> ImportResult:
    result = await ImportCandles(storage).run(
        data, Timeframe.M1, symbol="005930", options=ImportOptions(**options)
    )
    others = sum(getattr(result, name) for name in COUNTS if name != "read")
    assert others == result.read, "a row was lost or counted twice"
    return result


async def stored(storage: Storage, key: SeriesKey = KEY) -> CandleSeries:
    return await storage.candles.get_range(key, *ALL)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "prices.parquet"
    pq.write_table(make_candles(KEY, 1_000).to_arrow(), path)
    return path


async def test_counts_tell_new_changed_and_equal_rows(storage: Storage, parquet: Path) -> None:
    first = await run(storage, parquet)
    assert (first.inserted, first.replaced, first.unchanged) == (1_000, 0, 0)
    assert first.start == START
    assert first.end == START + timedelta(minutes=999)
    other = make_candles(KEY, 1_000, seed=0).merge(make_candles(KEY, 100, seed=7))
    changed = await run(storage, other.merge(make_candles(KEY, 5, start=START - timedelta(days=1))))
    equal = int((make_candles(KEY, 100).columns.close == other.columns.close[:100]).sum())
    assert changed.inserted == 5
    assert changed.unchanged >= 900
    assert changed.replaced + changed.unchanged == 1_000
    assert changed.replaced >= 100 - equal


async def test_an_incremental_import_stores_only_what_is_newer(
    storage: Storage, tmp_path: Path
) -> None:
    await run(storage, make_candles(KEY, 600))
    path = tmp_path / "longer.parquet"
    pq.write_table(make_candles(KEY, 1_000, seed=3).to_arrow(), path)
    # Small blocks: the first one stored must not become the measure for the next.
    result = await run(storage, path, mode="incremental", block_rows=150)
    assert (result.skipped, result.inserted) == (600, 400)
    assert (await stored(storage))[:600] == make_candles(KEY, 600)


async def test_unknown_symbols_are_refused_or_created(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "market.csv"
    lines = [f"{1704153600 + 60 * n},1,1,1,1,1,{code}\n" for n in range(4) for code in "AB"]
    path.write_text(HEADER.strip() + ",종목코드\n" + "".join(lines))
    use_case = ImportCandles(storage)
    with pytest.raises(NotFound, match="Symbol A is not known"):
        await use_case.run(path, Timeframe.M1)
    assert await storage.candles.list_keys() == []
    result = await use_case.run(path, Timeframe.M1, options=ImportOptions(create=Market.ETF))
    assert result.created_symbols == ("A", "B")
    assert result.inserted == 8
    assert await storage.candles.count(SeriesKey("B", Timeframe.M1)) == 4
    assert (await storage.symbols.get_by_code("A")).market is Market.ETF  # type: ignore[union-attr]


async def test_rows_of_another_symbol_are_not_mixed_in(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "market.csv"
    path.write_text(HEADER.strip() + ",code\n1704153600,1,1,1,1,1,005930\n1704153660,1,1,1,1,1,X\n")
    with pytest.raises(InvalidData, match="line 3, column 'code': is not 005930, got 'X'"):
        await run(storage, path)
    path.write_text(HEADER + "1704153600,1,1,1,1,1\n")
    with pytest.raises(InvalidData, match="does not say which symbol"):
        await ImportCandles(storage).run(path, Timeframe.M1)


class Killed(BaseException):
    pass


async def test_a_symbol_that_was_noted_and_not_created_is_named_once(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "market.csv"
    path.write_text(HEADER.strip() + ",code\n1704153600,1,1,1,1,1,A\n1704153600,1,1,1,1,1,B\n")

    async def die(*_: object) -> None:
        raise Killed

    use_case = ImportCandles(storage)
    options = ImportOptions(create=Market.ETF)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(KnownSymbols, "create", die)
        await use_case.run(path, Timeframe.M1, options=options)
    resumed = await use_case.run(path, Timeframe.M1, options=options)
    assert resumed.resumed_at == 0
    assert resumed.created_symbols == ("A", "B")
    assert [symbol.code for symbol in await storage.symbols.list()] == ["005930", "A", "B"]


@pytest.mark.parametrize("kill_after", [1, 2, 3, 6])
async def test_an_interrupted_import_ends_as_if_nothing_had_happened(
    storage: Storage, tmp_path: Path, kill_after: int
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(spoiled(700))
    options = ImportOptions(
        block_rows=100, policy=QualityPolicy(actions={Rule.ZERO_VOLUME: Action.QUARANTINE})
    )

    def die(progress: ImportProgress) -> None:
        if progress.rows == kill_after * 100:
            raise Killed

    use_case = ImportCandles(storage)
    with pytest.raises(Killed):
        await use_case.run(path, Timeframe.M1, symbol="005930", options=options, progress=die)
    resumed = await use_case.run(path, Timeframe.M1, symbol="005930", options=options)
    # The row it was killed after is stored, but only the block after it would have said so.
    assert resumed.resumed_at == (kill_after - 1) * 100

    async with Storage.in_memory() as calm:
        async with calm.unit_of_work() as uow:
            await uow.symbols.save(Symbol("005930", "Samsung Electronics", Market.KOSPI))
            await uow.commit()
        whole = await ImportCandles(calm).run(path, Timeframe.M1, symbol="005930", options=options)
        assert replace(resumed, resumed_at=None, seconds=0) == replace(whole, seconds=0)
        assert await stored(calm) == await stored(storage)
        assert await Quarantine(calm).review() == await Quarantine(storage).review()
    again = await use_case.run(path, Timeframe.M1, symbol="005930", options=options)
    assert again.resumed_at is None
    # Where two rows have one timestamp, each replaces what the other has left.
    assert whole.duplicates == 7
    assert (again.inserted, again.duplicates) == (0, 0)
    assert (again.unchanged, again.replaced) == (whole.inserted - 7, 7 + 7)


async def test_a_changed_file_is_begun_anew(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER + "1704153600,1,1,1,1,1\n1704153660,1,1,1,1,x\n")
    with pytest.raises(InvalidData, match="line 3"):
        await run(storage, path, block_rows=1)
    path.write_text(HEADER + "1704153600,1,1,1,1,1\n1704153660,1,1,1,1,12\n")
    result = await run(storage, path, block_rows=1)
    assert result.resumed_at is None
    assert (result.inserted, result.unchanged) == (1, 1)


def spoiled(rows: int) -> str:
    """Minutes of which some break a rule."""
    random = np.random.default_rng(5)
    lines = []
    for row in range(rows):
        close = 1_000 + int(random.integers(0, 5))
        high = close + (1 if row % 97 else -50)
        volume = 0 if row % 61 == 0 else 10
        lines.append(
            f"{1704153600 + 60 * (row - (row % 101 == 7))},{close},{high},900,{close},{volume}\n"
        )
    return HEADER + "".join(lines)


BROKEN = {
    Rule.MISSING: "1704157260,,1001,999,1000,5\n",
    Rule.OHLC: "1704157260,1000,900,999,1000,5\n",
    Rule.DUPLICATE: "1704157200,1000,1001,999,1000,6\n",
    Rule.ORDER: "1704157140,1000,1001,999,1000,5\n",
    Rule.OVERLAP: "1704157230,1000,1001,999,1000,5\n",
    Rule.JUMP: "1704157260,1400,1401,1399,1400,5\n",
    Rule.TICK: "1704157260,1000.5,1001,999,1000,5\n",
    Rule.ZERO_VOLUME: "1704157260,1000,1001,999,1000,0\n",
    Rule.OFF_SESSION: "1704190000,1000,1001,999,1000,5\n",
    Rule.UNCLOSED: "1704240000,1000,1001,999,1000,5\n",
}
GATE: dict[str, Any] = {
    "tick": Decimal(1),
    "calendar": "XKRX",
    "now": datetime(2024, 1, 3, tzinfo=UTC),
}


@pytest.mark.parametrize("action", [Action.REJECT, Action.QUARANTINE, Action.FLAG])
@pytest.mark.parametrize("rule", Rule)
async def test_a_broken_rule_is_met_by_its_action(
    storage: Storage, tmp_path: Path, rule: Rule, action: Action
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER + "1704157200,1000,1001,999,1000,5\n" + BROKEN[rule])
    gentle = dict.fromkeys(set(Rule) - {Rule.MISSING, Rule.OHLC}, Action.FLAG)
    if action is Action.FLAG and rule in (Rule.MISSING, Rule.OHLC):
        with pytest.raises(InvalidData, match="cannot be stored"):
            QualityPolicy(actions={rule: action})
        return
    policy = QualityPolicy(actions={**gentle, rule: action}, **GATE)
    result = await run(storage, path, policy=policy)
    assert result.broken[rule.value] == 1
    waiting = await Quarantine(storage).review()
    rows = await storage.candles.count(KEY)
    if action is Action.FLAG:
        assert rows == (1 if rule is Rule.DUPLICATE else 2)
        assert waiting == []
    else:
        assert rows == 1
        assert (result.rejected, result.quarantined) == (
            (1, 0) if action is Action.REJECT else (0, 1)
        )
    if action is Action.QUARANTINE:
        (row,) = waiting
        assert row.source == str(path)
        assert row.row == 1
        assert rule.value in row.reasons
        assert list(row.came_as.values()) == BROKEN[rule].strip().split(",")


async def test_duplicates_are_found_across_blocks_where_rows_ascend(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "prices.csv"
    minutes = [0, 1, 1, 1, 2, 3, 3]
    path.write_text(
        HEADER
        + "".join(f"{1704153600 + 60 * m},9,9,9,9,{row}\n" for row, m in enumerate(minutes, 1))
    )
    for block_rows in (1, 2, 3, 7):
        policy = QualityPolicy(actions={Rule.DUPLICATE: Action.REJECT})
        result = await run(storage, path, block_rows=block_rows, policy=policy)
        assert (result.broken, result.rejected) == ({"duplicate": 3}, 3), block_rows
        assert [candle.volume for candle in await stored(storage)] == [1, 2, 5, 6]


async def test_a_moment_told_before_the_last_one_is_out_of_order_in_any_block(
    storage: Storage, tmp_path: Path
) -> None:
    """Nobody remembers every moment of a large file; the later row wins all the same."""
    path = tmp_path / "prices.csv"
    minutes = [0, 1, 2, 3, 1, 4]
    path.write_text(
        HEADER
        + "".join(f"{1704153600 + 60 * m},9,9,9,9,{row}\n" for row, m in enumerate(minutes, 1))
    )
    for block_rows in (2, 6):
        result = await run(storage, path, block_rows=block_rows)
        assert result.broken["order"] == 1
        assert [candle.volume for candle in await stored(storage)] == [1, 5, 3, 4, 6]
        assert result.duplicates + result.replaced >= 1


async def test_quarantined_rows_are_released_or_thrown_away(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER + "1704153600,1,1,1,1,0\n1704153660,1,1,1,1,0\n1704153720,1,0,1,1,5\n")
    policy = QualityPolicy(actions={Rule.ZERO_VOLUME: Action.QUARANTINE})
    await run(storage, path, policy=policy)
    waiting = Quarantine(storage)
    assert [row.candle is None for row in await waiting.review(KEY)] == [False, False, True]
    assert await waiting.review(SeriesKey("X", Timeframe.M1)) == []
    assert await waiting.release() == (2, 1)
    assert await storage.candles.count(KEY) == 2
    assert [row.row for row in await waiting.review()] == [2]
    assert await waiting.release() == (0, 1)
    assert await waiting.discard() == 1
    assert await waiting.review() == []


async def test_frames_of_pandas_polars_and_arrow(storage: Storage) -> None:
    series = make_candles(KEY, 50)
    for frame in (series.to_pandas(), series.to_polars(), series.to_arrow(), series):
        await run(storage, frame)
        assert await stored(storage) == series
        async with storage.unit_of_work() as uow:
            await uow.candles.delete_range(KEY, *ALL)
            await uow.commit()


@pytest.mark.parametrize("tickers", [["005930"], ["005930", "000660"]])
async def test_a_frame_as_yfinance_gives_it(storage: Storage, tickers: list[str]) -> None:
    index = pd.DatetimeIndex(["2024-01-02 09:00", "2024-01-02 09:01"], tz="Asia/Seoul")
    prices = ["Adj Close", "Close", "High", "Low", "Open"]
    data = {(p, t): np.array([70000.1, 70000.2]) for p in prices for t in tickers}
    data |= {("Volume", t): np.array([1, 2]) for t in tickers}
    frame = pd.DataFrame(data, index=index.rename("Datetime"))
    frame.columns = pd.MultiIndex.from_tuples(list(data), names=["Price", "Ticker"])
    with pytest.raises(InvalidData, match="floats"):
        await run(storage, frame)
    await run(storage, frame, floats="exact")
    assert [str(c.close) for c in await stored(storage)] == ["70000.1000", "70000.2000"]


async def test_rows_as_ccxt_gives_them(storage: Storage) -> None:
    rows = [[1704153600000, 1.1, 1.2, 1.0, 1.15, 7.0], [1704153660000, 1.1, 1.2, 1.0, 1.1, 8.0]]
    result = await run(storage, rows, floats="exact")
    assert result.inserted == 2
    assert (await stored(storage))[0].volume == 7
    with pytest.raises(InvalidData, match="must be timestamp, open"):
        await run(storage, [[1, 2]])


async def test_noise_of_short_floats_is_rounded_only_if_asked(storage: Storage) -> None:
    noisy = np.float64(np.float32(185.64))
    frame = pl.DataFrame(
        {
            "timestamp": [1704153600000],
            **{name: [noisy] for name in ("open", "high", "low", "close")},
            "volume": [1],
        }
    )
    with pytest.raises(InvalidData, match="four decimals"):
        await run(storage, frame, floats="exact")
    await run(storage, frame, floats="round")
    assert (await stored(storage))[0].close == Decimal("185.64")


async def test_minutes_that_are_told_as_longer_bars_are_noticed(storage: Storage) -> None:
    minutes = make_candles(KEY, 30).to_arrow()
    result = await ImportCandles(storage).run(
        minutes, Timeframe.M5, symbol="005930", options=ImportOptions(block_rows=10)
    )
    assert result.broken["overlap"] == 29, "also from one block to the next"


async def test_a_row_without_prices_is_left_out(storage: Storage) -> None:
    frame = pd.DataFrame(
        {name: [1.0, np.nan] for name in ("Open", "High", "Low", "Close")} | {"Volume": [1, 0]},
        index=pd.DatetimeIndex(["2024-01-02", "2024-01-03"], tz="UTC"),
    )
    result = await run(storage, frame, floats="exact")
    assert (result.inserted, result.rejected) == (1, 1)


async def test_a_stream_of_series(storage: Storage) -> None:
    async def stream() -> AsyncIterator[CandleSeries]:
        for day in range(3):
            yield make_candles(KEY, 100, start=START + timedelta(days=day), seed=day)

    result = await run(storage, stream(), block_rows=64)
    assert result.inserted == 300
    assert await storage.candles.count(KEY) == 300

    async def wrong() -> AsyncIterator[CandleSeries]:
        yield make_candles(SeriesKey("X", Timeframe.M1), 1)

    with pytest.raises(InvalidData, match="X/1m"):
        await run(storage, wrong())


async def test_series_bring_their_own_key(storage: Storage) -> None:
    other = SeriesKey(KEY.symbol, KEY.timeframe, "NXT")
    await ImportCandles(storage).run(make_candles(other, 5), other.timeframe)
    assert await storage.candles.count(other) == 5
    wrong: Any
    for wrong in (
        {"timeframe": Timeframe.M5},
        {"timeframe": Timeframe.M1, "exchange": "KRX"},
        {"timeframe": Timeframe.M1, "symbol": "X"},
    ):
        with pytest.raises(InvalidData, match="NXT:"):
            await ImportCandles(storage).run(make_candles(other, 5), **wrong)


async def test_one_symbol_on_two_exchanges_is_two_series(storage: Storage) -> None:
    first, second = (SeriesKey(KEY.symbol, KEY.timeframe, place) for place in ("KRX", "NXT"))
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(first, make_candles(first, 50))
        await uow.commit()

    async def stream() -> AsyncIterator[CandleSeries]:
        yield make_candles(first, 60)
        yield make_candles(second, 40)

    options = ImportOptions(mode="incremental")
    result = await ImportCandles(storage).run(stream(), KEY.timeframe, options=options)
    assert (result.inserted, result.skipped) == (50, 50)
    assert await storage.candles.count(second) == 40


async def test_nonsense_is_refused(storage: Storage) -> None:
    with pytest.raises(InvalidData, match="must be a path"):
        await run(storage, 5)
    with pytest.raises(InvalidData, match="block_rows"):
        ImportOptions(block_rows=0)
    with pytest.raises(InvalidData, match="time zone"):
        await run(storage, make_candles(KEY, 1).to_arrow(), timezone="Nowhere/Land")


@pytest.mark.parametrize(
    ("before", "after", "closes"),
    [('"1,25"', '"1,250"', {"1.25"}), ('"1.234,5"', "78.500", {"1234.5", "78500"})],
)
async def test_what_resumes_reads_numbers_as_it_began_to(
    storage: Storage, tmp_path: Path, before: str, after: str, closes: set[str]
) -> None:
    """The rows that are left could be read either way; those before have told which."""
    path = tmp_path / "prices.csv"
    first = 1_704_153_600
    texts = [before] * 100 + [after] * 200
    path.write_text(
        HEADER
        + "".join(
            f"{first + 60 * row},{','.join([text] * 4)},1\n" for row, text in enumerate(texts)
        )
    )

    def die(progress: ImportProgress) -> None:
        if progress.rows == 200:
            raise Killed

    options = ImportOptions(block_rows=100)
    use_case = ImportCandles(storage)
    with pytest.raises(Killed):
        await use_case.run(path, Timeframe.M1, symbol="005930", options=options, progress=die)
    resumed = await use_case.run(path, Timeframe.M1, symbol="005930", options=options)
    assert resumed.resumed_at is not None
    assert {candle.close for candle in await stored(storage)} == set(map(Decimal, closes))


async def test_quarantined_rows_of_files_of_one_name_are_all_kept(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, moment in (("one", 1_704_153_600), ("two", 1_704_153_660)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "prices.csv").write_text(f"{HEADER}{moment},1,2,3,1,1\n")
        monkeypatch.chdir(folder)
        policy = QualityPolicy(actions={Rule.OHLC: Action.QUARANTINE})
        await run(storage, Path("prices.csv"), policy=policy)
    assert len(await Quarantine(storage).review()) == 2


@pytest.mark.parametrize("nameless", [None, "", "  "])
async def test_a_row_without_a_symbol_is_refused(storage: Storage, nameless: str | None) -> None:
    table = pa.table(
        {
            "timestamp": pa.array([0, 60_000], pa.timestamp("ms", "UTC")),
            **dict.fromkeys(("open", "high", "low", "close"), pa.array(["1", "1"])),
            "volume": [1, 1],
            "symbol": ["005930", nameless],
        }
    )
    options = ImportOptions(create=Market.KOSPI)
    with pytest.raises(InvalidData, match="names no symbol"):
        await ImportCandles(storage).run(table, Timeframe.M1, options=options)
    assert [symbol.code for symbol in await storage.symbols.list()] == ["005930"]
