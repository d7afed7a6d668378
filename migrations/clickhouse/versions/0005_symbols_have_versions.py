"""Symbols get a version of their own, so that `updated_at` decides nothing.

A copied row gets the milliseconds from 1900 to its `updated_at` as its version: of several rows the
same one stays the latest, copying twice gives the same, and it is far below the nanoseconds that
versions are made of, so every later write goes before it, also where `updated_at` lies ahead.
"""

from dataclasses import replace

from jts_storage.migrate import tables
from jts_storage.migrate.copying import Copy

revision = "0005"
down_revision = "0004"

COLUMNS = ("code", "name", "market", "sector", "is_active", "updated_at")

WITHOUT_VERSIONS = tables.Definition(
    columns="code String, name String, market LowCardinality(String), sector String,"
    " is_active UInt8, updated_at DateTime64(3, 'UTC')",
    engine="ReplacingMergeTree",
    arguments="updated_at",
    order_by="code",
    sharded_by="code",
    settings={"non_replicated_deduplication_window": 1000},
    marker=("version", None),
)
WITH_VERSIONS = tables.Definition(
    columns=f"{WITHOUT_VERSIONS.columns}, version UInt64 DEFAULT toUnixTimestamp64Nano(now64(9))",
    engine="ReplacingMergeTree",
    arguments="version",
    order_by="code",
    sharded_by="code",
    settings={"non_replicated_deduplication_window": 1000},
    marker=("version", "UInt64"),
)
MS_FROM_1900_TO_1970 = 2_208_988_800_000

TAKE_OVER = Copy(
    values={name: name for name in COLUMNS}
    | {"version": f"toUInt64(toUnixTimestamp64Milli(updated_at) + {MS_FROM_1900_TO_1970})"},
    key=("code",),
    latest="updated_at",
    compared={name: name for name in COLUMNS[:-1]}
    | {"changed": "toUnixTimestamp64Milli(updated_at)"},
    summed=["changed"],
    grouped_by={"code": "code"},
    by_range=False,
    source_is_ours=True,
)
GO_BACK = replace(TAKE_OVER, values={name: name for name in COLUMNS})


def upgrade() -> None:
    # What the migration to milliseconds kept has the name without a number.
    tables.replace("symbols", WITH_VERSIONS, TAKE_OVER, first_number=2)


def downgrade() -> None:
    tables.replace("symbols", WITHOUT_VERSIONS, GO_BACK, keep=False)
