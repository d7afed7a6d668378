"""Symbols in one order, whoever writes them, and whatever clocks say."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.clickhouse.symbol_statements import FURTHEST_AHEAD
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.errors import InvalidData
from jts_storage.testing.factories import make_formula, make_symbol
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.entries import ENTRIES
from tests.integration.unit_of_work.interrupted import abandon, losing_its_place, orphan


async def test_a_symbol_staged_early_and_committed_last_is_stored(storage: Storage) -> None:
    async with storage.unit_of_work() as early:
        await early.symbols.save(make_symbol("005930", name="early"))
        await early.formulas.save(make_formula())
        await asyncio.sleep(0.005)
        async with storage.unit_of_work() as late:
            await late.symbols.save(make_symbol("005930", name="late"))
            await late.commit()
        await early.commit()
    found = await storage.symbols.get_by_code("005930")
    assert found is not None
    assert found.name == "early"


async def test_a_symbol_that_a_clock_ahead_wrote_is_replaced(storage: Storage) -> None:
    ahead = f"{datetime.now(UTC) + timedelta(hours=9):%Y-%m-%d %H:%M:%S}"
    storage.clickhouse.execute(
        "INSERT INTO symbols (code, name, market, sector, is_active, updated_at, version) VALUES"
        f" ('005930', 'theirs', 'KOSPI', '', 1, '{ahead}', {time.time_ns() + 9 * 3_600 * 10**9})"
    )
    for is_journalled in (False, True):
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("005930", name=f"ours {is_journalled}"))
            if is_journalled:
                await uow.formulas.save(make_formula())
            await uow.commit()
        found = await storage.symbols.get_by_code("005930")
        assert found is not None
        assert found.name == f"ours {is_journalled}"


async def insert_symbol(
    storage: Storage, code: str, version: int | None = None, *, second: int = 0
) -> None:
    """Store a symbol as another program may, once for each second of `updated_at`."""
    columns, values = ("", "") if version is None else (", version", f", {version}")
    storage.clickhouse.execute(
        f"INSERT INTO symbols (code, name, market, sector, is_active, updated_at{columns}) VALUES"
        f" ('{code}', 'theirs', 'KOSPI', '', 1, '2024-01-01 00:00:{second:02}'{values})"
    )


@pytest.mark.parametrize("version", [2**64 - 1, 2**63 - 3, 2**63 + 5])
async def test_a_symbol_of_a_version_that_nothing_is_above_is_in_nobodys_way(
    storage: Storage, settings: StorageSettings, version: int
) -> None:
    await insert_symbol(storage, "WRONG", version)

    async def save(code: str, *, is_journalled: bool) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol(code, name="ours"))
            if is_journalled:
                await uow.formulas.save(make_formula())
            await uow.commit()

    for is_journalled in (False, True):
        with pytest.raises(InvalidData, match=rf"'WRONG' \(version {version}\).*Remove them"):
            await save("WRONG", is_journalled=is_journalled)
        await save(f"OTHER{is_journalled}", is_journalled=is_journalled)
    with pytest.raises(InvalidData, match=f"version >= {version}"):
        await ClickHouseSymbolRepository(storage.clickhouse).save(make_symbol("WRONG"))
    await storage.recover()
    async with Storage(StoreBackend(settings)) as other:
        names = {symbol.code: symbol.name for symbol in await other.symbols.list()}
    assert names == {"WRONG": "theirs", "OTHERFalse": "ours", "OTHERTrue": "ours"}
    storage.clickhouse.execute(
        f"ALTER TABLE symbols DELETE WHERE version >= {version}",
        settings={"mutations_sync": 1},
    )
    await save("WRONG", is_journalled=True)
    found = await storage.symbols.get_by_code("WRONG")
    assert found is not None and found.name == "ours"


async def test_a_symbol_of_the_highest_version_that_counts_is_replaced(storage: Storage) -> None:
    await insert_symbol(storage, "FAR", time.time_ns() + FURTHEST_AHEAD)
    for name in ("first", "second", "third"):
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("FAR", name=name))
            await uow.commit()
        found = await storage.symbols.get_by_code("FAR")
        assert found is not None and found.name == name


@pytest.mark.parametrize("how", ["alone", "journalled", "recovered"])
async def test_a_symbol_that_the_web_application_writes_is_seen_though_the_clock_is_ahead(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It names no version, so its row gets ClickHouse's time, which need not be MongoDB's."""
    ahead = time.time_ns() + 9 * 3_600 * 10**9
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"value": ahead}})

    async def save(name: str) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("005930", name=name))
            if how == "alone":
                await uow.commit()
                return
            await uow.formulas.save(make_formula())
            if how == "journalled":
                await uow.commit()
            else:
                await abandon(storage, monkeypatch, uow)
                await storage.recover()

    async def seen() -> str:
        found = await storage.symbols.get_by_code("005930")
        assert found is not None
        return found.name

    server_now = "SELECT toUnixTimestamp64Nano(now64(9)), max(version) FROM symbols"
    [(began, _)] = storage.clickhouse.execute(server_now)
    for turn in range(3):
        await save(f"ours {turn}")
        [(now, version)] = storage.clickhouse.execute(server_now)
        assert began <= version <= now
        assert await seen() == f"ours {turn}"
        await insert_symbol(storage, "005930", second=turn)
        assert await seen() == "theirs", turn
    await ClickHouseSymbolRepository(storage.clickhouse).save(make_symbol("005930", name="direct"))
    assert await seen() == "direct"
    await save("ours again")
    assert await seen() == "ours again"


