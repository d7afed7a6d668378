"""Declared tables and records under one commit with the kit's own, whatever dies."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import event

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.errors import Conflict, InUse, InvalidData, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.models import Mapper
from jts_storage.ports import UnitOfWork
from jts_storage.testing.factories import make_formula, make_strategy, make_symbol
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work.participants import Stores
from tests.declared import (
    FILLS,
    MODELS,
    Balance,
    Fill,
    FillRecord,
    Fundamental,
    Order,
    OrderState,
    Tick,
    balance_from_row,
    balance_to_row,
    balances,
    fill_records,
    fills,
    fundamentals,
    orders,
    quotes,
    ticks,
)
from tests.integration.unit_of_work.interrupted import Crash, dying, orphan

NOON = datetime(2026, 3, 2, 3, tzinfo=UTC)
DAY = date(2026, 3, 2)


@pytest.fixture(autouse=True)
def _lands_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery waits for what a process has sent that lives on here, though its commit died."""
    monkeypatch.setattr("jts_storage.unit_of_work.clock.LANDING", timedelta(milliseconds=50))


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage(StoreBackend(settings, models=MODELS)) as storage:
        yield storage


@pytest.fixture(params=["stored", "in memory"])
async def any_storage(
    request: pytest.FixtureRequest, settings: StorageSettings
) -> AsyncIterator[Storage]:
    is_real = request.param == "stored"
    made = StoreBackend(settings, models=MODELS) if is_real else InMemoryBackend(models=MODELS)
    async with Storage(made) as storage:
        yield storage


def some_ticks(count: int = 3) -> list[Tick]:
    return [Tick("A", NOON + timedelta(seconds=n), Decimal(70_000) + n, n) for n in range(count)]


async def write_everything(uow: UnitOfWork) -> None:
    await uow.formulas.save(make_formula())
    await uow.symbols.save(make_symbol("A"))
    await uow.repository(ticks).append(some_ticks())
    await uow.repository(fundamentals).save(Fundamental("A", DAY, Decimal("1.5")))
    await uow.repository(balances).save(Balance("x", Decimal("10.01"), NOON))
    await uow.repository(orders).save(Order("A", Decimal("0.1")))


async def everything(storage: Storage) -> tuple[int, ...]:
    return (
        len(await storage.formulas.list()),
        len(await storage.symbols.list()),
        len(await storage.repository(ticks).list()),
        len(await storage.repository(fundamentals).list()),
        len(await storage.repository(balances).list()),
        len(await storage.repository(orders).list()),
    )


ALL = (1, 1, 3, 1, 1, 1)
NOTHING = (0, 0, 0, 0, 0, 0)


async def test_all_or_nothing(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await write_everything(uow)
        assert await everything(storage) == NOTHING
    assert await everything(storage) == NOTHING
    async with storage.unit_of_work() as uow:
        await write_everything(uow)
        await uow.commit()
    assert await everything(storage) == ALL


@pytest.mark.parametrize(
    ("point", "found"),
    [
        ("before the journal", NOTHING),
        ("chunks written", NOTHING),
        ("database ready", NOTHING),
        ("entry written", NOTHING),
        ("decided", ALL),
        ("database committed", ALL),
        ("series stored", ALL),
    ],
)
async def test_a_death_at_any_point_leaves_all_or_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, point: str, found: tuple[int, ...]
) -> None:
    async with storage.unit_of_work() as uow:
        await write_everything(uow)
        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(commit_points, "reached", dying(point))
            await uow.commit()
    await orphan(storage)
    await storage.recover()
    assert await everything(storage) == found
    await storage.recover()
    assert await everything(storage) == found


async def test_tables_with_what_may_be_missing_are_as_they_were_declared(
    settings: StorageSettings,
) -> None:
    strict = settings.model_copy(update={"check": "error"})
    for _ in range(2):  # made, and found there
        async with Storage(StoreBackend(strict, models=[*FILLS, quotes])) as storage:
            assert await storage.repository(fills).list() == []


