"""The contract of `CandleRepository`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.results import Coverage, SaveResult
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.ports.candles import CandleRepository
from jts_storage.testing.contracts.candle_refusals import CandleRefusals
from jts_storage.testing.contracts.panels import PanelContract
from jts_storage.testing.contracts.samples import (
    FOREVER,
    KEY,
    MANY_SUBCLASSES,
    candle,
    flat,
    fresh,
    minute,
)
from jts_storage.testing.factories import START, make_candles

FRAMES = (Timeframe.M1, Timeframe.D1)
CandleOperation = tuple[str, Any]


_save = st.tuples(
    st.just("save"),
    st.lists(
        st.tuples(
            st.integers(0, 30), st.decimals("0.0001", "200", places=4, allow_nan=False).map(str)
        ),
        max_size=12,
    ),
)
_range = st.tuples(st.integers(-2, 32), st.integers(0, 34)).map(lambda ab: (ab[0], ab[0] + ab[1]))
_operations = st.lists(
    st.one_of(
        _save,
        st.tuples(st.just("delete"), _range),
        st.tuples(st.just("range"), _range),
        st.tuples(st.just("latest"), st.integers(1, 40)),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.asyncio
class CandleRepositoryContract(CandleRefusals, PanelContract):
    """Give it a fixture `candle_repository`: a `CandleRepository` of which nothing is stored."""

    async def test_what_was_saved_is_read(self, candle_repository: CandleRepository) -> None:
        series = make_candles(KEY, 100)
        assert await candle_repository.save_many(KEY, series) == SaveResult(100)
        assert await candle_repository.get_range(KEY, minute(0), minute(99)) == series

    async def test_nothing_stored_is_empty_and_no_error(
        self, candle_repository: CandleRepository
    ) -> None:
        assert await candle_repository.get_range(KEY, *FOREVER) == CandleSeries.empty(KEY)
        assert await candle_repository.get_latest(KEY) == CandleSeries.empty(KEY)
        assert await candle_repository.get_coverage(KEY) == Coverage(None, None)
        assert await candle_repository.coverage_by_day(KEY) == {}
        assert await candle_repository.count(KEY) == 0
        assert await candle_repository.delete_range(KEY, *FOREVER) == 0
        assert [block async for block in candle_repository.stream(KEY, *FOREVER)] == []
        assert list(await candle_repository.list_keys()) == []
        resampled = await candle_repository.resample(KEY, Timeframe.H1, *FOREVER)
        assert resampled == CandleSeries.empty(SeriesKey("005930", Timeframe.H1, "KRX"))

    async def test_an_empty_batch_writes_nothing(self, candle_repository: CandleRepository) -> None:
        assert await candle_repository.save_many(KEY, []) == SaveResult(0)
        assert await candle_repository.save_many(KEY, [], detail=True) == SaveResult(0, 0, 0, 0, 0)
        assert await candle_repository.count(KEY) == 0

    async def test_both_ends_are_included(self, candle_repository: CandleRepository) -> None:
        await candle_repository.save_many(KEY, make_candles(KEY, 10))
        found = await candle_repository.get_range(KEY, minute(2), minute(4))
        assert [c.timestamp for c in found] == [minute(2), minute(3), minute(4)]
        assert await candle_repository.count(KEY, minute(2), minute(4)) == 3
        assert await candle_repository.count(KEY, start=minute(8)) == 2
        assert await candle_repository.count(KEY, end=minute(0)) == 1

    @pytest.mark.parametrize("kind", ["candles", "columns", "arrow", "pandas", "polars"])
    async def test_every_form_of_candles_is_taken(
        self, candle_repository: CandleRepository, kind: str
    ) -> None:
        series = make_candles(KEY, 10)
        forms = {
            "candles": lambda: list(series),
            "columns": series.to_columns,
            "arrow": series.to_arrow,
            "pandas": series.to_pandas,
            "polars": series.to_polars,
        }
        assert await candle_repository.save_many(KEY, forms[kind]()) == SaveResult(10)
        assert await candle_repository.get_range(KEY, *FOREVER) == series

    async def test_extreme_values_come_back_exactly(
        self, candle_repository: CandleRepository
    ) -> None:
        largest = Decimal("99999999999999.9999")
        extremes = CandleSeries(
            KEY,
            [
                Candle(
                    FOREVER[0], Decimal(0), Decimal("0.0001"), Decimal("-0.0001"), Decimal(0), 0
                ),
                Candle(minute(0), largest, largest, -largest, -largest, 2**64 - 1),
                flat(minute(0) + timedelta(milliseconds=1), "0.1", 2**63),
                flat(FOREVER[1], str(largest), 1),
            ],
        )
        await candle_repository.save_many(KEY, extremes)
        assert await candle_repository.get_range(KEY, *FOREVER) == extremes
        assert await candle_repository.get_coverage(KEY) == Coverage(*FOREVER)

    async def test_saving_again_in_whole_part_and_any_order_leaves_the_same_rows(
        self, candle_repository: CandleRepository
    ) -> None:
        series = make_candles(KEY, 50)
        await candle_repository.save_many(KEY, series)
        await candle_repository.save_many(KEY, series)
        await candle_repository.save_many(KEY, series[10:30])
        await candle_repository.save_many(KEY, list(reversed(series)))
        assert await candle_repository.get_range(KEY, *FOREVER) == series
        assert await candle_repository.count(KEY) == 50

    async def test_the_later_write_of_a_timestamp_wins(
        self, candle_repository: CandleRepository
    ) -> None:
        await candle_repository.save_many(KEY, [candle(0, "100"), candle(1, "101")])
        await candle_repository.save_many(KEY, [candle(1, "150"), candle(2, "102")])
        found = await candle_repository.get_range(KEY, *FOREVER)
        assert [c.close for c in found] == [Decimal(100), Decimal(150), Decimal(102)]

    async def test_of_duplicates_in_one_batch_the_last_counts(
        self, candle_repository: CandleRepository
    ) -> None:
        batch = [candle(1, "1"), candle(0, "2"), candle(1, "3")]
        assert await candle_repository.save_many(KEY, batch) == SaveResult(2, duplicates=1)
        found = await candle_repository.get_range(KEY, *FOREVER)
        assert [c.close for c in found] == [Decimal(2), Decimal(3)]

    async def test_detail_tells_new_changed_and_unchanged(
        self, candle_repository: CandleRepository
    ) -> None:
        await candle_repository.save_many(KEY, [candle(0), candle(1), candle(2)])
        result = await candle_repository.save_many(
            KEY, [candle(1), candle(2, "104"), candle(3)], detail=True
        )
        assert result == SaveResult(3, inserted=1, replaced=1, unchanged=1)

    async def test_series_do_not_mix(self, candle_repository: CandleRepository) -> None:
        keys = [
            SeriesKey("005930", Timeframe.M1, "KRX"),
            SeriesKey("005930", Timeframe.M1, "NXT"),
            SeriesKey("005930", Timeframe.M1),
            SeriesKey("005930", Timeframe.M5, "KRX"),
            SeriesKey("00593", Timeframe.M1, "0KRX"),
        ]
        stored = {key: make_candles(key, 5, seed=n) for n, key in enumerate(keys)}
        for key, series in stored.items():
            await candle_repository.save_many(key, series)
        assert await candle_repository.get_ranges(keys, *FOREVER) == stored
        assert await candle_repository.delete_range(keys[0], *FOREVER) == 5
        for key in keys[1:]:
            assert await candle_repository.get_range(key, *FOREVER) == stored[key]

    async def test_get_ranges_answers_every_key_in_the_order_asked(
        self, candle_repository: CandleRepository
    ) -> None:
        keys = [SeriesKey(code, Timeframe.M1) for code in ("B", "A", "C")]
        await candle_repository.save_many(keys[0], make_candles(keys[0], 3))
        found = await candle_repository.get_ranges(keys, minute(1), minute(9))
        assert list(found) == keys
        assert [len(found[key]) for key in keys] == [2, 0, 0]
        assert await candle_repository.get_ranges([], minute(1), minute(9)) == {}

    async def test_get_ranges_answers_many_keys_too(
        self, candle_repository: CandleRepository
    ) -> None:
        keys = [
            SeriesKey(f"{n % 7}'\\", frame, f"X{n // 7}") for n in range(21) for frame in FRAMES
        ]
        kept = {key: make_candles(key, 3 + n % 5, seed=n) for n, key in enumerate(keys[::2])}
        for key, series in kept.items():
            await candle_repository.save_many(key, make_candles(key, 3, seed=99))
            await candle_repository.save_many(key, series)
        await candle_repository.delete_range(keys[0], *FOREVER)
        kept.pop(keys[0])
        found = await candle_repository.get_ranges(keys, *FOREVER)
        assert list(found) == keys
        assert found == {key: kept.get(key, CandleSeries.empty(key)) for key in keys}
        cut = await candle_repository.get_ranges(keys, START, START)
        assert cut[keys[2]] == kept[keys[2]].slice(START, START)

    async def test_latest_is_ascending_and_at_most_what_there_is(
        self, candle_repository: CandleRepository
    ) -> None:
        series = make_candles(KEY, 10)
        await candle_repository.save_many(KEY, series[:7])
        await candle_repository.save_many(KEY, series[5:])
        assert await candle_repository.get_latest(KEY) == series.tail(1)
        assert await candle_repository.get_latest(KEY, 6) == series.tail(6)
        assert await candle_repository.get_latest(KEY, 100) == series
        with pytest.raises(InvalidData):
            await candle_repository.get_latest(KEY, 0)

    async def test_coverage_is_first_and_last(self, candle_repository: CandleRepository) -> None:
        await candle_repository.save_many(KEY, make_candles(KEY, 10))
        assert await candle_repository.get_coverage(KEY) == (minute(0), minute(9))

    async def test_coverage_by_day_counts_local_days(
        self, candle_repository: CandleRepository
    ) -> None:
        last_of_seoul_day = datetime(2024, 1, 2, 14, 58, tzinfo=UTC)
        series = make_candles(KEY, 5, start=last_of_seoul_day)
        await candle_repository.save_many(KEY, series)
        await candle_repository.save_many(KEY, series[:3])
        assert await candle_repository.coverage_by_day(KEY) == {date(2024, 1, 2): 5}
        by_day = await candle_repository.coverage_by_day(KEY, timezone="Asia/Seoul")
        assert by_day == {date(2024, 1, 2): 2, date(2024, 1, 3): 3}
        assert list(by_day) == sorted(by_day)

    async def test_delete_is_exact_counts_and_lasts(
        self, candle_repository: CandleRepository
    ) -> None:
        series = make_candles(KEY, 10)
        await candle_repository.save_many(KEY, series)
        await candle_repository.save_many(KEY, series)
        assert await candle_repository.delete_range(KEY, minute(3), minute(5)) == 3
        assert await candle_repository.delete_range(KEY, minute(3), minute(5)) == 0
        assert await candle_repository.count(KEY) == 7
        found = await candle_repository.get_range(KEY, *FOREVER)
        assert found == CandleSeries(KEY, [*series[:3], *series[6:]])

    async def test_what_was_deleted_can_be_saved_again(
        self, candle_repository: CandleRepository
    ) -> None:
        series = make_candles(KEY, 10)
        await candle_repository.save_many(KEY, series)
        await candle_repository.delete_range(KEY, minute(0), minute(9))
        await candle_repository.save_many(KEY, series)
        assert await candle_repository.get_range(KEY, *FOREVER) == series

    @pytest.mark.parametrize(
        ("timeframe", "timezone"),
        [
            (Timeframe.M5, "UTC"),
            (Timeframe.H1, "UTC"),
            (Timeframe.D1, "UTC"),
            (Timeframe.D1, "Asia/Seoul"),
            (Timeframe.D1, "America/New_York"),
            (Timeframe.W1, "Asia/Seoul"),
            (Timeframe.MN1, "Asia/Seoul"),
        ],
    )
    async def test_resampling_there_gives_what_resampling_here_gives(
        self, candle_repository: CandleRepository, timeframe: Timeframe, timezone: str
    ) -> None:
        around_a_clock_change = datetime(2024, 3, 8, 20, 3, tzinfo=UTC)
        series = make_candles(KEY, 6_000, start=around_a_clock_change)
        await candle_repository.save_many(KEY, series)
        await candle_repository.save_many(KEY, series[100:200])
        start, end = around_a_clock_change + timedelta(minutes=7), FOREVER[1]
        there = await candle_repository.resample(KEY, timeframe, start, end, timezone=timezone)
        assert there == series.slice(start, end).resample(timeframe, timezone=timezone)

    async def test_daily_candles_make_up_weeks_whatever_the_zone(
        self, candle_repository: CandleRepository
    ) -> None:
        key = SeriesKey("005930", Timeframe.D1)
        series = make_candles(key, 40)
        await candle_repository.save_many(key, series)
        there = await candle_repository.resample(
            key, Timeframe.W1, *FOREVER, timezone="America/New_York"
        )
        assert there == series.resample(Timeframe.W1)

    async def test_what_does_not_nest_is_not_resampled(
        self, candle_repository: CandleRepository
    ) -> None:
        key = SeriesKey("005930", Timeframe.H1)
        with pytest.raises(InvalidData):
            await candle_repository.resample(key, Timeframe.M5, *FOREVER)

    async def test_a_stream_tiles_the_range(self, candle_repository: CandleRepository) -> None:
        series = make_candles(KEY, 1_000)
        await candle_repository.save_many(KEY, series)
        await candle_repository.save_many(KEY, series[200:300])
        blocks = [
            block
            async for block in candle_repository.stream(KEY, minute(1), minute(997), block_rows=64)
        ]
        assert all(0 < len(block) <= 64 for block in blocks)
        joined = CandleSeries(KEY, [c for block in blocks for c in block])
        assert joined == series[1:998]

    async def test_leaving_a_stream_early_is_harmless(
        self, candle_repository: CandleRepository
    ) -> None:
        await candle_repository.save_many(KEY, make_candles(KEY, 1_000))
        async for _ in candle_repository.stream(KEY, *FOREVER, block_rows=10):
            break
        assert await candle_repository.count(KEY) == 1_000

    async def test_keys_are_listed_in_pages(self, candle_repository: CandleRepository) -> None:
        keys = [
            SeriesKey("A", Timeframe.M1),
            SeriesKey("A", Timeframe.D1, "KRX"),
            SeriesKey("A", Timeframe.M1, "KRX"),
            SeriesKey("B", Timeframe.M1),
        ]
        for key in reversed(keys):
            await candle_repository.save_many(key, make_candles(key, 2))
        for limit in (2, len(keys) - 1, len(keys), len(keys) + 1):
            page = await candle_repository.list_keys(limit=limit)
            assert list(page) == keys[:limit]
            assert page.has_more is (limit < len(keys))
            assert ("there are more" in repr(page)) is page.has_more
        assert list(await candle_repository.list_keys(limit=2, after=keys[1])) == keys[2:]
        assert not await candle_repository.list_keys(after=keys[3])

    @pytest.mark.parametrize(
        "symbol",
        [
            "O'Brien",
            'a"b',
            "100%",
            "%(x)s",
            "back\\slash",
            "삼성전자",
            "'; DROP TABLE candles; --",
            "a b",
        ],
    )
    async def test_hostile_symbols_are_plain_text(
        self, candle_repository: CandleRepository, symbol: str
    ) -> None:
        key, other = SeriesKey(symbol, Timeframe.M1, symbol), SeriesKey("other", Timeframe.M1)
        series = make_candles(key, 3)
        await candle_repository.save_many(key, series)
        await candle_repository.save_many(other, make_candles(other, 4))
        assert await candle_repository.get_range(key, *FOREVER) == series
        assert await candle_repository.get_latest(key, 5) == series
        assert set(await candle_repository.list_keys()) == {key, other}
        assert await candle_repository.delete_range(key, *FOREVER) == 3
        assert await candle_repository.count(other) == 4

    async def test_what_was_read_does_not_change_by_later_writes(
        self, candle_repository: CandleRepository
    ) -> None:
        before = make_candles(KEY, 100)
        await candle_repository.save_many(KEY, before)
        held = await candle_repository.get_range(KEY, *FOREVER)
        await candle_repository.save_many(KEY, make_candles(KEY, 100, seed=1))
        await candle_repository.delete_range(KEY, minute(0), minute(50))
        assert held == before

    # Each example goes to an engine some twenty times: fewer of them than elsewhere.
    @settings(
        suppress_health_check=MANY_SUBCLASSES,
        deadline=None,
        max_examples=max(1, settings().max_examples * 2 // 5),
    )
    @given(operations=_operations)
    async def test_any_sequence_agrees_with_a_dict(
        self, candle_repository: CandleRepository, operations: list[CandleOperation]
    ) -> None:
        key = SeriesKey(f"model{next(fresh)}", Timeframe.M1)
        model: dict[int, Candle] = {}
        for name, argument in operations:
            if name == "save":
                batch = [candle(number, close) for number, close in argument]
                await candle_repository.save_many(key, batch)
                model.update({number: c for (number, _), c in zip(argument, batch, strict=True)})
            elif name == "delete":
                first, last = argument
                gone = [number for number in model if first <= number <= last]
                deleted = await candle_repository.delete_range(key, minute(first), minute(last))
                assert deleted == len(gone)
                for number in gone:
                    del model[number]
            elif name == "range":
                first, last = argument
                expected = [model[n] for n in sorted(model) if first <= n <= last]
                found = await candle_repository.get_range(key, minute(first), minute(last))
                assert list(found) == expected
            else:
                expected = [model[n] for n in sorted(model)][-argument:]
                assert list(await candle_repository.get_latest(key, argument)) == expected
        assert await candle_repository.count(key) == len(model)
        first_and_last = (minute(min(model)), minute(max(model))) if model else (None, None)
        assert await candle_repository.get_coverage(key) == first_and_last
