"""What a storage promises of data sets: names for candles, a text that proves them, and what
became of them since."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from jts_storage.domain.backtest import BacktestConfig, BacktestResult
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.data_sets import PREFIX, DataSet, SeriesDifference
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.ids import new_document_id
from jts_storage.domain.moments import Commit, version_at
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import InvalidData, NotFound
from jts_storage.storage import Storage
from jts_storage.testing.contracts.samples import candle, minute
from jts_storage.testing.factories import START, make_candles

M1 = Timeframe.M1
RANGE = (minute(0), minute(60))
SAME_NAME = [SeriesKey("A'B", M1, "KRX"), SeriesKey("A'B", M1, "")]
KEYS = [*SAME_NAME, SeriesKey("가나", M1, "KRX"), SeriesKey("005930", M1, "KRX")]
EXPECTED = f"{PREFIX}1b9ed18b6a762e78"
"""What every store says of the same candles, in this release and in all later ones."""


async def commit(
    storage: Storage,
    saved: Iterable[CandleSeries] = (),
    deleted: Iterable[tuple[SeriesKey, int, int]] = (),
) -> Commit:
    async with storage.unit_of_work() as uow:
        for key, first, last in deleted:
            await uow.candles.delete_range(key, minute(first), minute(last))
        for series in saved:
            await uow.candles.save_many(series.key, series)
        result = await uow.commit()
    assert result.commit is not None
    return result.commit


def rows(key: SeriesKey, *candles: Candle) -> CandleSeries:
    return CandleSeries.from_candles(key, candles)


def minutes(key: SeriesKey, count: int = 30, close: str = "103") -> CandleSeries:
    return rows(key, *(candle(number, close) for number in range(count)))


async def market(storage: Storage) -> DataSet:
    """Four series of thirty candles, and the data set of them."""
    await commit(storage, map(minutes, KEYS))
    return await storage.data_set(M1, *RANGE)


async def seen_by(storage: Storage, data_set: DataSet | None, fingerprint: str | None) -> str:
    """A backtest that saw a data set; its id."""
    config = BacktestConfig(
        start_date=RANGE[0],
        end_date=RANGE[1],
        symbols=("005930",),
        initial_capital=Decimal(1),
        data_fingerprint=fingerprint,
        data_set=data_set,
    )
    async with storage.unit_of_work() as uow:
        saved = await uow.backtests.save(
            BacktestResult(strategy_id=new_document_id(), run_at=START, config=config)
        )
        await uow.commit()
    assert saved.id is not None
    return saved.id


async def proven(storage: Storage) -> tuple[DataSet, str]:
    data_set = await market(storage)
    return data_set, await seen_by(storage, data_set, await storage.fingerprint(data_set))


class DataSetContract:
    """Of a `Storage`; each test begins with an empty one."""

    async def test_a_data_set_names_the_series_that_have_candles(self, storage: Storage) -> None:
        last = await commit(storage, [*map(minutes, KEYS), make_candles(day(), 9)])
        found = await storage.data_set(M1, *RANGE)
        assert found.keys == tuple(sorted(KEYS, key=lambda key: key.sort_key))
        assert found.commit >= last
        some = await storage.data_set(M1, *RANGE, keys=[KEYS[2], SeriesKey("unknown", M1)])
        assert some.keys == (KEYS[2],)
        assert set((await storage.data_set(M1, *RANGE, exchange="KRX")).keys) == {
            key for key in KEYS if key.exchange
        }
        assert (await storage.data_set(M1, minute(30), minute(60))).keys == ()
        assert (await storage.data_set(M1, *RANGE, keys=())).keys == ()
        assert (await storage.data_set(M1, *RANGE, keys=SAME_NAME[:1])).keys == (KEYS[0],)

    async def test_of_a_market(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(Symbol("005930", "Samsung", Market.KOSPI))
            for key in KEYS:
                await uow.candles.save_many(key, minutes(key))
            await uow.commit()
        found = await storage.data_set(M1, *RANGE, market=Market.KOSPI)
        assert found.keys == (KEYS[3],)
        assert (await storage.data_set(M1, *RANGE, market=Market.NYSE)).keys == ()

    async def test_of_a_moment_before(self, storage: Storage) -> None:
        first = await commit(storage, [minutes(KEYS[0])])
        await commit(storage, [minutes(KEYS[1])], [(KEYS[0], 0, 60)])
        assert (await storage.data_set(M1, *RANGE)).keys == (KEYS[1],)
        then = await storage.data_set(M1, *RANGE, as_of=first)
        assert (then.keys, then.commit) == ((KEYS[0],), first)
        await asyncio.sleep(0.01)
        with pytest.raises(InvalidData):
            await storage.data_set(M1, *RANGE, as_of=first.moment + timedelta(days=1))

    async def test_a_commit_that_is_still_to_come_has_no_text(self, storage: Storage) -> None:
        data_set = await market(storage)
        tomorrow = Commit(version_at(data_set.commit.moment + timedelta(days=1), "commit"))
        with pytest.raises(InvalidData, match="future"):
            await storage.fingerprint(replace(data_set, commit=tomorrow))

    async def test_the_text_depends_on_the_candles_alone(self, storage: Storage) -> None:
        data_set = await market(storage)
        text = await storage.fingerprint(data_set)
        assert text[: len(EXPECTED)] == EXPECTED
        later = await commit(storage, [minutes(day())])
        assert await storage.fingerprint(replace(data_set, commit=later)) == text
        others = [
            replace(data_set, keys=data_set.keys[1:]),
            replace(data_set, end=minute(61)),
            replace(data_set, start=minute(1)),
        ]
        assert len({text, *[await storage.fingerprint(each) for each in others]}) == 4

    async def test_the_text_changes_with_any_value(self, storage: Storage) -> None:
        data_set = await market(storage)
        key, before = KEYS[3], candle(7)
        found = {await storage.fingerprint(data_set)}
        for field in ("open", "high", "low", "close", "volume"):
            step = Decimal("0.0001") if field == "low" else 1
            changed = replace(before, **{field: getattr(before, field) + step})
            at = await commit(storage, [rows(key, changed)])
            found.add(await storage.fingerprint(replace(data_set, commit=at)))
        at = await commit(storage, [rows(key, before)])
        assert await storage.fingerprint(replace(data_set, commit=at)) in found
        assert len(found) == 6

    async def test_the_past_keeps_its_text(self, storage: Storage) -> None:
        data_set = await market(storage)
        text = await storage.fingerprint(data_set)
        a, b, c, _ = KEYS
        await commit(storage, [rows(a, candle(3, "99"), candle(4)), rows(c, candle(40))])
        await commit(storage, [rows(a, candle(3, "98"))], [(b, 5, 9)])
        await commit(storage, [], [(c, 0, 60)])
        await commit(storage, [rows(c, candle(2, "7")), rows(b, candle(6))])
        assert await storage.fingerprint(data_set) == text
        now = await storage.data_set(M1, *RANGE)
        assert await storage.fingerprint(now) != text
        assert now.keys == data_set.keys

    async def test_the_same(self, storage: Storage) -> None:
        data_set, identity = await proven(storage)
        saved = await storage.backtests.get_by_id(identity)
        assert saved is not None
        assert saved.config.data_set == data_set
        await commit(storage, [minutes(KEYS[0]), rows(KEYS[1], candle(61)), minutes(day())])
        found = await storage.backtests.verify(identity)
        assert found.is_same
        assert found.is_reproducible
        assert found.differing == ()
        assert found.fingerprint == saved.config.data_fingerprint
        assert found.data_set == data_set
        assert str(found) == "the same"

    async def test_what_differs(self, storage: Storage) -> None:
        data_set, identity = await proven(storage)
        a, b, c, d = KEYS
        await commit(storage, [rows(a, candle(3, "99"), candle(4, "9"), candle(5), candle(40))])
        await commit(storage, [rows(a, candle(3, "98"))], [(b, 5, 9)])
        await commit(storage, [rows(d, candle(41), candle(42), candle(61))], [(d, 42, 42)])
        # Corrected and corrected back, deleted and written again.
        await commit(storage, [rows(c, candle(2, "7"))], [(c, 10, 12)])
        await commit(storage, [rows(c, candle(2), candle(10), candle(11), candle(12))])
        await commit(storage, [rows(d, candle(50))])
        await commit(storage, [], [(d, 50, 50)])
        found = await storage.backtests.verify(identity)
        assert found.is_reproducible
        assert not found.is_same
        assert {each.key: each for each in found.differing} == {
            a: SeriesDifference(a, added=1, corrected=2),
            b: SeriesDifference(b, deleted=5),
            d: SeriesDifference(d, added=2),
        }
        assert [each.key for each in found.differing] == [
            key for key in data_set.keys if key in (a, b, d)
        ]
        assert str(found) == "10 candles of 3 series differ"

    async def test_a_candle_of_which_any_value_is_corrected_differs(self, storage: Storage) -> None:
        _, identity = await proven(storage)
        key = KEYS[3]
        for number, field in enumerate(("open", "high", "low", "close", "volume")):
            before = candle(number)
            step = Decimal("0.0001") if field == "low" else 1
            changed = replace(before, **{field: getattr(before, field) + step})
            await commit(storage, [rows(key, changed)])
            found = await storage.backtests.verify(identity)
            assert found.differing == (SeriesDifference(key, corrected=number + 1),), field

    async def test_other_candles_than_were_seen_are_noticed(self, storage: Storage) -> None:
        data_set = await market(storage)
        other = await storage.fingerprint(replace(data_set, keys=data_set.keys[:2]))
        identity = await seen_by(storage, data_set, other)
        found = await storage.backtests.verify(identity)
        assert not found.is_reproducible
        assert not found.is_same
        assert "damaged" in str(found)

    async def test_nothing_to_verify_by(self, storage: Storage) -> None:
        data_set = await market(storage)
        with pytest.raises(InvalidData, match="data_set"):
            await storage.backtests.verify(await seen_by(storage, None, f"{PREFIX}1"))
        for text in (None, "jts1:0"):
            with pytest.raises(InvalidData, match="fingerprint"):
                await storage.backtests.verify(await seen_by(storage, data_set, text))
        with pytest.raises(NotFound):
            await storage.backtests.verify(new_document_id())

    async def test_of_nothing(self, storage: Storage) -> None:
        await market(storage)
        nothing = await storage.data_set(M1, minute(70), minute(80))
        identity = await seen_by(storage, nothing, await storage.fingerprint(nothing))
        await commit(storage, [rows(KEYS[0], candle(75))])
        assert (await storage.backtests.verify(identity)).is_same


def day() -> SeriesKey:
    return SeriesKey("005930", Timeframe.D1, "KRX")
