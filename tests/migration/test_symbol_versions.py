"""Migration 0005: symbols are ordered by versions; what was the latest stays the latest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.errors import SchemaDrift
from jts_storage.migrate import clickhouse as migrations_module
from jts_storage.migrate.replacing import Replacement
from jts_storage.testing.factories import make_symbol
from tests.migration.conftest import cloned, fresh_name

ROWS = "SELECT code, name, market, is_active, toUnixTimestamp64Milli(updated_at) FROM symbols FINAL"
IN_ORDER = f"{ROWS} ORDER BY code"
INSERT = "INSERT INTO symbols (code, name, market, sector, is_active, updated_at) VALUES"


@pytest.fixture(scope="module")
def filled(engine_used: Callable[[str], None]) -> Iterator[ClickHouseManager]:
    """The table before the migration, of which each test gets a copy."""
    engine_used("chDB")
    with ClickHouseManager(embedded_path=":memory:", database=fresh_name("filled")) as manager:
        asyncio.run(migrate.up(migrate.Databases(manager), to="4"))
        yield manager
        manager.execute(f"DROP DATABASE {manager.config.database}")


@pytest.fixture
def earlier(filled: ClickHouseManager) -> Iterator[ClickHouseManager]:
    """A copy with rows of one code that no merge has put together."""
    with cloned(filled) as manager:
        insert(manager)
        yield manager


def insert(clickhouse: ClickHouseManager) -> None:
    clickhouse.execute("SYSTEM STOP MERGES symbols")
    for code, name, updated_at in (
        ("A", "earlier", "now64(3) + INTERVAL 1 HOUR"),
        ("A", "a day ahead", "now64(3) + INTERVAL 1 DAY"),
        ("A", "written last", "now64(3)"),
        ("B", "first of equals", "'2025-01-01 00:00:00.123'"),
        ("B", "last of equals", "'2025-01-01 00:00:00.123'"),
        ("C", "earlier", "'1950-01-01 00:00:00.001'"),
        ("C", "before 1970", "'1960-01-01 00:00:00.002'"),
    ):
        clickhouse.execute(f"{INSERT} ('{code}', '{name}', 'ETF', '', 1, {updated_at})")


async def test_the_latest_by_the_old_rule_stays_the_latest_up_and_down(
    earlier: ClickHouseManager,
) -> None:
    databases = migrate.Databases(earlier)
    before = earlier.execute(IN_ORDER)
    assert [name for _, name, *_ in before] == ["a day ahead", "last of equals", "before 1970"]
    await migrate.up(databases)
    assert earlier.execute(IN_ORDER) == before
    assert await migrate.check(databases) == []
    await migrate.down(databases, to="4")
    assert earlier.execute(IN_ORDER) == before
    await migrate.up(databases)
    assert earlier.execute(IN_ORDER) == before


@pytest.mark.slow
async def test_whatever_is_written_after_it_goes_before_what_was_taken_over(
    earlier: ClickHouseManager,
) -> None:
    await migrate.up(migrate.Databases(earlier))
    symbols = ClickHouseSymbolRepository(earlier)
    saved = await symbols.save(make_symbol("A", name="saved"))
    assert await symbols.get_by_code("A") == saved
    earlier.execute(f"{INSERT} ('B', 'from the web', 'ETF', '', 1, '2001-01-01 00:00:00')")
    found = await symbols.get_by_code("B")
    assert found is not None
    assert found.name == "from the web"


async def test_before_it_symbols_are_read_and_not_written(earlier: ClickHouseManager) -> None:
    symbols = ClickHouseSymbolRepository(earlier)
    found = await symbols.get_by_code("A")
    assert found is not None
    assert found.name == "a day ahead"
    with pytest.raises(SchemaDrift, match="migrate up"):
        await symbols.save(make_symbol("A"))
    await migrate.up(migrate.Databases(earlier))
    saved = await symbols.save(make_symbol("A"))
    assert await symbols.get_by_code("A") == saved, "the same repository, without a restart"


@pytest.mark.slow
@pytest.mark.parametrize("merged", [False, True])
async def test_what_is_written_until_the_exchange_is_taken_over(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch, merged: bool
) -> None:
    """A merge may leave as many rows as there were before the late write."""
    retire = Replacement._retire

    def late(self: Replacement) -> None:
        old = "symbols_new"
        values = "('B', 'late', 'ETF', '', 1, '2026-01-01 00:00:00')"
        earlier.execute(INSERT.replace("symbols", old) + values)
        if merged:
            earlier.execute(f"SYSTEM START MERGES {old}")
            earlier.execute(f"OPTIMIZE TABLE {old} FINAL")
            earlier.execute(f"SYSTEM STOP MERGES {old}")
            for second in range(7 - earlier.execute(f"SELECT count() FROM {old}")[0][0]):
                spare = f"('Z', 'late', 'ETF', '', 1, '2026-01-01 00:00:{second:02}')"
                earlier.execute(INSERT.replace("symbols", old) + spare)
            assert earlier.execute(f"SELECT count() FROM {old}") == [(7,)]
        # A save to the new table in the meantime is later than what is taken over.
        earlier.execute(f"{INSERT} ('A', 'saved', 'ETF', '', 1, '2001-01-01 00:00:00')")
        retire(self)

    monkeypatch.setattr(Replacement, "_retire", late)
    await migrate.up(migrate.Databases(earlier), to="5")
    names = {code: name for code, name, *_ in earlier.execute(IN_ORDER)}
    assert (names["A"], names["B"]) == ("saved", "late")


class Died(RuntimeError):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["5", "4"])
async def test_a_run_that_dies_after_any_statement_is_gone_on_with(
    earlier: ClickHouseManager, monkeypatch: pytest.MonkeyPatch, goal: str
) -> None:
    before = earlier.execute(IN_ORDER)
    databases = migrate.Databases(earlier)
    died = 0
    for last in range(100):
        await reach(databases, "4" if goal == "5" else "5")
        with monkeypatch.context() as patched:
            let_pass(last, patched)
            try:
                await reach(databases, goal)
            except Died:
                died += 1
            else:
                break
        assert earlier.execute(IN_ORDER) == before, f"{last} statements"
        await reach(databases, goal)
        assert earlier.execute(IN_ORDER) == before, f"gone on with after {last} statements"
        left = {name for (name,) in earlier.execute("SHOW TABLES LIKE 'symbols%'")}
        assert not {name for name in left if name.endswith(("_new", "_copied"))}
    assert died > 15


async def reach(databases: migrate.Databases, revision: str) -> None:
    await migrate.up(databases, to=revision)
    await migrate.down(databases, to=revision)


def let_pass(last: int, patched: pytest.MonkeyPatch) -> None:
    """Let so many statements pass and none after them, not even to free the lock."""
    make_sender, passed = migrations_module._sender, 0

    def sender(connection: Any) -> Any:
        send = make_sender(connection)

        def send_or_die(sql: str, **options: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed > last:
                raise Died
            return send(sql, **options)

        return send_or_die

    patched.setattr(migrations_module, "_sender", sender)
