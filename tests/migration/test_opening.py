"""Opening a storage changes the schemas of those stores that its settings name, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jts_storage import StorageSettings, migrate
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.migrate import files
from jts_storage.migrate.opening import Opening
from tests.migration.conftest import fresh_name
from tests.migration.service import MODELS, names_in, only

DECLARED: dict[files.Store, str] = {
    "clickhouse": "ticks",
    "mongo": "orders",
    "relational": "balances",
}


@pytest.mark.parametrize(
    ("migrates", "creates_all", "changed", "created"),
    [
        (False, False, set(), set()),
        (False, True, set(), {"clickhouse", "mongo", "relational"}),
        (None, False, {"clickhouse", "relational"}, {"clickhouse", "relational"}),
        (None, True, {"clickhouse", "relational"}, {"clickhouse", "mongo", "relational"}),
        (True, False, {"clickhouse", "mongo", "relational"}, set(DECLARED)),
    ],
    ids=["off", "off, creates all", "embedded only", "embedded only, creates all", "on"],
)
async def test_only_stores_that_are_migrated_get_tables(
    databases: migrate.Databases,
    mongod: LocalMongod,
    migrates: bool | None,
    creates_all: bool,
    changed: set[str],
    created: set[str],
) -> None:
    """MongoDB is a server here, the other two are embedded."""
    given: dict[str, Any] = {"mongo_url": mongod.uri, "mongo_database": fresh_name("opened")}
    settings = StorageSettings(env_file=None, migrate=migrates, **given)
    stores = replace(databases, models=MODELS)
    await Opening(settings, stores).prepare(creates_all=creates_all)
    for store, name in DECLARED.items():
        found = await names_in(only(stores, store))
        assert (name in found) is (store in created), store
        assert bool(found - {name}) is (store in changed), store
