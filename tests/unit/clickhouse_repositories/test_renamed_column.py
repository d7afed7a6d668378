"""A column renamed in a copy of the tables is renamed in every statement that runs.

What is asked and stored goes to an engine whose tables know the new names alone: a statement that
still says an old one is refused there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.clickhouse.tables import Tables
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.errors import SchemaDrift
from jts_storage.testing.factories import START, make_candles, make_symbol

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
MANY = [SeriesKey(f"S{n:02}", Timeframe.M1, "KRX") for n in range(12)]
DECLARED = tables.build()
COLUMNS = [
    key
    for table in (DECLARED.candles, DECLARED.symbols, DECLARED.history)
    for key in table.c.keys()  # noqa: SIM118
]
TABLES = ("candles", "symbols", "candles_history")
ROWS = 60_000  # enough for a data frame to be written, and for the cache to hold what was read


def renamed(*keys: str) -> Tables:
    """The tables, those columns called ``..._renamed``; the code goes on to use their keys."""
    copied = tables.build.__wrapped__()
    for table in (copied.candles, copied.symbols, copied.history):
        for column in table.c:
            if column.key in keys:
                column.name = f"{column.key}_renamed"
    return copied


@pytest.fixture(scope="module")
def manager(engine_used: Callable[[str], None]) -> Iterator[ClickHouseManager]:
    with ClickHouseManager(embedded_path=":memory:", database="renamed") as manager:
        [(version,)] = manager.execute("SELECT version()")
        engine_used(f"chDB {version}")
        yield manager


@pytest.fixture
def stores(manager: ClickHouseManager) -> Iterator[Callable[..., Stores]]:
    def make(*keys: str) -> Stores:
        declared = renamed(*keys)
        declared.metadata.create_all(manager.engine)
        return Stores(manager, declared)

    yield make
    for table in TABLES:
        manager.execute(f"DROP TABLE IF EXISTS {table} SYNC")


class Stores:
    """The repositories over the same tables."""

    def __init__(self, manager: ClickHouseManager, declared: Tables) -> None:
        self.manager = manager
        self.candles = ClickHouseCandleRepository(manager, tables=declared)
        self.symbols = ClickHouseSymbolRepository(manager, tables=declared)

    async def answers(self, folder: Path) -> dict[str, Any]:
        """What the repositories answer, each of their methods called."""
        written = await self._write(folder)
        return written | await self._read()

    async def _write(self, folder: Path) -> dict[str, Any]:
        candles = self.candles
        series = make_candles(KEY, ROWS)
        found: dict[str, Any] = {
            "saved": await candles.save_many(KEY, series),
            "saved again": await candles.save_many(KEY, series[:10], detail=True),
        }
        before = candles.latest_version()
        changed = make_candles(KEY, 10, seed=7)
        await candles.save_many(KEY, changed)
        past = candles.as_of(before)
        found |= {
            "as it was": await past.get_range(KEY, *ALWAYS),
            "market as it was": await past.get_panel(Timeframe.M1, *ALWAYS),
            "latest as it was": await past.get_latest(KEY, ROWS),
            "blocks as it was": [b async for b in past.stream(KEY, *ALWAYS, block_rows=40_000)],
            "facts as it was": (
                await past.count(KEY),
                await past.get_coverage(KEY),
                await past.coverage_by_day(KEY),
                await past.list_keys(),
            ),
        }
        assert found["as it was"] == found["latest as it was"] == series
        candles.write(series[:10], candles.latest_version(), again=True)
        for n, key in enumerate(MANY):
            await candles.save_many(key, make_candles(key, 5, seed=n))
        found["deleted"] = await candles.delete_range(KEY, START, START + timedelta(minutes=4))
        await candles.delete_range(MANY[0], *ALWAYS)
        imported = make_candles(MANY[1], 7, seed=99)
        pq.write_table(imported.to_arrow(), folder / "imported.parquet")
        found["imported"] = await candles.import_parquet(MANY[1], [folder / "imported.parquet"])
        await self.symbols.save_many([make_symbol(f"{n:06}", name=f"N{n}") for n in range(9)])
        await self.symbols.save(make_symbol("000003", name="Changed", is_active=False))
        assert self.symbols.latest_version() > 0
        return found

    async def _read(self) -> dict[str, Any]:
        return await self.read_candles() | {
            "code": _said([await self.symbols.get_by_code("000003")]),
            "market": _said(await self.symbols.get_by_market(Market.KOSPI, after="000002")),
            "active": _said(await self.symbols.get_all_active(limit=3)),
            "search": _said(await self.symbols.search("n7")),
            "list": _said(await self.symbols.list(after="000004")),
        }

    async def read_candles(self) -> dict[str, Any]:
        candles = self.candles
        day = timedelta(days=1)
        found: dict[str, Any] = {
            "range": await candles.get_range(KEY, *ALWAYS),
            "held": await candles.get_range(KEY, *ALWAYS),
            "ranges": await candles.get_ranges(MANY, *ALWAYS),
            "latest": await candles.get_latest(KEY, 3),
            "coverage": await candles.get_coverage(KEY),
            "days": await candles.coverage_by_day(KEY, timezone="Asia/Seoul"),
            "count": await candles.count(KEY),
            "count of a day": await candles.count(KEY, START, START + day),
            "blocks": [b async for b in candles.stream(KEY, *ALWAYS, block_rows=40_000)],
            "keys": await candles.list_keys(limit=5),
        }
        for coarser in (Timeframe.H1, Timeframe.D1, Timeframe.W1, Timeframe.MN1):
            found[f"to {coarser}"] = await candles.resample(KEY, coarser, *ALWAYS)
        return found


def _said(symbols: Sequence[Any]) -> list[Any]:
    return [(s.code, s.name, s.market, s.sector, s.is_active) for s in symbols]


async def test_every_statement_follows(
    stores: Callable[..., Stores], manager: ClickHouseManager, tmp_path: Path
) -> None:
    as_declared = await stores().answers(tmp_path)
    for table in TABLES:
        manager.execute(f"DROP TABLE {table} SYNC")
    assert await stores(*COLUMNS).answers(tmp_path) == as_declared
    names = manager.execute("SELECT name FROM system.columns WHERE database = 'renamed'")
    assert {name for (name,) in names} == {f"{key}_renamed" for key in COLUMNS}


async def test_a_table_of_the_original_schema_is_read_by_the_declared_names(
    stores: Callable[..., Stores], manager: ClickHouseManager, tmp_path: Path
) -> None:
    answers: list[dict[str, Any]] = []
    for names in ([], COLUMNS):
        given = stores(*names)
        await given.answers(tmp_path)
        kept = [
            c for c in given.candles._candles.c if c.key not in {"version", "is_deleted", "since"}
        ]
        listed = ", ".join(column.name for column in kept)
        manager.execute(
            f"CREATE TABLE plain ENGINE = MergeTree ORDER BY {kept[0].name}"
            f" AS SELECT {listed} FROM candles FINAL"
        )
        manager.execute("EXCHANGE TABLES plain AND candles")
        original = Stores(manager, renamed(*names))
        answers.append(await original.read_candles())
        with pytest.raises(SchemaDrift):
            original.candles.check_writable()
        for table in ("plain", *TABLES):
            manager.execute(f"DROP TABLE {table} SYNC")
    assert answers[1] == answers[0]


@pytest.mark.parametrize("key", ["timestamp", "version", "updated_at"])
async def test_the_old_name_is_refused(stores: Callable[..., Stores], key: str) -> None:
    """The test above would notice a statement that does not follow."""
    stores(key)
    by_the_old_name = Stores(stores(key).manager, DECLARED)
    asked: Awaitable[Any] = (
        by_the_old_name.symbols.list()
        if key == "updated_at"
        else by_the_old_name.candles.get_latest(KEY)
    )
    with pytest.raises(SchemaDrift, match=key):
        await asked
