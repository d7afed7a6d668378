"""What is staged, as the journal keeps it: what was written is read, in chunks that are small."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import AggregateChange, Changes, CheckpointChange, SeriesChanges
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.symbol import Symbol
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work import journal_format as staged_work
from jts_storage.unit_of_work.journal_format import Chunk, decode, decode_rows, encode

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
DAY = date(2024, 1, 2)
MADE = datetime(2024, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
LATER = MADE + timedelta(seconds=1)


def changes(rows: int, *, key: SeriesKey = KEY, deletes: bool = False) -> SeriesChanges:
    made = SeriesChanges(key)
    if deletes:
        made.delete(1_000, 2_000)
        made.delete(5_000, 5_000)
    made.save(make_candles(key, rows).columns)
    return made


def everything() -> Changes:
    kept = SymbolBars(
        symbol="005930",
        trading_day=DAY,
        version=3,
        collection_started=True,
        is_complete=True,
        bar_count=380,
        created_at=MADE,
        updated_at=LATER,
    )
    new = SymbolBars(symbol="A", trading_day=DAY)
    return Changes(
        candles=[changes(30, deletes=True)],
        symbols=SYMBOLS.to_columns(
            [
                Symbol("005930", "삼성전자", Market.KOSPI, "IT", True, MADE),
                Symbol("A", "none", Market.KOSDAQ, None, False, LATER),
            ]
        ),
        aggregates=[
            AggregateChange("005930", DAY, 2, kept, MADE),
            AggregateChange("A", DAY, 0, new),
            AggregateChange("B", DAY, 7, None, LATER),
        ],
        checkpoints=[
            CheckpointChange("changed", {"n": 2, "list": [None, True, 0.1]}, {"n": 1}),
            CheckpointChange("made", {"n": 1}, None),
            CheckpointChange("deleted", None, {"n": 1}),
        ],
        bars=[changes(20, key=SeriesKey("A", Timeframe.M5), deletes=True)],
    )


def described(chunks: list[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.kind == "work")


def test_what_was_written_is_read() -> None:
    work = everything()
    chunks = list(encode(work))
    found = decode(described(chunks))
    assert found.symbols == work.symbols
    assert found.aggregates == work.aggregates
    assert found.checkpoints == work.checkpoints
    for kind, before, after in (
        ("candles", work.candles, found.candles),
        ("bars", work.bars, found.bars),
    ):
        assert [(c.key, c.deleted) for c in after] == [(c.key, c.deleted) for c in before]
        rows = [c for c in chunks if c.kind == kind]
        assert [c.key for c in rows] == [c.key for c in before]
        for chunk, change in zip(rows, before, strict=True):
            assert chunk.key is not None
            series = decode_rows(chunk.key, chunk.data)
            assert series.columns.rows == change.upserts.rows > 0
            assert series == make_candles(change.key, change.upserts.rows)


def test_what_a_release_wrote_before_it_noted_the_base_is_read() -> None:
    item = {"symbol": "A", "trading_day": "2024-01-02", "base": 3, "becomes": None}
    written: dict[str, Any] = {name: [] for name in ("candles", "bars", "symbols")}
    written["aggregates"] = [item]
    written["checkpoints"] = [{"name": "x", "becomes": {"n": 1}}]
    found = decode(json.dumps(written).encode())
    assert found.aggregates == [AggregateChange("A", DAY, 3, None)]
    [checkpoint] = found.checkpoints
    assert not checkpoint.knows_base
    assert checkpoint.still_holds({"n": 9}), "nobody knows what it was"


def test_chunks_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged_work, "CHUNK_BYTES", 50)
    monkeypatch.setattr(staged_work, "CHUNK_ROWS", 7)
    chunks = list(encode(everything()))
    assert {len(chunk.data) for chunk in chunks if chunk.kind == "work"} <= set(range(1, 51))
    assert decode(described(chunks)) == decode(described(list(encode(everything()))))
    for kind, sizes in (("candles", [7, 7, 7, 7, 2]), ("bars", [7, 7, 6])):
        read = [decode_rows(c.key, c.data) for c in chunks if c.kind == kind and c.key]
        assert [len(series) for series in read] == sizes


def test_a_chunk_fits_a_document_even_if_nothing_can_be_compressed() -> None:
    document = 16 * 1024 * 1024
    assert staged_work.CHUNK_ROWS * 48 < staged_work.CHUNK_BYTES < document / 2
    assert staged_work.CHUNK_ROWS > 100_000


def test_what_is_touched_and_by_which_names() -> None:
    nothing, work = Changes(), everything()
    assert (nothing.touches_clickhouse, nothing.touches_database) == (False, False)
    assert (work.touches_clickhouse, work.touches_database) == (True, True)
    for only in (Changes(candles=work.candles), Changes(symbols=work.symbols)):
        assert (only.touches_clickhouse, only.touches_database) == (True, False)
    for only in (
        Changes(aggregates=work.aggregates),
        Changes(checkpoints=work.checkpoints),
        Changes(bars=work.bars),
    ):
        assert (only.touches_clickhouse, only.touches_database) == (False, True)
    assert work.bookkeeping_names == {
        "aggregate 005930 2024-01-02",
        "aggregate A 2024-01-02",
        "aggregate B 2024-01-02",
        "checkpoint changed",
        "checkpoint made",
        "checkpoint deleted",
        f"bars {work.bars[0].key}",
    }
    assert work.series_names == work.shortened_series == {f"candles {KEY}"}
    work.candles = [changes(3)]
    assert work.series_names == {f"candles {KEY}"}
    assert work.shortened_series == set()
