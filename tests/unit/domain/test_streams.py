"""Blocks cut from pieces of any length."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage import CandlePanel, CandleSeries, SeriesKey, Timeframe
from jts_storage.domain.panel_query import rows_at_once
from jts_storage.domain.streams import ReadsPieces
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("A", Timeframe.M1)
SERIES = make_candles(KEY, 40)


class Pieces(ReadsPieces):
    """Reads pieces of these lengths."""

    read_panel = panel_sizes = symbols_of = get_range = None  # type: ignore[assignment]

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    async def read_pieces(self, *_: Any) -> AsyncIterator[CandleSeries]:
        at = 0
        for length in self.lengths:
            yield SERIES[at : at + length]
            at += length


@given(lengths=st.lists(st.integers(0, 8), max_size=5), rows=st.integers(1, 10))
async def test_all_blocks_but_the_last_are_full(lengths: list[int], rows: int) -> None:
    blocks = [b async for b in Pieces(lengths).stream(KEY, *FOREVER, block_rows=rows)]
    assert list(chain.from_iterable(blocks)) == list(SERIES[: sum(lengths)])
    assert all(len(block) == rows for block in blocks[:-1])
    assert all(0 < len(block) <= rows for block in blocks)


@pytest.mark.parametrize("block_rows", [1, 7, 65_535, 65_536, 65_537, 2**63 - 1])
def test_whole_blocks_are_read_at_once(block_rows: int) -> None:
    rows = rows_at_once(block_rows)
    assert rows % block_rows == 0 and max(65_536, block_rows) <= rows < 65_536 + block_rows


def test_pieces_of_a_panel() -> None:
    series = [
        make_candles(SeriesKey(name, Timeframe.M1), n)
        for name, n in zip("ABCD", (2, 7, 3, 1), strict=True)
    ]
    panel = CandlePanel(Timeframe.M1, series)
    pieces = list(panel.pieces(3))
    assert [dict(zip(map(str, each), map(len, each.values()), strict=True)) for each in pieces] == [
        {"A/1m": 2},
        {"B/1m": 3},
        {"B/1m": 3},
        {"B/1m": 1},
        {"C/1m": 3},
        {"D/1m": 1},
    ]
    assert list(panel.only("close").pieces(100)) == [panel.only("close")]
    assert list(CandlePanel.empty(Timeframe.M1).pieces(5)) == []
