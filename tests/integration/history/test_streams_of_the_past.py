"""Streams as of an earlier moment, of rows that the engine has not merged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest

from jts_storage import CandlePanel, CandleSeries, SeriesKey, Storage, Timeframe
from jts_storage.domain import checks, panel_query
from jts_storage.domain.moments import Commit
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import START, make_candles
from jts_storage.unit_of_work.purges import StoredPurges
from tests.integration.history.commits import save, with_volume

M1, MINUTE = Timeframe.M1, timedelta(minutes=1)
KEY = SeriesKey("A", M1)
SERIES = make_candles(KEY, 60)


async def corrected(storage: Storage) -> tuple[Commit, CandleSeries]:
    """A moment between corrections, and what counted then; nothing is merged."""
    for table in ("candles", "candles_history"):
        storage.clickhouse.execute(f"SYSTEM STOP MERGES {table}")
    await save(storage, SERIES)
    await save(storage, with_volume(SERIES[10:30], 7))
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, START, START + 3 * MINUTE)
        moment = (await uow.commit()).commit
    assert moment is not None
    await save(storage, with_volume(SERIES[:25], 8))
    await save(storage, make_candles(KEY, 90)[60:])
    was = [SERIES[4:10], with_volume(SERIES[10:30], 7), SERIES[30:]]
    return moment, CandleSeries(KEY, list(chain.from_iterable(was)))


@pytest.fixture
def asked(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that have read columns."""
    manager: Any = storage.clickhouse
    read, statements = manager.read_columns, list[str]()

    def spied(query: str, *given: Any, **more: Any) -> Any:
        statements.append(query)
        return read(query, *given, **more)

    monkeypatch.setattr(manager, "read_columns", spied)
    return statements