async def test_symbols_of_commits_side_by_side_keep_the_order_of_the_clock(
    storage: Storage,
) -> None:
    """Also where ClickHouse told both the same time."""
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    places = []
    for above in (10**18, 10**18, 10**17, None, 10**18 + 5):
        async with clock.place(symbols_above=above) as place:
            places.append((place.version, place.symbols_version))
    versions = [version for _, version in places if version is not None]
    assert versions == sorted(set(versions))
    assert [version is None for _, version in places] == [False, False, False, True, False]


async def test_an_entry_of_a_release_without_versions_of_symbols_is_recovered(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("005930", name="long before"))
        await uow.commit()
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("005930", name="before the upgrade"))
        await uow.formulas.save(make_formula())
        await abandon(storage, monkeypatch, uow)
    await storage.mongo.db[ENTRIES].update_many({}, {"$unset": {"symbolsVersion": 1}})
    assert await storage.recover() == 1
    found = await storage.symbols.get_by_code("005930")
    assert found is not None and found.name == "before the upgrade"
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("005930", name="after it"))
        await uow.commit()
    found = await storage.symbols.get_by_code("005930")
    assert found is not None and found.name == "after it"


async def test_a_symbol_whose_writer_lost_its_place_undoes_nothing_that_came_after(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def save(name: str) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("S", name=name))
            await uow.commit()

    async with losing_its_place(storage, monkeypatch, save("before")) as writing:
        await save("after")
    await writing  # nobody deletes symbols, so it is stored, whoever waited
    found = await storage.symbols.get_by_code("S")
    assert found is not None
    assert found.name == "after"


@pytest.mark.parametrize("what", ["an earlier release's entry", "no number", "no clock"])
async def test_symbols_are_counted_above_those_that_are_decided(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    entries, clock = storage.mongo.db[ENTRIES], storage.mongo.db[CLOCK]
    hour = 3_600 * 10**9
    await insert_symbol(storage, "AHEAD", time.time_ns() + 24 * hour)
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("S", name="decided"))
        await uow.formulas.save(make_formula())
        await abandon(storage, monkeypatch, uow)
    if what == "no clock":
        await clock.delete_many({})
    else:
        await clock.update_one({}, {"$unset": {"symbols": 1}})
    if what == "an earlier release's entry":
        later = {"$unset": {"symbolsVersion": 1}, "$inc": {"version": 48 * hour}}
        await entries.update_many({}, later)
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(make_symbol("S", name="acknowledged later"))
        await uow.commit()
    await orphan(storage)
    assert await storage.recover() == 1
    found = await storage.symbols.get_by_code("S")
    assert found is not None
    assert found.name == "acknowledged later"
