"""A service with migrations of its own for the models in `tests.declared`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

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
        for store, text in FIRST.items():
            self.write(store, "0001_made.py", text)

    def write(self, store: Store, name: str, text: str) -> Path:
        path = self.folder / store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def path(self, store: Store) -> Path:
        """Return the first migration of a store."""
        return self.folder / store / "0001_made.py"

    def grow(self) -> None:
        """Write a second migration for each store."""
        for store, text in SECOND.items():
            self.write(store, "0002_grown.py", text)

    def fail(self, store: Store) -> Path:
        """Write a second migration that does its work, and then fails."""
        name = "up" if store == "mongo" else "upgrade"
        head, found, rest = SECOND[store].partition(f"def {name}(")
        body, end, tail = rest.partition("\n\n\n")
        assert found
        text = f'{head}{found}{body}\n    raise RuntimeError("half done"){end}{tail}'
        return self.write(store, "0002_fails.py", text)
