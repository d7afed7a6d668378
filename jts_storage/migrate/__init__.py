"""Migrations of all stores, and the check of live schemas against the models.

from jts_storage import migrate

databases = migrate.Databases(clickhouse=..., mongo=..., database=...)
await migrate.up(databases)
assert await migrate.check(databases) == []
"""

from jts_storage.migrate.base import PATIENCE, Migrations
from jts_storage.migrate.checks import check, check_static
from jts_storage.migrate.files import STORES, Chain, ChainName, Migration, Phase, Store
from jts_storage.migrate.plan import BASE, Goal, History, Step
from jts_storage.migrate.reports import (
    Event,
    Progress,
    Report,
    StepFinished,
    StepStarted,
    describe,
    to_log,
)
from jts_storage.migrate.runner import (
    Databases,
    Line,
    down,
    drop_kept,
    go,
    kept,
    lines,
    opened,
    planned,
    sql,
    stamp,
    status,
    up,
)
from jts_storage.migrate.writing import new
from jts_storage.ports.schema import Difference

__all__ = [
    "BASE",
    "PATIENCE",
    "STORES",
    "Chain",
    "ChainName",
    "Databases",
    "Difference",
    "Event",
    "Goal",
    "History",
    "Line",
    "Migration",
    "Migrations",
    "Phase",
    "Progress",
    "Report",
    "Step",
    "StepFinished",
    "StepStarted",
    "Store",
    "check",
    "check_static",
    "describe",
    "down",
    "drop_kept",
    "go",
    "kept",
    "lines",
    "new",
    "opened",
    "planned",
    "sql",
    "stamp",
    "status",
    "to_log",
    "up",
]