async def test_a_stream_gives_what_counted_in_blocks(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, was = await corrected(storage)
    for rows, least in ((3, 1), (7, 1), (7, 20), (7, 1_000), (100, 1)):
        monkeypatch.setattr(panel_query, "_LEAST_ROWS", least)
        stream = storage.candles.stream(KEY, *FOREVER, block_rows=rows, as_of=moment)
        blocks = [block async for block in stream]
        assert all(len(block) == rows for block in blocks[:-1])
        assert 0 < len(blocks[-1]) <= rows
        assert CandleSeries(KEY, list(chain.from_iterable(blocks))) == was
    # More rows of a time than are asked for at once.
    monkeypatch.setattr(panel_query, "_LEAST_ROWS", 1)
    ends = START + 20 * MINUTE, START + 22 * MINUTE
    few = storage.candles.stream(KEY, *ends, block_rows=1, as_of=moment)
    assert [c async for block in few for c in block] == list(was.slice(*ends))
    assert await storage.candles.get_range(KEY, *FOREVER, as_of=moment) == was
    panel = await storage.candles.get_panel(M1, *FOREVER, as_of=moment)
    assert panel == CandlePanel(M1, [was])


async def test_small_blocks_of_a_long_series_are_read_at_once(
    storage: Storage, asked: list[str]
) -> None:
    moment, was = await corrected(storage)
    asked.clear()
    blocks = storage.candles.stream_panels(M1, *FOREVER, block_rows=5, as_of=moment)
    assert [candle async for block in blocks for candle in block[KEY]] == list(was)
    assert len(asked) == 2, "rows as they lie, and former ones"


async def test_what_blocks_are_cut_from_is_looked_at_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, was = await corrected(storage)
    looked: list[Commit] = []
    look = StoredPurges.check

    async def spied(self: StoredPurges, commit: Commit, is_wanted: Any) -> None:
        looked.append(commit)
        await look(self, commit, is_wanted)

    monkeypatch.setattr(StoredPurges, "check", spied)
    for rows in (1, 5, 100):
        looked.clear()
        stream = storage.candles.stream(KEY, *FOREVER, block_rows=rows, as_of=moment)
        assert [candle async for block in stream for candle in block] == list(was)
        assert looked == [moment]


@pytest.mark.parametrize("fields", [None, ["close"]])
async def test_small_blocks_of_the_present_are_read_at_once(
    storage: Storage, asked: list[str], monkeypatch: pytest.MonkeyPatch, fields: list[str] | None
) -> None:
    await corrected(storage)
    closes = (await storage.candles.get_range(KEY, *FOREVER)).columns.close.tolist()
    monkeypatch.setattr(panel_query, "_LEAST_ROWS", 60)
    asked.clear()
    assert [c async for block in read_now(storage) for c in block.columns.close] == closes
    assert len(asked) == 2, "86 rows, 63 and the rest"
    asked.clear()
    panels = storage.candles.stream_panels(M1, *FOREVER, block_rows=7, fields=fields)
    assert [c async for block in panels for c in block.column("close")] == closes
    assert len(asked) == 2


async def read_now(storage: Storage) -> AsyncIterator[CandleSeries]:
    async for block in storage.candles.stream(KEY, *FOREVER, block_rows=7):
        assert 0 < len(block) <= 7
        yield block


async def test_small_blocks_of_many_series_are_read_at_once(
    storage: Storage, asked: list[str]
) -> None:
    keys = [SeriesKey(f"S{number}", M1, "KRX") for number in range(9)]
    whole = CandlePanel(M1, [make_candles(key, 10) for key in keys])
    moments = [await save(storage, series) for series in whole.values()]
    for key in keys[::2]:
        await save(storage, with_volume(whole[key][3:5], 7))
    asked.clear()
    blocks = await streamed(storage, 25, moments[-1])
    assert all(0 < block.rows <= 25 for block in blocks) and len(blocks) > 4
    assert CandlePanel(M1, chain.from_iterable(block.values() for block in blocks)) == whole
    assert len(asked) == 2, "rows as they lie, and former ones"


async def streamed(storage: Storage, rows: int, as_of: Commit) -> list[CandlePanel]:
    blocks = storage.candles.stream_panels(M1, *FOREVER, block_rows=rows, as_of=as_of)
    return [block async for block in blocks]


async def test_series_slightly_longer_than_a_block_are_read_together(
    storage: Storage, asked: list[str]
) -> None:
    series = [make_candles(SeriesKey(f"S{number}", M1, "KRX"), 10) for number in range(9)]
    moments = [await save(storage, each) for each in series]
    asked.clear()
    blocks = await streamed(storage, 8, moments[-1])
    assert [(*block, block.rows) for block in blocks] == [
        (each.key, rows) for each in series for rows in (8, 2)
    ]
    assert len(asked) == 2, "rows as they lie, and former ones"


@pytest.mark.parametrize("least", [1, 10, 65_536])
async def test_panels_have_former_rows_whose_successors_are_gone(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    monkeypatch.setattr(panel_query, "_LEAST_ROWS", least)
    series = [make_candles(SeriesKey(name, M1, "KRX"), 12) for name in "ABC"]
    moments = [await save(storage, each) for each in series]
    for each in series:
        await save(storage, with_volume(each, 7))
    # Another program deletes all rows of one series, and half of those of another.
    erase = "DELETE FROM candles WHERE symbol = 'A' OR symbol = 'B' AND timestamp >= %(time)s"
    time = (START + 6 * MINUTE).replace(tzinfo=None)
    storage.clickhouse.execute(erase, {"time": time})
    was = CandlePanel(M1, series)
    assert await storage.candles.get_panel(M1, *FOREVER, as_of=moments[-1]) == was
    for rows in (5, 12, 30, 100):
        blocks = await streamed(storage, rows, moments[-1])
        assert all(0 < block.rows <= rows for block in blocks)
        parts = {key: [block[key] for block in blocks if key in block] for key in was}
        assert all(len(each) == -(-12 // rows) for each in parts.values())
        found = (CandleSeries(key, list(chain(*each))) for key, each in parts.items())
        assert CandlePanel(M1, found) == was


async def test_former_rows_are_there_where_those_that_replaced_them_are_gone(
    storage: Storage,
) -> None:
    moment, was = await corrected(storage)
    storage.clickhouse.execute("SYSTEM START MERGES candles")  # a deletion is one
    query = "DELETE FROM candles WHERE timestamp < %(time)s"
    storage.clickhouse.execute(query, {"time": (START + 20 * MINUTE).replace(tzinfo=None)})
    assert await storage.candles.get_range(KEY, *FOREVER, as_of=moment) == was
    assert (await storage.candles.get_panel(M1, *FOREVER, as_of=moment))[KEY] == was
    blocks = storage.candles.stream(KEY, *FOREVER, block_rows=7, as_of=moment)
    assert [candle async for block in blocks for candle in block] == list(was)


@pytest.mark.slow
async def test_former_rows_alone_are_read_in_pieces_too(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, was = await corrected(storage)
    storage.clickhouse.execute("SYSTEM START MERGES candles")
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, *FOREVER)
        await uow.commit()
    for gone in (START + 40 * MINUTE, START + 90 * MINUTE):
        query = "DELETE FROM candles WHERE timestamp < %(time)s"
        storage.clickhouse.execute(query, {"time": gone.replace(tzinfo=None)})
        for least, rows in ((1, 1), (1, 7), (10, 4)):
            monkeypatch.setattr(panel_query, "_LEAST_ROWS", least)
            reader: Any = (await storage.as_of(moment)).candles
            at_once = panel_query.rows_at_once(rows)
            pieces = reader.read_pieces(KEY, checks.FIRST_MS, checks.LAST_MS, at_once)
            assert max([len(piece) async for piece in pieces]) <= at_once + 1
            blocks = storage.candles.stream(KEY, *FOREVER, block_rows=rows, as_of=moment)
            assert [candle async for block in blocks for candle in block] == list(was)
