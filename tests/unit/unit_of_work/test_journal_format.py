"""What is staged, as the journal keeps it: what was written is read, in chunks that are small."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.changes import AggregateChange, CheckpointChange, CommitChanges
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.symbol import Symbol
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work import journal_format as staged_work
from jts_storage.unit_of_work.journal_format import Chunk, decode, decode_rows, encode

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
DAY = date(2024, 1, 2)
MADE = datetime(2024, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
LATER = MADE + timedelta(seconds=1)


def changes(rows: int, *, key: SeriesKey = KEY, deletes: bool = False) -> CandleChanges:
    made = CandleChanges()
    if deletes:
        made.delete(key, 1_000, 2_000)
        made.delete(key, 5_000, 5_000)
    made.save(SeriesRows.of(make_candles(key, rows)))
    return made


def everything() -> CommitChanges:
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
    return CommitChanges(
        candles=changes(30, deletes=True),
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
        bars=changes(20, key=SeriesKey("A", Timeframe.M5), deletes=True),
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
        assert after.keys == before.keys
        assert after.deletions == before.deletions != []
        [chunk] = [c for c in chunks if c.kind == kind]
        [key] = before.keys
        assert chunk.key == key
        [series] = decode_rows(chunk.key, chunk.data)
        assert series == make_candles(key, 30 if kind == "candles" else 20)


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
    found, whole = decode(described(chunks)), everything()
    assert (found.aggregates, found.checkpoints) == (whole.aggregates, whole.checkpoints)
    assert found.candles.deletions == whole.candles.deletions
    for kind, sizes in (("candles", [7, 7, 7, 7, 2]), ("bars", [7, 7, 6])):
        read = [decode_rows(c.key, c.data) for c in chunks if c.kind == kind and c.key]
        assert [rows.rows for rows in read] == sizes


def test_short_series_share_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged_work, "CHUNK_ROWS", 10)
    frames = (Timeframe.D1, Timeframe.M1)
    keys = [SeriesKey(f'"{n}\\', frame, "KRX") for n in range(3) for frame in frames]
    each = [make_candles(key, 1 + 3 * n) for n, key in enumerate(keys)]
    work = CommitChanges()
    for series in reversed(each):
        work.candles.save(SeriesRows.of(series))
    chunks = [chunk for chunk in encode(work) if chunk.kind == "candles"]
    assert [chunk.key for chunk in chunks] == [
        None,
        keys[2],
        keys[3],
        *[keys[4]] * 2,
        *[keys[5]] * 2,
    ]
    found = [series for c in chunks for series in decode_rows(c.key, c.data)]
    assert found[:4] == each[:4]
    assert found[4].merge(found[5]) == each[4]
    assert decode(described(list(encode(work)))).candles.keys == keys


# As a release wrote them of which each chunk had the rows of one series: with a deletion, and three
# rows.
_WORK_OF_BEFORE = (
    b'{"candles": [{"key": ["005930", "1m", "KRX"], "deleted": [[1000, 2000]]}], "bars'
    b'": [], "symbols": [], "aggregates": [], "tables": [], "checkpoints": []}'
)
_ROWS_OF_BEFORE = base64.b85decode(
    b"|NsC0hyefq5C8xG000UA3;+fI1po*D3IG5A009I53;+NC2mlBG000C42mk;81ONa41^@s67y$qP)Bpegpa1{>Z~y"
    b"=RJOBUy1ONa45dZ)G000335C8xGAOHXW1ONa4000001^@s6c5iHTZDjxe000I62mk~C1^@s6KmY&$MF0Q)000335"
    b"C8xG7ytkO1ONa4000001poj5V{C78WdHyGF#rGm00001KmY&$bpQYV000335C8xG6aWAK1ONa4000000{{R3Y;Sh"
    b"}T>t<700001KmY&$p#T5>000335C8xG7ytkO1ONa4000001ONa4XlZ9?00000jQ{`t00001KmY&$(EtDc000335C"
    b"8xG7ytkO1ONa4000001ONa4Z*XO900000y#N3I00001KmY&$5C9Ya2ml5E2LKEJ000mG5C8xG000335C8xGBme*a"
    b"1ONa4000002><{9bZKp6b97;CZ~y=R2mlNK2ml8F2mk;800001KmY&$00000|NsC0kO2Sy6aWAK000003;-Aa1^@"
    b"*B2mlNK3;+NC00RU78~^|S2mt^900000000003;-Sg5C8-K2mlNK3;+NC@Bjb+Bme*a7ytkO0{{R300000000000"
    b"00I62ml8F1^@s6000013;+NC000000000000000000000000000000DF6Tf00000FaQ7m000000000000000FaQ7"
    b"m00000CIA2c00000SO5S3000000000000000SO5S300000CIA2c00000fB*mh000000000000000fB*mh00000DF"
    b"6Tf00000umAu6000000000000000umAu600000A^-pY00000*Z=?k000000000000000*Z=?k00000DF6Tf00000"
    b"000001^@s60{{R30000000000000000{{R30000000000000000{{R30000000000000000{{R30000000000000"
    b"000{{R30000000000000000{{R30000000000000007ytkO00000D77#BAQ-^_002;U$BY300AM<K$BY300Kg=A$"
    b"BY3000000000007ytkO00000D77#BAQ-Ix0B8U(_9*~>v=k};0000204oVBpalQ`7ytkO00000D77#BAQ-Ix0B8U"
    b"(_9*~>v=k};0000204oVBpalQ`7ytkO00000D77#BAQ-^_0Knv_DF6Tf06=NTDF6Tf001YsDF6Tf00000000007y"
    b"tkO00000D77#BAQ+7R09b&l*C_x1006-4<^cdZiWdL?000007ytkO00000D77#BAQ-^_086h2000000IWd?00000"
    b"0QS!g000000000000000|NsC000000"
)


def test_an_entry_of_before_series_shared_chunks_is_read() -> None:
    found = decode(_WORK_OF_BEFORE)
    assert (found.candles.keys, found.candles.deletions) == ([KEY], [(KEY, 1_000, 2_000)])
    assert list(decode_rows(KEY, _ROWS_OF_BEFORE)) == [make_candles(KEY, 3)]


def test_a_chunk_fits_a_document_even_if_nothing_can_be_compressed() -> None:
    document = 16 * 1024 * 1024
    assert staged_work.CHUNK_ROWS * 48 < staged_work.CHUNK_BYTES < document / 2
    assert staged_work.CHUNK_ROWS > 100_000


def test_what_is_touched_and_by_which_names() -> None:
    nothing, work = CommitChanges(), everything()
    assert (nothing.touches_clickhouse, nothing.touches_database) == (False, False)
    assert (work.touches_clickhouse, work.touches_database) == (True, True)
    for only in (CommitChanges(candles=work.candles), CommitChanges(symbols=work.symbols)):
        assert (only.touches_clickhouse, only.touches_database) == (True, False)
    for only in (
        CommitChanges(aggregates=work.aggregates),
        CommitChanges(checkpoints=work.checkpoints),
        CommitChanges(bars=work.bars),
    ):
        assert (only.touches_clickhouse, only.touches_database) == (False, True)
    assert work.bookkeeping_names == {
        "aggregate 005930 2024-01-02",
        "aggregate A 2024-01-02",
        "aggregate B 2024-01-02",
        "checkpoint changed",
        "checkpoint made",
        "checkpoint deleted",
        f"bars {work.bars.keys[0]}",
    }
    assert work.series_names == work.shortened_series == {f"candles {KEY}"}
    work.candles = changes(3)
    assert work.series_names == {f"candles {KEY}"}
    assert work.shortened_series == set()
