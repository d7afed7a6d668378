"""What a `CandleRepository` promises of whole markets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain import panel_query
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.ports.candles import CandleRepository
from jts_storage.testing.contracts.samples import FOREVER, MANY_SUBCLASSES, examples, fresh, minute
from jts_storage.testing.factories import make_candles

M1, D1 = Timeframe.M1, Timeframe.D1
NAMES = ("005930", "A'B", "가나", "100%")


def market(*rows: int, timeframe: Timeframe = M1) -> list[CandleSeries]:
    """A series of so many candles for each of the names, every second one on an exchange."""
    return [
        make_candles(SeriesKey(name, timeframe, "KRX" if n % 2 else ""), count, seed=n + 1)
        for n, (name, count) in enumerate(zip(NAMES, rows, strict=False))
    ]


def joined(parts: list[CandleSeries]) -> CandleSeries:
    whole, *others = parts
    for part in others:
        whole = whole.merge(part)
    return whole


def _again(panel: CandlePanel, place: int) -> tuple[SeriesKey, CandleSeries]:
    key = list(panel)[place]
    return key, panel[key]


class PanelContract:
    """Part of the contract of `CandleRepository`; each test begins with an empty store."""

    async def test_a_market_is_read_as_one_panel(self, candle_repository: CandleRepository) -> None:
        series = market(5, 3, 4, 2)
        for each in series:
            await candle_repository.save_many(each.key, each)
        days = market(9, timeframe=D1)[0]
        await candle_repository.save_many(days.key, days)
        panel = await candle_repository.get_panel(M1, *FOREVER)
        assert panel == CandlePanel(M1, series)
        assert await candle_repository.get_panel(D1, *FOREVER) == CandlePanel(D1, [days])
        assert panel[series[1].key] == series[1]
        middle = await candle_repository.get_panel(M1, minute(2), minute(3))
        assert middle == CandlePanel(M1, [each.slice(minute(2), minute(3)) for each in series])

    async def test_a_panel_may_be_of_some_series(self, candle_repository: CandleRepository) -> None:
        series = market(5, 3, 4, 2)
        for each in series:
            await candle_repository.save_many(each.key, each)
        keys = [series[2].key, series[0].key, SeriesKey("unknown", M1)]
        some = await candle_repository.get_panel(M1, *FOREVER, keys=keys)
        assert some == CandlePanel(M1, [series[0], series[2]])
        on_exchange = await candle_repository.get_panel(M1, *FOREVER, exchange="KRX")
        assert on_exchange == CandlePanel(M1, [series[1], series[3]])
        assert len(await candle_repository.get_panel(M1, *FOREVER, keys=[])) == 0
        both = await candle_repository.get_panel(M1, *FOREVER, keys=keys, exchange="KRX")
        assert both == CandlePanel.empty(M1)

    async def test_one_symbol_of_several_exchanges_is_several_series(
        self, candle_repository: CandleRepository
    ) -> None:
        none, krx, nyse = (
            make_candles(SeriesKey("A", M1, exchange), rows, seed=rows)
            for rows, exchange in ((3, ""), (4, "KRX"), (5, "NYSE"))
        )
        other = make_candles(SeriesKey("B", M1, "KRX"), 2)
        for each in (none, krx, nyse, other):
            await candle_repository.save_many(each.key, each)
        for some in ([krx], [none], [none, nyse], [krx, other]):
            expected, keys = CandlePanel(M1, some), [each.key for each in some]
            assert await candle_repository.get_panel(M1, *FOREVER, keys=keys) == expected
            latest = await candle_repository.get_latest_panel(M1, keys=keys)
            assert latest == expected.tail(1)
            days = await candle_repository.resample_panel(M1, D1, *FOREVER, keys=keys)
            assert days == expected.resample(D1)
        await candle_repository.delete_range(krx.key, *FOREVER)
        assert await candle_repository.get_panel(M1, *FOREVER) == CandlePanel(
            M1, [none, nyse, other]
        )

    async def test_the_last_candles_of_each(self, candle_repository: CandleRepository) -> None:
        series = market(5, 3, 4, 1)
        for each in series:
            await candle_repository.save_many(each.key, each)
        for count in (1, 2, 9):
            expected = CandlePanel(M1, [each.tail(count) for each in series])
            assert await candle_repository.get_latest_panel(M1, count) == expected
        keys = [series[0].key]
        latest = await candle_repository.get_latest_panel(M1, keys=keys, exchange="")
        assert latest == CandlePanel(M1, [series[0].tail(1)])
        before = await candle_repository.get_panel(M1, minute(0), minute(2), last=2)
        assert before == CandlePanel(
            M1, [each.slice(minute(0), minute(2)).tail(2) for each in series]
        )

    @pytest.mark.parametrize("apart", [1, 3], ids=["each its own", "three at a time"])
    async def test_the_last_candle_of_series_that_end_at_many_times(
        self, candle_repository: CandleRepository, apart: int
    ) -> None:
        key, rows = SeriesKey("A", M1), 150
        long = make_candles(key, rows)
        series = [
            CandleSeries.trusted(SeriesKey(f"S{n:03}", M1), long[n : n + apart].columns)
            for n in range(0, rows, apart)
        ]
        panel = CandlePanel(M1, series)
        await candle_repository.save_panel(panel)
        assert await candle_repository.get_latest_panel(M1) == panel.tail(1)
        before = await candle_repository.get_panel(M1, minute(0), minute(40), last=1)
        assert before == CandlePanel(
            M1, [each.slice(minute(0), minute(40)) for each in series]
        ).tail(1)

    async def test_what_was_replaced_or_deleted_is_not_in_it(
        self, candle_repository: CandleRepository
    ) -> None:
        old, *others = market(6, 3, 4)
        for each in (old, *others):
            await candle_repository.save_many(each.key, each)
        new = make_candles(old.key, 6, seed=9)[2:4]
        await candle_repository.save_many(old.key, new)
        await candle_repository.delete_range(others[0].key, minute(2), minute(9))
        await candle_repository.delete_range(others[1].key, *FOREVER)
        expected = CandlePanel(M1, [old.merge(new), others[0][:2]])
        assert await candle_repository.get_panel(M1, *FOREVER) == expected
        assert await candle_repository.get_latest_panel(M1) == expected.tail(1)
        assert await candle_repository.get_latest_panel(M1, 4) == expected.tail(4)

    @pytest.mark.parametrize("kind", ["panel", "arrow", "pandas", "polars"])
    async def test_a_panel_is_saved_in_every_form(
        self, candle_repository: CandleRepository, kind: str
    ) -> None:
        panel = CandlePanel(M1, market(5, 3, 4))
        forms: dict[str, Any] = {
            "panel": lambda: panel,
            "arrow": panel.to_arrow,
            "pandas": panel.to_pandas,
            "polars": panel.to_polars,
        }
        saved = await candle_repository.save_panel(forms[kind](), timeframe=M1)
        assert (saved.written, saved.duplicates) == (12, 0)
        assert await candle_repository.get_panel(M1, *FOREVER) == panel

    async def test_of_rows_of_one_timestamp_the_last_is_saved_and_the_others_are_counted(
        self, candle_repository: CandleRepository
    ) -> None:
        key = SeriesKey("B", M1)
        first, second = (CandlePanel(M1, [make_candles(key, 3, seed=n)]) for n in (1, 2))
        other = CandlePanel(M1, market(4))
        rows = pa.concat_tables(each.to_arrow() for each in (first, other, second))
        saved = await candle_repository.save_panel(rows, timeframe=M1)
        assert (saved.written, saved.duplicates) == (7, 3)
        expected = CandlePanel(M1, [*second.values(), *other.values()])
        assert await candle_repository.get_panel(M1, *FOREVER) == expected

    async def test_some_fields_are_read_alone(self, candle_repository: CandleRepository) -> None:
        whole = CandlePanel(M1, market(5, 3, 4))
        await candle_repository.save_panel(whole)
        for fields in (("close",), ("volume", "open"), ("high", "low", "close")):
            panel = await candle_repository.get_panel(M1, *FOREVER, fields=fields)
            assert panel == whole.only(*fields)
            assert panel.to_arrow() == whole.to_arrow().select(
                ["symbol", "exchange", "timestamp", *panel.fields]
            )
            for count in (1, 2):
                latest = await candle_repository.get_latest_panel(M1, count, fields=fields)
                assert latest == whole.tail(count).only(*fields)
        await candle_repository.save_many(*_again(whole, 0))
        again = await candle_repository.get_panel(M1, *FOREVER, fields=["close"])
        assert again == whole.only("close")
        refused: Any
        for refused in ((), ("price",), ("close", "timestamp"), (5,)):
            with pytest.raises(InvalidData):
                await candle_repository.get_panel(M1, *FOREVER, fields=refused)

    @pytest.mark.parametrize("timezone", ["UTC", "Asia/Seoul", "America/New_York"])
    async def test_a_market_is_resampled_where_it_is(
        self, candle_repository: CandleRepository, timezone: str
    ) -> None:
        series = market(3_000, 1, 1_500, 40)
        await candle_repository.save_panel(CandlePanel(M1, series))
        keys = [series[0].key, series[3].key]

        async def check(*ends: Any, **options: Any) -> None:
            panel = await candle_repository.get_panel(M1, *ends, **options)
            for target in (Timeframe.M5, Timeframe.H1, D1, Timeframe.W1, Timeframe.MN1):
                coarser = await candle_repository.resample_panel(
                    M1, target, *ends, timezone=timezone, **options
                )
                assert coarser == panel.resample(target, timezone=timezone)

        await check(*FOREVER)
        await check(minute(10), minute(1_700), keys=keys)
        # Rows that compete, and deleted ones.
        other = make_candles(series[0].key, 3_000, seed=9)[100:2_000]
        await candle_repository.save_many(series[0].key, other)
        await check(*FOREVER)
        await candle_repository.delete_range(series[2].key, minute(700), minute(1_000))
        await check(*FOREVER)
        await check(*FOREVER, exchange="KRX")
        with pytest.raises(InvalidData):
            await candle_repository.resample_panel(D1, M1, *FOREVER)

    async def test_volumes_too_large_for_a_sum_are_told(
        self, candle_repository: CandleRepository
    ) -> None:
        one = make_candles(SeriesKey("A", M1), 4).columns
        huge = CandleSeries.trusted(SeriesKey("A", M1), one._replace(volume=one.volume * 0 + 2**62))
        fits = CandleSeries.trusted(SeriesKey("B", M1), huge[:3].columns)
        await candle_repository.save_panel(CandlePanel(M1, [fits]))
        coarser = await candle_repository.resample_panel(M1, D1, *FOREVER)
        assert coarser.columns.volume.tolist() == [3 * 2**62]
        await candle_repository.save_panel(CandlePanel(M1, [huge]))
        with pytest.raises(InvalidData, match="add up"):
            await candle_repository.resample_panel(M1, D1, *FOREVER)

    @pytest.mark.parametrize("block_rows", [1, 2, 5, 7, 100])
    async def test_a_market_is_streamed_in_blocks(
        self, candle_repository: CandleRepository, block_rows: int
    ) -> None:
        series = market(5, 3, 4, 2)
        whole = CandlePanel(M1, series)
        await candle_repository.save_panel(whole)
        days = market(9, timeframe=D1)[0]
        await candle_repository.save_many(days.key, days)

        async def streamed(*ends: Any, **options: Any) -> CandlePanel:
            parts: dict[SeriesKey, list[CandleSeries]] = {}
            blocks = candle_repository.stream_panels(M1, *ends, block_rows=block_rows, **options)
            async for block in blocks:
                assert 0 < block.rows <= block_rows
                for key, part in block.items():
                    assert len(parts.setdefault(key, [])) == 0 or len(whole[key]) > block_rows
                    parts[key].append(part)
            return CandlePanel(M1, [joined(each) for each in parts.values()])

        assert await streamed(*FOREVER) == whole
        assert await streamed(*FOREVER, exchange="KRX") == CandlePanel(M1, [series[1], series[3]])
        some = CandlePanel(M1, [each.slice(minute(1), minute(3)) for each in series[:2]])
        assert await streamed(minute(1), minute(3), keys=[s.key for s in series[:2]]) == some
        closes: list[int] = []
        async for block in candle_repository.stream_panels(
            M1, *FOREVER, fields=["close"], block_rows=block_rows
        ):
            assert block.fields == ("close",) and 0 < block.rows <= block_rows
            closes += block.column("close").tolist()
        assert closes == whole.columns.close.tolist()
        assert await streamed(*FOREVER, keys=[]) == CandlePanel.empty(M1)
        await candle_repository.delete_range(series[0].key, *FOREVER)
        assert await streamed(*FOREVER) == CandlePanel(M1, series[1:])

    async def test_a_long_series_is_streamed_by_several_reads(
        self, candle_repository: CandleRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(panel_query, "_LEAST_ROWS", 1)
        old, short, other = market(25, 2, 12)
        for each in (old, short, other):
            await candle_repository.save_many(each.key, each)
        new = make_candles(old.key, 25, seed=9)[8:16]
        await candle_repository.save_many(old.key, new)
        await candle_repository.delete_range(other.key, minute(3), minute(6))
        left = other.slice(minute(0), minute(2)).merge(other.slice(minute(7), minute(11)))
        whole = CandlePanel(M1, [old.merge(new), short, left])
        for fields in (None, ["close"], ["volume", "low"]):
            blocks = [
                block
                async for block in candle_repository.stream_panels(
                    M1, *FOREVER, fields=fields, block_rows=7
                )
            ]
            assert all(0 < block.rows <= 7 for block in blocks)
            expected = whole if fields is None else whole.only(*fields)
            for name in ("timestamp", *expected.fields):
                found = np.concatenate([block.column(name) for block in blocks])
                assert found.tolist() == expected.column(name).tolist()
            assert list(dict.fromkeys(key for block in blocks for key in block)) == list(whole)

    async def test_what_is_no_panel_is_refused(self, candle_repository: CandleRepository) -> None:
        table = CandlePanel(M1, market(2, 2)).to_arrow()
        for given_, timeframe in (
            (table, None),
            (table.drop_columns(["symbol"]), M1),
            ("no panel", M1),
            (market(2)[0].to_arrow(), M1),
        ):
            with pytest.raises(InvalidData):
                await candle_repository.save_panel(given_, timeframe=timeframe)
        repository: Any = candle_repository
        for refused in (
            repository.get_panel("2m", *FOREVER),
            repository.get_panel(M1, *FOREVER, last=0),
            repository.get_panel(M1, *FOREVER, keys=[SeriesKey("A", D1)]),
            repository.get_panel(M1, *reversed(FOREVER)),
            repository.get_panel(M1, *FOREVER, exchange=5),
            repository.get_latest_panel(M1, 0),
            repository.get_panel(M1, *FOREVER, market="nowhere"),
            repository.save_panel(CandlePanel(M1, market(2)).only("close")),
            anext(repository.stream_panels(M1, *FOREVER, block_rows=0)),
        ):
            with pytest.raises(InvalidData):
                await refused
        assert len(await candle_repository.get_panel(M1, *FOREVER)) == 0

    @settings(max_examples=examples(5, 15), deadline=None, suppress_health_check=MANY_SUBCLASSES)
    @given(
        writes=st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(1, 4), st.booleans()),
            max_size=8,
        ),
        count=st.integers(1, 5),
    )
    async def test_a_panel_is_what_its_series_are(
        self,
        candle_repository: CandleRepository,
        writes: list[tuple[int, int, int, bool]],
        count: int,
    ) -> None:
        number = next(fresh)
        keys = [SeriesKey(f"panel {number} {n}", M1) for n in range(3)]
        for turn, (which, first, rows, deletes) in enumerate(writes):
            if deletes:
                ends = minute(first), minute(first + rows - 1)
                await candle_repository.delete_range(keys[which], *ends)
            else:
                part = make_candles(keys[which], 12, seed=turn)[first : first + rows]
                await candle_repository.save_many(keys[which], part)
        series = await candle_repository.get_ranges(keys, *FOREVER)
        expected = CandlePanel(M1, series.values())
        assert await candle_repository.get_panel(M1, *FOREVER, keys=keys) == expected
        latest = await candle_repository.get_latest_panel(M1, count, keys=keys)
        assert latest == expected.tail(count)
        matrix = expected.matrix("close", floats=True)
        assert int(matrix.present.sum()) == expected.rows == int((~np.isnan(matrix.values)).sum())
