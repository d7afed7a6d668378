"""Symbols know their last change to the millisecond, so that the later of two writes wins."""

from jts_storage.migrate import tables
from jts_storage.migrate.copying import WRITTEN, Copy

revision = "0003"
down_revision = "0002"

COLUMNS = ("code", "name", "market", "sector", "is_active", "updated_at")

TO_THE_MILLISECOND = tables.Definition(
    columns="code String, name String, market LowCardinality(String), sector String,"
    " is_active UInt8, updated_at DateTime64(3, 'UTC')",
    engine="ReplacingMergeTree",
    arguments="updated_at",
    order_by="code",
    sharded_by="code",
    settings={"non_replicated_deduplication_window": 1000},
    marker=("updated_at", "DateTime64(3, 'UTC')"),
)
AS_JTS_HAD_THEM = tables.Definition(
    columns="code String, name String, market String, sector String, is_active UInt8,"
    " updated_at DateTime",
    engine="ReplacingMergeTree",
    arguments="updated_at",
    order_by="code",
    marker=("updated_at", "DateTime"),
)


def latest_rows(updated_at: str) -> Copy:
    return Copy(
        values={name: name for name in COLUMNS} | {"updated_at": updated_at},
        key=("code",),
        latest=f"(updated_at, {WRITTEN})",
        compared={name: name for name in COLUMNS[:-1]}
        | {"changed": "toInt64(toUnixTimestamp(updated_at))"},
        summed=["changed"],
        grouped_by={"code": "code"},
        by_range=False,
        only_latest=True,
    )


def upgrade() -> None:
    tables.replace("symbols", TO_THE_MILLISECOND, latest_rows("toDateTime64(updated_at, 3, 'UTC')"))


def downgrade() -> None:
    tables.replace("symbols", AS_JTS_HAD_THEM, latest_rows("toDateTime(updated_at)"), keep=False)
