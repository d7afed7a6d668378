"""The tables of a ClickHouse database as backups see them, and the fingerprints of their rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select

from jts_storage.backup.errors import DamagedBackup
from jts_storage.clickhouse.constructs import text_of
from jts_storage.clickhouse.data_set_statements import hash_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.sql import literal
from jts_storage.clickhouse.tables import CANDLES, HISTORY
from jts_storage.domain.data_sets import NOTHING, Figures

NAME: Final = "clickhouse"
OF_SCHEMA: Final = "jts_schema_"
"""What the tables of migrations are called: they are made anew, by migrating."""

_CREATED: Final = re.compile(r"CREATE TABLE (?:`[^`]*`|\w+)\.(?:`[^`]*`|\w+)")
_SERIES: Final = {"candles": CANDLES, "candles_history": HISTORY}

SeriesFigures = dict[tuple[str, str, str], Figures]
"""By timeframe, symbol and exchange."""

_TABLES: Final = (
    "SELECT name, engine, create_table_query, data_paths FROM system.tables"
    " WHERE database = %(database)s AND engine LIKE '%%MergeTree' ORDER BY name"
)


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table that holds rows.

    :param folders: where its parts lie, of an engine in this process.
    """

    name: str
    engine: str
    created: str
    folders: tuple[str, ...]


def tables_of(manager: ClickHouseManager, database: str | None = None) -> list[StoredTable]:
    """The tables with rows of a database, but for those of migrations.

    :param database: that of the manager if not given.
    """
    found = manager.execute(_TABLES, {"database": database or manager.config.database})
    tables = [StoredTable(n, e, c, tuple(paths)) for n, e, c, paths in found]
    return [each for each in tables if not each.name.startswith(OF_SCHEMA)]


def quoted(name: str) -> str:
    return f"`{name}`"


def create_statement(created: str, database: str, name: str) -> str:
    """The statement that made a table, for one of another name.

    :raises DamagedBackup: it is none.
    """
    where = f"CREATE TABLE {quoted(database)}.{quoted(name)}"
    made, count = _CREATED.subn(lambda _: where, created, count=1)
    if count != 1 or not created.startswith("CREATE TABLE"):
        raise DamagedBackup(f"the statement that makes table {name} cannot be read")
    return made


def is_of_series(name: str) -> bool:
    """Whether a table holds rows of series, which have fingerprints."""
    return name in _SERIES


def figures_query(database: str, name: str, *, by_part: bool) -> str:
    """Select the figures of each series of a table of candles, over all rows as they lie.

    The fingerprint of a row is that of data sets, with its versions mixed in.

    :param by_part: begin with the part that the rows are in.
    """
    table = _SERIES[name]
    c = table.c
    rest = (c.version, c.is_deleted, c.since) if table is CANDLES else (c.since, c.ended)
    chain: Any = hash_of(c)
    for each in rest:
        chain = func.intHash64(func.bitXor(chain, each))
    rows = select(c.timeframe, c.symbol, c.exchange, chain.label("hash"))
    text = text_of(rows)
    named = f"{quoted(database)}.{quoted(name)}"
    text = re.sub(rf"FROM {name}\b", f"FROM {named}", text.replace("\n", " "))
    parts = "_part, " if by_part else ""
    text = text.replace("SELECT ", f"SELECT {parts}", 1)
    return (
        f"SELECT {parts}timeframe, symbol, exchange, count(), sum(hash), groupBitXor(hash)"
        f" FROM ({text}) GROUP BY {parts}timeframe, symbol, exchange"
    )


def encoded(figures: SeriesFigures) -> bytes:
    rows = [[*series, *figures[series]] for series in sorted(figures)]
    return json.dumps(rows, ensure_ascii=False).encode()


def decoded(text: bytes) -> SeriesFigures:
    """:raises DamagedBackup: these are no figures."""
    try:
        return {
            (frame, symbol, exchange): Figures(rows, total, mixed)
            for frame, symbol, exchange, rows, total, mixed in json.loads(text)
        }
    except (ValueError, TypeError) as exc:
        raise DamagedBackup("the fingerprints of series cannot be read") from exc


def joined(figures: Iterable[SeriesFigures]) -> SeriesFigures:
    """The figures of all rows together."""
    found: SeriesFigures = {}
    for each in figures:
        for series, of_it in each.items():
            found[series] = found.get(series, NOTHING).joined(of_it)
    return found


def by_series(rows: Iterable[Sequence[Any]]) -> SeriesFigures:
    return {
        (frame, symbol, exchange): Figures(int(count), int(total), int(mixed))
        for frame, symbol, exchange, count, total, mixed in rows
    }


def different(name: str, wanted: Mapping[Any, Figures], found: Mapping[Any, Figures]) -> list[str]:
    """The series whose rows are others, as sentences."""
    faults = []
    for series in sorted(wanted.keys() | found.keys()):
        was, now = wanted.get(series, NOTHING), found.get(series, NOTHING)
        if was == now:
            continue
        shown = "/".join(series)
        if was.rows != now.rows:
            faults.append(f"{name} of {shown} has {now.rows} rows instead of {was.rows}")
        else:
            faults.append(f"the rows of {shown} in {name} are others")
    return faults


def hash_query(database: str, name: str, columns: Iterable[str]) -> str:
    """Select a hash of all rows of any table, whatever their order and types."""
    texts = (f"ifNull(toString({quoted(each)}), '\\\\N')" for each in columns)
    of_row = f"sipHash64({', '.join(texts)})"
    return (
        f"SELECT toString(sum({of_row})), toString(groupBitXor({of_row}))"
        f" FROM {quoted(database)}.{quoted(name)}"
    )


def count_query(database: str, name: str) -> str:
    return f"SELECT count() FROM {quoted(database)}.{quoted(name)}"


def text_literal(value: str) -> str:
    return str(literal(value))
