"""A service's own migrations beside the kit's: recorded apart, in one order, by one command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import InvalidConfiguration, SchemaDrift
from jts_storage.migrate import files
from jts_storage.migrate.declared import create_missing
from jts_storage.migrate.plan import Goal
from jts_storage.models import Models
from jts_storage.mongo import MongoDBManager
from jts_storage.relational.manager import DatabaseManager
from tests.declared import balances, ticks
from tests.migration.conftest import quiet
from tests.migration.service import FIRST, MODELS, Service, kits, names_in, only, states, told

# ---- one order


async def test_the_kits_migrations_come_first_up_and_last_down(
    both: migrate.Databases, service: Service
) -> None:
    service.grow()
    assert {line.state for line in await migrate.status(both)} == {"pending"}
    seen: list[str] = []
    taken = await migrate.up(both, report=lambda event: seen.append(migrate.describe(event)))
    for store in files.STORES:
        assert told(taken, store) == [*kits(store), "service 0001", "service 0002"]
    assert "mongo kit up 0001 jts collections ..." in seen
    assert "mongo service up 0002 grown ..." in seen
    assert {line.state for line in await migrate.status(both)} == {"applied"}
    assert await migrate.up(both) == []

    back = await migrate.down(both, report=quiet)
    again = await migrate.down(both, report=quiet)
    third = await migrate.planned(both, Goal("down"))
    for store in files.STORES:
        assert told(back, store) == ["service 0002"]
        assert told(again, store) == ["service 0001"]
        assert told(third, store) == kits(store)[-1:]

    await migrate.up(both, report=quiet)
    every = await migrate.down(both, to="base", report=quiet)
    for store in files.STORES:
        assert told(every, store) == ["service 0002", "service 0001", *reversed(kits(store))]


async def test_a_step_down_leaves_the_kit_alone_while_the_service_has_any(
    both: migrate.Databases, service: Service
) -> None:
    """Also in stores for which the service has none: a step back is of what came last."""
    shutil.rmtree(service.folder / "mongo")
    shutil.rmtree(service.folder / "relational")
    await migrate.up(both, report=quiet)
    planned = await migrate.planned(both, Goal("down"))
    back = await migrate.down(both, report=quiet)
    assert planned == back
    assert [str(step) for step in back] == ["clickhouse service down 0001 made"]
    assert await migrate.down(both, chain="service", report=quiet) == []
    then = await migrate.down(both, report=quiet)
    assert [told(then, store) for store in files.STORES] == [
        kits(store)[-1:] for store in files.STORES
    ]


async def test_declared_models_agree_with_what_the_service_migrated(
    both: migrate.Databases, service: Service
) -> None:
    await migrate.up(both, report=quiet)
    assert await migrate.check(both) == []
    assert await migrate.check_static(both) == []
    service.grow()
    found = await migrate.check(both)
    assert [(each.where, each.actual) for each in found] == [
        ("service migration 0002 grown", "pending")
    ] * 3
    assert {each.remedy for each in found} == {
        f"jts-storage migrate up --store {store}" for store in files.STORES
    }
    await migrate.up(both, report=quiet)
    surplus = sorted(each.where for each in await migrate.check(both))
    assert surplus == ["balances.note", "orders.orders_state", "ticks.venue"]


async def test_sql_databases_are_led_alike(database: DatabaseManager, service: Service) -> None:
    service.grow()
    databases = migrate.Databases(database=database, service=service.folder)
    taken = await migrate.up(databases, report=quiet)
    assert told(taken, "relational") == [*kits("relational"), "service 0001", "service 0002"]
    await migrate.down(databases, to="1", chain="service", report=quiet)
    assert await migrate.check(migrate.Databases(database=database, models=Models([balances]))) == (
        []
    )
    await migrate.down(databases, to="base", report=quiet)
    await migrate.up(databases, report=quiet)


async def test_the_phase_before_new_code_has_both_chains(
    sqlite: DatabaseManager, service: Service, tmp_path: Path
) -> None:
    folder = tmp_path / "kit"
    shutil.copytree(files.root(), folder)
    migrate.new("relational", "drop what was", phase="post", folder=folder)
    migrate.new("relational", "later", phase="post", folder=service.folder)
    databases = migrate.Databases(database=sqlite, folder=folder, service=service.folder)
    before = await migrate.up(databases, phase="pre", report=quiet)
    assert told(before, "relational") == [*kits("relational"), "service 0001"]
    after = await migrate.planned(databases, Goal())
    assert told(after, "relational") == ["kit 0003", "service 0002"]


async def test_the_service_goes_before_new_code_while_the_kit_waits_for_it(
    sqlite: DatabaseManager, service: Service, tmp_path: Path
) -> None:
    """Of the kit only what comes after the new code is pending."""
    folder = tmp_path / "kit"
    shutil.copytree(files.root(), folder)
    migrate.new("relational", "drop what was", phase="post", folder=folder)
    databases = migrate.Databases(database=sqlite, folder=folder, service=service.folder)
    with pytest.raises(InvalidConfiguration, match="0001 of relational is pending"):
        await migrate.up(databases, phase="pre", chain="service", report=quiet)
    await migrate.up(databases, phase="pre", chain="kit", report=quiet)
    taken = await migrate.up(databases, phase="pre", chain="service", report=quiet)
    assert told(taken, "relational") == ["service 0001"]
    service.grow()
    with pytest.raises(InvalidConfiguration, match="0003 of relational is pending"):
        await migrate.up(databases, chain="service", report=quiet)


# ---- records of their own


async def test_a_database_of_before_stays_valid_and_gets_the_service_later(
    databases: migrate.Databases, both: migrate.Databases
) -> None:
    await migrate.up(databases, report=quiet)
    before = await names_in(databases)
    assert not any(name.endswith("_service") for name in before)
    assert {line.state for line in await migrate.status(both, "kit")} == {"applied"}
    taken = await migrate.up(both, report=quiet)
    assert {step.migration.chain.name for step in taken} == {"service"}
    assert await names_in(databases) - before == {
        "ticks",
        "orders",
        "balances",
        "jts_schema_version_service",
        "jts_schema_log_service",
    }
    assert await migrate.check(databases) == []
    assert await migrate.up(databases) == []


@pytest.mark.parametrize("kit_first", [True, False])
async def test_the_kit_and_the_service_grow_in_either_order(
    both: migrate.Databases, service: Service, tmp_path: Path, kit_first: bool
) -> None:
    """An upgrade of the kit meets databases in which the service has gone on, and they it."""
    older = tmp_path / "older kit"
    shutil.copytree(files.root(), older)
    for store in files.STORES:
        files.discover(store, older)[-1].path.unlink()
    earlier = replace(both, folder=older)
    await migrate.up(earlier, report=quiet)
    if kit_first:
        later = await migrate.up(both, report=quiet)
        service.grow()
        last = await migrate.up(both, report=quiet)
    else:
        service.grow()
        last = await migrate.up(earlier, report=quiet)
        later = await migrate.up(both, report=quiet)
    for store in files.STORES:
        assert told(later, store) == kits(store)[-1:]
        assert told(last, store) == ["service 0002"]
    assert {line.state for line in await migrate.status(both)} == {"applied"}


@pytest.mark.parametrize("store", files.STORES)
async def test_an_edited_file_is_told_and_can_be_accepted(
    both: migrate.Databases, service: Service, store: files.Store
) -> None:
    service.grow()
    given = only(both, store)
    await migrate.up(given, report=quiet)
    await migrate.down(given, report=quiet)
    await migrate.up(given, report=quiet)
    path = service.path(store)
    path.write_text(path.read_text() + "\n# An afterthought.\n")
    changed = [each for each in await migrate.check(given) if each.what == "file"]
    assert [(each.where, each.actual) for each in changed] == [
        ("service migration 0001 made", "edited since")
    ]
    accept = f"jts-storage migrate stamp 0002 --store {store} --chain service"
    assert changed[0].remedy.endswith(accept)
    await migrate.stamp(given, "0002", chain="service")
    assert set((await states(given)).values()) == {"applied"}


@pytest.mark.parametrize("store", files.STORES)
async def test_a_lost_file_is_told(
    both: migrate.Databases, service: Service, store: files.Store
) -> None:
    given = only(both, store)
    await migrate.up(given, report=quiet)
    service.path(store).unlink()
    found = await migrate.check(given)
    assert [(each.where, each.expected) for each in found] == [
        ("service migration 0001 of another version", f"in {service.folder}")
    ]
    with pytest.raises(SchemaDrift, match="0001 of the service, which is not in"):
        await migrate.up(given)


async def test_stamps_are_of_one_chain_or_of_both(
    both: migrate.Databases, service: Service
) -> None:
    service.grow()
    await migrate.stamp(both, "head")
    assert {line.state for line in await migrate.status(both)} == {"applied"}
    await migrate.stamp(both, "1", chain="service")
    assert set((await states(both)).values()) == {"applied", "pending"}
    assert {line.state for line in await migrate.status(both, "kit")} == {"applied"}
    await migrate.stamp(both, "base", chain="service")
    assert set((await states(both)).values()) == {"pending"}


async def test_what_is_printed_for_a_person_leads_to_the_same(
    clickhouse: ClickHouseManager, service: Service
) -> None:
    databases = migrate.Databases(clickhouse, service=service.folder, models=Models([ticks]))
    printed = await migrate.sql(databases, Goal())
    assert printed.index("-- clickhouse kit") < printed.index("-- clickhouse service")
    lines = [line for line in printed.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";\n"):
        if statement.strip():
            clickhouse.execute(statement)
    assert await migrate.check(databases) == []


async def test_mongo_commands_name_the_log_of_their_chain(
    mongo: MongoDBManager, service: Service
) -> None:
    databases = migrate.Databases(mongo=mongo, service=service.folder)
    printed = await migrate.sql(databases, Goal(chain="kit"))
    assert "jts_schema_log_service" not in printed
    await migrate.up(databases, chain="kit", report=quiet)
    printed = await migrate.sql(databases, Goal())
    assert printed.count("db.jts_schema_log_service.insertOne(") == 1


# ---- which chain is meant


async def test_a_number_alone_is_refused_where_there_are_two(both: migrate.Databases) -> None:
    for work in (
        migrate.up(both, to="1"),
        migrate.down(both, to="0001"),
        migrate.stamp(both, "1"),
        migrate.planned(both, Goal(to="1")),
    ):
        with pytest.raises(InvalidConfiguration, match="--chain kit or --chain service"):
            await work
    taken = await migrate.up(both, to="1", chain="kit", report=quiet)
    assert [step.migration.revision for step in taken] == ["0001"] * 3


async def test_a_number_is_clear_in_a_store_that_the_service_leaves_alone(
    sqlite: DatabaseManager, service: Service
) -> None:
    shutil.rmtree(service.folder / "relational")
    databases = migrate.Databases(database=sqlite, service=service.folder)
    taken = await migrate.up(databases, to="1", report=quiet)
    assert told(taken, "relational") == ["kit 0001"]


async def test_the_service_alone_does_not_go_before_the_kit(both: migrate.Databases) -> None:
    with pytest.raises(InvalidConfiguration, match="the kit's migrations come first, and 0001"):
        await migrate.up(both, chain="service")
    await migrate.up(both, chain="kit", report=quiet)
    taken = await migrate.up(both, chain="service", report=quiet)
    assert {step.migration.chain.name for step in taken} == {"service"}


async def test_the_chain_of_a_service_needs_its_folder(databases: migrate.Databases) -> None:
    with pytest.raises(InvalidConfiguration, match="JTS_MIGRATIONS"):
        await migrate.up(databases, chain="service")


# ---- who makes the tables of declared models


async def test_migrations_alone_make_the_tables_where_there_are_any(
    both: migrate.Databases, service: Service
) -> None:
    shutil.rmtree(service.folder / "mongo")
    await create_missing(replace(both, models=MODELS))
    assert await names_in(both) == {"orders"}, "the store without migrations"
    await migrate.up(both, report=quiet)
    assert await migrate.check(both) == []


async def test_without_a_folder_missing_tables_are_made(databases: migrate.Databases) -> None:
    await create_missing(replace(databases, models=MODELS))
    assert {"ticks", "orders", "balances"} <= await names_in(databases)


async def test_tables_that_were_made_before_the_folder_are_taken_over(
    both: migrate.Databases, service: Service
) -> None:
    """Those of migrations that say IF NOT EXISTS, as the page on models says."""
    made = FIRST["relational"].replace(
        "    )\n\n\ndef down", "        if_not_exists=True,\n    )\n\n\ndef down"
    )
    service.write("relational", "0001_made.py", made)
    await create_missing(replace(both, models=MODELS, service=None))
    await migrate.up(both, report=quiet)
    assert await migrate.check(both) == []


KEY = "orders.orders_symbol"


@pytest.mark.parametrize(
    ("store", "change", "where", "what"),
    [
        ("clickhouse", (" size UInt64,", ""), "ticks.size", "column"),
        ("clickhouse", ("size UInt64", "size UInt32"), "ticks.size", "type"),
        (
            "relational",
            ('sa.Column("changed_at", Moment, nullable=False),', ""),
            "balances.changed_at",
            "column",
        ),
        ("mongo", ('"key": {"symbol": 1}', '"key": {"symbol": -1}'), KEY, "index key"),
    ],
)
async def test_a_migration_that_makes_another_table_than_declared_is_drift(
    both: migrate.Databases,
    service: Service,
    store: files.Store,
    change: tuple[str, str],
    where: str,
    what: str,
) -> None:
    assert change[0] in FIRST[store]
    service.write(store, "0001_made.py", FIRST[store].replace(*change))
    given = only(both, store)
    await migrate.up(given, report=quiet)
    await create_missing(replace(given, models=MODELS))
    found = await migrate.check(given)
    assert [(each.where, each.what) for each in found] == [(where, what)]
    assert [(each.where, each.what) for each in await migrate.check_static(given)] == [
        (where, what)
    ]
