"""Which series belong to what is asked, and how many of their rows are read at once."""

from __future__ import annotations

import pytest

from jts_storage import SeriesKey, Timeframe
from jts_storage.domain import panel_query
from jts_storage.domain.checks import FIRST_TIMESTAMP, LAST_TIMESTAMP
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.testing.factories import make_candles

M1 = Timeframe.M1


def test_a_series_among_thousands_is_compared_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> list[SeriesKey]:
        return [SeriesKey(f"S{number}", M1) for number in range(1_000)]

    asked = PanelQuery.of(M1, FIRST_TIMESTAMP, LAST_TIMESTAMP, keys(), None)
    compared, is_equal = list[object](), SeriesKey.__eq__

    def counted(self: SeriesKey, other: object) -> bool:
        compared.append(other)
        return is_equal(self, other)

    monkeypatch.setattr(SeriesKey, "__eq__", counted)
    assert all(map(asked.is_of, keys()))
    assert not asked.is_of(SeriesKey("T", M1))
    assert len(compared) < 2_000


def test_a_series_is_asked_for_by_all_that_is_said_of_it() -> None:
    key = SeriesKey("A", M1, "KRX")

    def asked(keys: list[SeriesKey] | None, exchange: str | None = None) -> PanelQuery:
        return PanelQuery.of(M1, FIRST_TIMESTAMP, LAST_TIMESTAMP, keys, exchange)

    assert asked(None).is_of(key)
    assert asked([key], "KRX").is_of(key)
    assert not asked([]).is_of(key)
    assert not asked([SeriesKey("A", M1)]).is_of(key)
    assert not asked([key], "NYSE").is_of(key)
    assert not asked(None).is_of(SeriesKey("A", Timeframe.D1, "KRX"))


def test_a_key_that_is_named_twice_is_asked_for_once() -> None:
    keys = [SeriesKey(name, M1) for name in "BAB"]
    asked = PanelQuery.of(M1, FIRST_TIMESTAMP, LAST_TIMESTAMP, keys, None)
    assert asked.keys == (keys[0], keys[1])


class _Counting(InMemoryCandleRepository):
    """Notes how many rows of how many series are read at once."""

    def __init__(self) -> None:
        super().__init__(MemoryDatabase())
        self.read: list[tuple[int, int]] = []

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        panel = await super().read_panel(asked)
        self.read.append((len(panel), panel.rows))
        return panel


async def test_a_stream_reads_no_more_at_once_than_a_block_or_some_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(panel_query, "_LEAST_ROWS", 20)
    candles = _Counting()
    for name, rows in (("A", 8), ("B", 8), ("C", 8), ("long", 90), ("x", 5), ("y", 15), ("z", 20)):
        key = SeriesKey(name, M1)
        await candles.save_many(key, make_candles(key, rows))

    async def streamed(block_rows: int) -> list[tuple[int, int]]:
        candles.read.clear()
        blocks = candles.stream_panels(
            M1, FIRST_TIMESTAMP, LAST_TIMESTAMP, block_rows=block_rows, fields=["close"]
        )
        sizes = [block.rows async for block in blocks]
        assert sum(sizes) == 154
        assert max(sizes) <= block_rows
        return candles.read

    assert await streamed(10) == [(2, 16), (1, 8), (2, 20), (1, 20)], "the long one is not among it"
    assert await streamed(30) == [(3, 24), (2, 20), (1, 20)]
    assert await streamed(1_000) == [(7, 154)]
