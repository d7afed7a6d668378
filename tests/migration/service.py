"""A service with migrations of its own for the models in `tests.declared`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlalchemy import text

from jts_storage import migrate
from jts_storage.migrate import files
from jts_storage.migrate.files import Store
from jts_storage.models import Models
from tests.declared import balances, orders, ticks

MODELS: Final = Models([ticks, balances, orders])

TICKS = """from jts_storage.migrate import tables

revision = "0001"
down_revision = None


def upgrade():
    tables.execute(
        "CREATE TABLE IF NOT EXISTS ticks{on_cluster} (symbol LowCardinality(String),"
        " timestamp DateTime64(3, 'UTC'), price Decimal(18, 4), size UInt64, version UInt64)"
        " ENGINE = MergeTree ORDER BY (symbol, timestamp)"
        " SETTINGS non_replicated_deduplication_window = 1000"
    )


def downgrade():
    tables.drop_if_empty("ticks")
"""
ORDERS = """SCHEMA = {
    "bsonType": "object",
    "properties": {
        "version": {"bsonType": ["number", "null"]},
        "createdAt": {"bsonType": ["date", "null"]},
        "updatedAt": {"bsonType": ["date", "null"]},
        "symbol": {"bsonType": "string"},
        "quantity": {"bsonType": "number"},
        "state": {"enum": ["open", "filled"]},
        "strategyId": {"bsonType": ["objectId", "null"]},
    },
    "required": ["symbol", "quantity", "state"],
}


async def up(op):
    await op.create_collection("orders")
    await op.set_validator("orders", SCHEMA)
    await op.create_indexes("orders", [{"name": "orders_symbol", "key": {"symbol": 1}}])


async def down(op):
    await op.drop_collection_if_empty("orders")
"""
BALANCES = """import sqlalchemy as sa
from alembic import op

from jts_storage.models import Exact, Moment

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "balances",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("cash", Exact(18, 4), nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )


def downgrade():
    op.drop_table("balances")
"""
FIRST: Final[dict[Store, str]] = {"clickhouse": TICKS, "mongo": ORDERS, "relational": BALANCES}
SECOND: Final[dict[Store, str]] = {
    "clickhouse": """from jts_storage.migrate import tables

revision = "0002"
down_revision = "0001"


def upgrade():
    tables.alter("ticks", "ADD COLUMN IF NOT EXISTS venue String")


def downgrade():
    tables.alter("ticks", "DROP COLUMN IF EXISTS venue")
""",
    "mongo": """async def up(op):
    await op.create_indexes("orders", [{"name": "orders_state", "key": {"state": 1}}])


async def down(op):
    await op.drop_indexes("orders", ["orders_state"])
""",
    "relational": """import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    with op.batch_alter_table("balances") as table:
        table.add_column(sa.Column("note", sa.Text()))


def downgrade():
    with op.batch_alter_table("balances") as table:
        table.drop_column("note")
""",
}


class Service:
    """The folder of its migrations; at first each store has one, which makes its model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for store, source in FIRST.items():
            self.write(store, "0001_made.py", source)

    def write(self, store: Store, name: str, source: str) -> Path:
        path = self.folder / store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    def path(self, store: Store) -> Path:
        """Return the first migration of a store."""
        return self.folder / store / "0001_made.py"

    def grow(self) -> None:
        """Write a second migration for each store."""
        for store, source in SECOND.items():
            self.write(store, "0002_grown.py", source)

    def fail(self, store: Store) -> Path:
        """Write a second migration that does its work, and then fails."""
        name = "up" if store == "mongo" else "upgrade"
        head, found, rest = SECOND[store].partition(f"def {name}(")
        body, end, tail = rest.partition("\n\n\n")
        assert found
        source = f'{head}{found}{body}\n    raise RuntimeError("half done"){end}{tail}'
        return self.write(store, "0002_fails.py", source)


def only(databases: migrate.Databases, store: Store) -> migrate.Databases:
    """Leave one store."""
    return replace(
        databases,
        clickhouse=databases.clickhouse if store == "clickhouse" else None,
        mongo=databases.mongo if store == "mongo" else None,
        database=databases.database if store == "relational" else None,
    )


def told(steps: list[migrate.Step], store: Store) -> list[str]:
    return [f"{s.migration.chain.name} {s.migration.revision}" for s in steps if s.store == store]


def kits(store: Store) -> list[str]:
    return [f"kit {file.revision}" for file in files.discover(store)]


async def states(databases: migrate.Databases) -> dict[str, str]:
    return {
        f"{line.store} {line.revision}": line.state
        for line in await migrate.status(databases, "service")
    }


async def names_in(databases: migrate.Databases) -> set[str]:
    """The tables and collections of all stores."""
    found: set[str] = set()
    if databases.clickhouse is not None:
        found |= {name for (name,) in databases.clickhouse.execute("SHOW TABLES")}
    if databases.mongo is not None:
        found |= set(await databases.mongo.db.list_collection_names())
    if databases.database is not None:
        async with databases.database.connection() as connection:
            rows = await connection.execute(
                text("SELECT name FROM sqlite_master WHERE type = 'table'")
            )
            found |= {str(name) for (name,) in rows}
    return found