async def test_what_is_missing_goes_through_the_journal(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service's fill that is not filled yet, finished by whoever finds the commit."""
    given = [Fill(1, NOON), Fill(2, NOON, NOON, NOON, Decimal("0.5"), 7, 0.5, True, "a")]
    async with Storage(StoreBackend(settings, models=FILLS)) as storage:
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            await uow.repository(fills).save_many(given)
            records = [FillRecord(**asdict(fill)) for fill in given]
            await uow.repository(fill_records).save_many(records)
            with monkeypatch.context() as patch, pytest.raises(Crash):
                patch.setattr(commit_points, "reached", dying("decided"))
                await uow.commit()
        await orphan(storage)
        await storage.recover()
        assert await storage.repository(fills).list() == given
        recovered = await storage.repository(fill_records).list()
        assert recovered == [replace(record, version=1) for record in records]
        async with storage.unit_of_work() as uow:
            await uow.repository(fills).save(replace(given[1], filled_at=None))
            await uow.repository(fill_records).save(replace(recovered[0], filled_at=NOON))
            await uow.repository(fills).delete(1)
            await uow.commit()
        assert await storage.repository(fills).list() == [replace(given[1], filled_at=None)]
        assert (await storage.repository(fill_records).list())[0].filled_at == NOON


async def test_recovery_that_dies_halfway_appends_nothing_twice(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        await write_everything(uow)
        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(commit_points, "reached", dying("series stored"))
            await uow.commit()
    await orphan(storage)
    stores = stores_of(storage)

    async def dies(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(stores.journal, "done", dies)
        await storage.recover()
    await orphan(storage)
    await storage.recover()
    assert await everything(storage) == ALL


async def test_a_paused_commit_takes_back_what_another_process_appended(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recoverer is done before the rows of the paused writer arrive."""
    stores = stores_of(storage)
    table = stores.declared("ticks")
    apply = table.apply
    overtaken = False

    async def overtake() -> None:
        await orphan(storage)
        await storage.recover()

    run = stores.clickhouse.run

    async def pausing(function, *args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal overtaken
        if function == table.apply and not overtaken:
            overtaken = True
            await overtake()
        return await run(function, *args, **kwargs)

    monkeypatch.setattr(stores.clickhouse, "run", pausing)
    assert apply is not None
    async with storage.unit_of_work() as uow:
        await write_everything(uow)
        await uow.commit()
    assert overtaken
    assert await everything(storage) == ALL


async def test_a_commit_waits_for_a_storage_that_knows_its_model(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Storage(StoreBackend(settings, models=MODELS)) as storage:
        async with storage.unit_of_work() as uow:
            await write_everything(uow)
            with monkeypatch.context() as patch, pytest.raises(Crash):
                patch.setattr(commit_points, "reached", dying("decided"))
                await uow.commit()
        await orphan(storage)
    async with Storage(StoreBackend(settings)) as storage:
        health = await storage.health()
        assert health.unfinished == 1
        assert health.unknown_models == ("balances", "fundamentals", "ticks")
        with pytest.raises(StorageError, match="no model"):
            await storage.recover()
    async with Storage(StoreBackend(settings, models=MODELS)) as storage:
        assert await everything(storage) == ALL
        assert (await storage.health()).unknown_models == ()


@pytest.mark.parametrize(
    ("column", "stored"),
    [("changed_at", "yesterday"), ("cash", "much"), ("cash", 1.5e-9), ("account", b"B")],
)
async def test_a_record_that_cannot_be_converted_hides_no_other(
    storage: Storage, caplog: pytest.LogCaptureFixture, column: str, stored: Any
) -> None:
    async with storage.unit_of_work() as uow:
        for account in "ABC":
            await uow.repository(balances).save(Balance(account, Decimal(1), NOON))
        await uow.commit()
    table, damage = storage.repository(balances), "UPDATE balances SET {} = ? WHERE {} = ?"
    async with storage.database.engine.begin() as connection:
        await connection.exec_driver_sql(damage.format(column, "account"), (stored, "B"))
    try:
        with caplog.at_level(logging.WARNING):
            assert [each.account for each in await table.list()] == ["A", "C"]
            assert [each.account for each in await table.list(descending=True)] == ["C", "A"]
            assert await table.read() == table._model.to_columns(await table.list())
            assert [block.num_rows async for block in table.stream()] == [2]
            assert (await table.read(columns=["version"], limit=2)).num_rows == 2
            assert [each.account for each in await table.list(limit=2)] == ["A", "C"]
        assert caplog.text.count("Left out of lists: balances cannot be read") == 1
        assert (await storage.health()).unreadable_records == 1
        with pytest.raises(InvalidData, match=r"balances .*B.* cannot be read"):
            await table.list(strict=True)
        with pytest.raises(InvalidData, match=r"balances .*B.* cannot be read"):
            await table.read(strict=True)
        with pytest.raises(InvalidData, match=r"balances .*B.* cannot be read"):
            [block async for block in table.stream(strict=True)]
        if column != "account":
            with pytest.raises(InvalidData, match="balances B cannot be read"):
                await table.get("B")
        async with storage.unit_of_work() as uow:
            await uow.repository(balances).delete("A")
            assert [each.account for each in await uow.repository(balances).list()] == ["C"]
    finally:
        async with storage.database.engine.begin() as connection:
            await connection.exec_driver_sql("DELETE FROM balances")


@pytest.mark.parametrize("model", [ticks, fundamentals])
async def test_a_row_of_bytes_that_are_no_text_hides_no_other(
    storage: Storage, caplog: pytest.LogCaptureFixture, model: Any
) -> None:
    clickhouse, table = storage.clickhouse, storage.repository(model)
    clickhouse.execute(f"TRUNCATE TABLE {model.name}")
    rows = model.to_columns([replace(model.examples[0], symbol=each) for each in "ACD"])
    async with storage.unit_of_work() as uow:
        repository = uow.repository(model)
        if model is ticks:
            await repository.append(rows)
        else:
            await repository.save_many(model.from_columns(rows))
        await uow.commit()
    names = ", ".join(f"`{each.name}`" for each in model.table.columns if each.name != "symbol")
    clickhouse.execute(
        f"INSERT INTO {model.name} (symbol, {names})"
        f" SELECT unhex('42FF'), {names} FROM {model.name} WHERE symbol = 'A'"
    )
    try:
        with caplog.at_level(logging.WARNING):
            assert await table.read() == rows
        assert caplog.text.count(f"Left out of lists: {model.name} cannot be read") == 1
        assert (await storage.health()).unreadable_rows == 1
        assert await table.list() == model.from_columns(rows)
        assert await table.list(limit=2) == model.from_columns(rows)[:2]
        assert await table.read(limit=2) == rows.slice(0, 2)
        assert pa.concat_tables([block async for block in table.stream(block_rows=1)]) == rows
        named = next(each for each in model.schema.names if each != "symbol")
        assert (await table.read(columns=[named])).num_rows == 4, "nothing asks for the text"
        for reading in (table.read, table.list):
            with pytest.raises(InvalidData, match=rf"{model.name} .*symbol.*string") as raised:
                await reading(strict=True)
            assert "Mend the stored value" in str(raised.value)
        with pytest.raises(InvalidData, match=rf"{model.name} .*symbol.*string"):
            [block async for block in table.stream(strict=True)]
        clickhouse.execute(
            f"ALTER TABLE {model.name} DELETE WHERE symbol = unhex('42FF')",
            settings={"mutations_sync": 2},
        )
        assert await table.read(strict=True) == rows
    finally:
        clickhouse.execute(f"TRUNCATE TABLE {model.name}")


async def test_a_page_is_not_shorter_for_rows_that_are_no_entities(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage.unit_of_work() as uow:
        for account in "ABCD":
            await uow.repository(balances).save(Balance(account, Decimal(1), NOON))
        await uow.commit()

    def read(row: Any) -> Balance:
        if row["account"] in "AB":
            raise ValueError("no balance")
        return balance_from_row(row)

    monkeypatch.setattr(balances, "mapper", Mapper(balance_to_row, read))
    table = storage.repository(balances)
    assert [each.account for each in await table.list(limit=1)] == ["C"]
    assert [each.account for each in await table.list(limit=2)] == ["C", "D"]
    async with storage.database.engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM balances")


async def test_records_in_sqlite_are_read_by_its_driver(storage: Storage) -> None:
    """SQLAlchemy's own execution takes a dozen turns of the driver's thread for each read."""
    saved = [Balance(account, Decimal("1.5"), NOON, 1) for account in "ABC"]
    async with storage.unit_of_work() as uow:
        await uow.repository(balances).save_many([replace(each, version=0) for each in saved])
        await uow.commit()
    table, executed = storage.repository(balances), list[str]()
    engine = storage.database.engine.sync_engine

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        executed.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        assert await table.get("B") == saved[1] and await table.get("X") is None
        assert await table.list() == saved
        assert await table.list(limit=1, descending=True) == saved[2:]
        assert await table.list(where=lambda c: c.changed_at == NOON, after="A") == saved[1:]
        assert (await table.read(columns=["cash"], limit=2)).to_pydict() == {
            "cash": [Decimal("1.5000")] * 2
        }
        assert executed == []
        found = await table.list(where=lambda c: c.account.in_(["A", "C"]))
        assert found == [saved[0], saved[2]] and executed, "its SQL depends on how many they are"
    finally:
        event.remove(engine, "before_cursor_execute", note)
        async with storage.database.engine.begin() as connection:
            await connection.exec_driver_sql("DELETE FROM balances")


async def test_a_record_that_was_mended_is_counted_no_longer(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(balances).save(Balance("A", Decimal(1), NOON))
        await uow.commit()
    for at, count in (("soon", 1), ("2026-03-02 03:00:00.000000", 0)):
        async with storage.database.engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE balances SET changed_at = ?", (at,))
        await storage.repository(balances).list()
        assert (await storage.health()).unreadable_records == count
    async with storage.database.engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM balances")


async def test_two_commits_of_one_record_conflict(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(balances).save(Balance("x", Decimal(1), NOON))
        await uow.commit()
    async with storage.unit_of_work() as first, storage.unit_of_work() as second:
        for uow, cash in ((first, 2), (second, 3)):
            found = await uow.repository(balances).get("x")
            assert found is not None
            await uow.repository(balances).save(
                Balance("x", Decimal(cash), NOON, version=found.version)
            )
        await first.commit()
        with pytest.raises(Conflict, match="balances x"):
            await second.commit()
    found = await storage.repository(balances).get("x")
    assert found == Balance("x", Decimal(2), NOON, version=2)


async def test_what_came_after_the_first_read_is_not_deleted(any_storage: Storage) -> None:
    storage = any_storage
    async with storage.unit_of_work() as uow:
        await uow.repository(balances).save(Balance("x", Decimal(1), NOON))
        await uow.commit()
    async with storage.unit_of_work() as uow:
        assert await uow.repository(balances).list() == [Balance("x", Decimal(1), NOON, 1)]
        async with storage.unit_of_work() as other:
            await other.repository(balances).save(Balance("x", Decimal(2), NOON, 1))
            await other.commit()
        await uow.repository(balances).delete("x")
        with pytest.raises(Conflict):
            await uow.commit()
    assert await storage.repository(balances).get("x") == Balance("x", Decimal(2), NOON, 2)


async def test_a_record_made_anew_under_the_same_version_is_another(any_storage: Storage) -> None:
    storage = any_storage

    async def write(*entities: Balance | None) -> None:
        for entity in entities:
            async with storage.unit_of_work() as uow:
                if entity is None:
                    await uow.repository(balances).delete("x")
                else:
                    await uow.repository(balances).save(entity)
                await uow.commit()

    await write(Balance("x", Decimal(1), NOON))
    async with storage.unit_of_work() as uow:
        found = await uow.repository(balances).get("x")
        assert found is not None
        await uow.repository(balances).save(Balance("x", Decimal(5), NOON, found.version))
        await write(None, Balance("x", Decimal(2), NOON))
        with pytest.raises(Conflict):
            await uow.commit()
    assert await storage.repository(balances).get("x") == Balance("x", Decimal(2), NOON, 1)


async def test_a_million_rows_are_appended_once_in_pieces(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jts_storage.clickhouse import declared

    monkeypatch.setattr(declared, "WRITE_ROWS", 10)
    async with storage.unit_of_work() as uow:
        await uow.repository(ticks).append(some_ticks(35))
        await uow.formulas.save(make_formula())
        await uow.commit()
    found = await storage.repository(ticks).list()
    assert found == some_ticks(35)


async def test_an_unknown_model_is_refused(settings: StorageSettings) -> None:
    async with Storage(StoreBackend(settings)) as storage:
        with pytest.raises(StorageError, match="does not know the model 'ticks'"):
            storage.repository(ticks)
        async with storage.unit_of_work() as uow:
            with pytest.raises(StorageError, match="does not know the model 'ticks'"):
                uow.repository(ticks)


async def test_a_strategy_that_an_order_refers_to_is_not_deleted(any_storage: Storage) -> None:
    storage = any_storage
    async with storage.unit_of_work() as uow:
        strategy = await uow.strategies.save(make_strategy())
        assert strategy.id is not None
        order = await uow.repository(orders).save(Order("A", Decimal(1), strategy_id=strategy.id))
        await uow.commit()
    async with storage.unit_of_work() as uow:
        with pytest.raises(InUse, match=f"used by {order.id}.*Change those orders first"):
            await uow.strategies.delete(strategy.id)
    async with storage.unit_of_work() as uow:
        assert order.id is not None
        await uow.repository(orders).delete(order.id)
        assert await uow.strategies.delete(strategy.id)
        await uow.commit()
    assert await storage.strategies.list() == []


async def test_of_a_use_and_a_deletion_at_once_one_wins(any_storage: Storage) -> None:
    storage = any_storage
    async with storage.unit_of_work() as uow:
        strategy = await uow.strategies.save(make_strategy())
        await uow.commit()
    assert strategy.id is not None
    async with storage.unit_of_work() as user, storage.unit_of_work() as remover:
        order = Order("A", Decimal(1), strategy_id=strategy.id)
        await user.repository(orders).save(order)
        conflicts = 0
        try:
            await remover.strategies.delete(strategy.id)
        except Conflict:
            conflicts += 1
        await user.commit()
        try:
            await remover.commit()
        except Conflict:
            conflicts += 1
    assert conflicts
    assert len(await storage.repository(orders).list()) == len(await storage.strategies.list())


async def test_a_service_asks_its_own_questions(any_storage: Storage) -> None:
    storage = any_storage
    async with storage.unit_of_work() as uow:
        mine = uow.repository(orders)
        await mine.save_many(
            [
                Order("A", Decimal(1)),
                Order("A", Decimal(2), OrderState.FILLED),
                Order("B", Decimal("3.5")),
            ]
        )
        assert [order.quantity for order in await mine.open_ones("A")] == [Decimal(1)]
        await uow.repository(fundamentals).save_many(
            Fundamental("A", date(2026, month, 1), Decimal(month)) for month in (1, 4, 7)
        )
        known = await uow.repository(fundamentals).as_of("A", date(2026, 5, 1))
        assert known == Fundamental("A", date(2026, 4, 1), Decimal(4))
        await uow.repository(ticks).append(some_ticks())
        await uow.commit()
    assert [o.quantity for o in await storage.repository(orders).open_ones("A")] == [Decimal(1)]
    large = await storage.repository(orders).list(where=lambda order: order.quantity >= Decimal(2))
    assert sorted(order.quantity for order in large) == [Decimal(2), Decimal("3.5")]
    known = await storage.repository(fundamentals).as_of("A", date(2026, 5, 1))
    assert known == Fundamental("A", date(2026, 4, 1), Decimal(4))
    assert await storage.repository(fundamentals).as_of("A", date(2025, 5, 1)) is None
    above = await storage.repository(ticks).above(Decimal(70_001))
    assert above == some_ticks()[2:]


def stores_of(storage: Storage) -> Stores:
    stores: Stores = storage._backend.stores  # type: ignore[attr-defined]
    return stores
