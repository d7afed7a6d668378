"""Parts of tables that ClickHouse has put aside because their files are damaged.

ClickHouse opens a table without its broken parts: reads then miss their rows and raise nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy import func, select

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.sql import literal, quoted
from jts_storage.errors import StorageError
from jts_storage.ports.schema import DAMAGE, Difference

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokenPart:
    """A part that reads do not see.

    :ivar reason: in ClickHouse's words, such as ``broken-on-start``.
    :ivar path: the folder with what is left of it, on the server's disk.
    """

    table: str
    name: str
    reason: str
    path: str

    @property
    def remedy(self) -> str:
        """Statements that bring it back or give it up; text, since a person runs them."""
        drop = (
            f"ALTER TABLE {quoted(self.table)} DROP DETACHED PART {literal(self.name)}"
            " SETTINGS allow_drop_detached = 1"
        )
        return (
            f"import the rows of {self.table} again, or restore {self.path} from a backup of the"
            f" disk and attach it; then forget the part: {drop}"
        )

    def __str__(self) -> str:
        return (
            f"A part of the table {self.table} is damaged ({self.reason}: {self.name}); its rows"
            f" are missing from every read. To mend it, {self.remedy}"
        )


def broken_parts(manager: ClickHouseManager) -> list[BrokenPart]:
    """The broken parts of the manager's database, on the host that it speaks to.

    :raises StorageError: they cannot be looked at, as where the user may not read system tables.
    """
    c = system.detached_parts.c
    query = (
        select(c.table, c.name, func.ifNull(c.reason, ""), c.path)
        .where(system.is_broken())
        .order_by(c.table, c.name)
    )
    return [BrokenPart(*row) for row in manager.execute(text_of(query))]


def tell_broken_parts(manager: ClickHouseManager) -> None:
    """Log each broken part as an error."""
    try:
        found = broken_parts(manager)
    # A storage opens all the same: its other rows can be read.
    except StorageError as failure:
        _log.warning("Whether parts of the tables are broken could not be found out: %s", failure)
        return
    for part in found:
        _log.error("%s", part, extra={"table": part.table, "part": part.name})


def differences(manager: ClickHouseManager) -> list[Difference]:
    """Return the broken parts as `jts-storage check` reports them."""
    return [
        Difference(
            "clickhouse",
            part.table,
            DAMAGE,
            "whole",
            f"without the part {part.name} ({part.reason})",
            part.remedy,
        )
        for part in broken_parts(manager)
    ]
