"""The statements of the bookkeeping, compiled once for each of both databases.

SQLAlchemy writes the SQL, the drivers run it: its own execution costs five times a round trip to
PostgreSQL and eighteen times a read from SQLite (measured, see `tests/benchmarks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ClauseElement,
    Table,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import sqlite

from jts_storage.relational.tables import (
    applied_commits,
    checkpoints,
    ohlcv_bars,
    symbol_bars_aggregates,
)

Insert = Callable[[Table], Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """SQL with positional parameters, and their names in that order."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def args(self, values: Mapping[str, Any]) -> list[Any]:
        if self.constants:
            values = {**self.constants, **values}
        return [values[name] for name in self.names]


class Statement:
    """One statement in the dialects of both databases, each compiled when it is first run."""

    def __init__(self, sqlite: Callable[[], Prepared], postgres: Callable[[], Prepared]) -> None:
        self._sqlite, self._postgres = sqlite, postgres

    @cached_property
    def sqlite(self) -> Prepared:
        return self._sqlite()

    @cached_property
    def postgres(self) -> Prepared:
        return self._postgres()


_SQLITE: Any = sqlite.dialect(paramstyle="qmark")


def _compiled(element: ClauseElement, dialect: Any) -> Prepared:
    compiled: Any = element.compile(dialect=dialect)
    names: tuple[str, ...] = tuple(getattr(compiled, "positiontup", None) or ())
    given = {name: value for name, value in (compiled.params or {}).items() if value is not None}
    return Prepared(str(compiled), names, given)


def compiled_for_sqlite(element: ClauseElement) -> Prepared:
    return _compiled(element, _SQLITE)


def _compiled_for_postgres(build: Callable[[Insert], ClauseElement]) -> Prepared:
    # Imported where PostgreSQL is the database, not by each process.
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.dialects.postgresql import asyncpg

    dialect: Any = asyncpg.dialect()  # type: ignore[no-untyped-call]
    return _compiled(build(postgresql.insert), dialect)


def _statement(build: Callable[[Insert], ClauseElement]) -> Statement:
    return Statement(
        lambda: _compiled(build(sqlite.insert), _SQLITE),
        lambda: _compiled_for_postgres(build),
    )


def _plain(element: ClauseElement) -> Statement:
    return _statement(lambda _: element)


_bars = symbol_bars_aggregates
_its_day = and_(_bars.c.symbol == bindparam("name"), _bars.c.trading_date == bindparam("day"))
_bars_columns = (
    _bars.c.symbol,
    _bars.c.trading_date,
    _bars.c.version,
    _bars.c.collection_started,
    _bars.c.is_complete,
    _bars.c.bar_count,
    _bars.c.created_at,
    _bars.c.updated_at,
)
_bars_state: dict[str, Any] = {
    "collection_started": bindparam("started"),
    "is_complete": bindparam("complete"),
    "bar_count": bindparam("bars"),
    "updated_at": bindparam("now"),
}

SYMBOL_BARS_GET = _plain(select(*_bars_columns).where(_its_day))
SYMBOL_BARS_LIST = _plain(
    select(*_bars_columns)
    .where(_bars.c.symbol == bindparam("name"), _bars.c.trading_date > bindparam("after"))
    .order_by(_bars.c.trading_date)
    .limit(bindparam("limit"))
)
SYMBOL_BARS_VERSION = _plain(select(_bars.c.version).where(_its_day))
SYMBOL_BARS_INSERT = _statement(
    lambda insert: (
        insert(_bars)
        .values(
            symbol=bindparam("name"),
            trading_date=bindparam("day"),
            version=literal_column("1"),
            created_at=bindparam("now"),
            **_bars_state,
        )
        .on_conflict_do_nothing()
        .returning(_bars.c.version, _bars.c.created_at)
    )
)
SYMBOL_BARS_UPDATE = _plain(
    update(_bars)
    .where(_its_day, _bars.c.version == bindparam("found"))
    .values(version=_bars.c.version + literal_column("1"), **_bars_state)
    .returning(_bars.c.version, _bars.c.created_at)
)
# A row that other programs inserted has the database's own time, in its own precision.
_same = _bars.c.created_at.in_([bindparam("created"), bindparam("created_by_default")])
SYMBOL_BARS_UPDATE_SAME = _plain(
    update(_bars)
    .where(_its_day, _bars.c.version == bindparam("found"), _same)
    .values(version=_bars.c.version + literal_column("1"), **_bars_state)
    .returning(_bars.c.version, _bars.c.created_at)
)
"""As `SYMBOL_BARS_UPDATE`, unless the aggregate was deleted and another was made since."""

SYMBOL_BARS_DELETE = _plain(delete(_bars).where(_its_day).returning(_bars.c.version))

_marks = checkpoints
_its_name = _marks.c.symbol == bindparam("name")
_mark_columns = (_marks.c.symbol, _marks.c.checkpoint_data, _marks.c.updated_at)
_new_mark: dict[str, Any] = {
    "symbol": bindparam("name"),
    "checkpoint_data": bindparam("data"),
    "updated_at": bindparam("now"),
}

CHECKPOINT_GET = _plain(select(*_mark_columns).where(_its_name))
CHECKPOINT_LIST = _plain(
    select(*_mark_columns)
    .where(_marks.c.symbol > bindparam("after"))
    .order_by(_marks.c.symbol)
    .limit(bindparam("limit"))
)
# SQLite has no FOR UPDATE and leaves it out: there the transaction holds the file already.
CHECKPOINT_LOCK = _plain(select(_marks.c.checkpoint_data).where(_its_name).with_for_update())
CHECKPOINT_INSERT = _statement(
    lambda insert: (
        insert(_marks).values(_new_mark).on_conflict_do_nothing().returning(_marks.c.symbol)
    )
)
CHECKPOINT_SAVE = _statement(
    lambda insert: (
        insert(_marks)
        .values(_new_mark)
        .on_conflict_do_update(
            index_elements=[_marks.c.symbol],
            set_={"checkpoint_data": bindparam("data"), "updated_at": bindparam("now")},
        )
    )
)
CHECKPOINT_DELETE = _plain(delete(_marks).where(_its_name).returning(_marks.c.symbol))

_applied = applied_commits
APPLIED_INSERT = _statement(
    lambda insert: (
        insert(_applied)
        .values(id=bindparam("commit"))
        .on_conflict_do_nothing()
        .returning(_applied.c.id)
    )
)
APPLIED_GET = _plain(select(_applied.c.id).where(_applied.c.id == bindparam("commit")))
APPLIED_PURGE = Statement(
    lambda: _compiled(
        delete(_applied).where(_applied.c.applied_at < func.datetime("now", "-7 days")), _SQLITE
    ),
    lambda: _compiled_for_postgres(
        lambda _: delete(_applied).where(
            _applied.c.applied_at < func.now() - text("interval '7 days'")
        )
    ),
)
"""A recoverer that was paused for longer than a week is not expected back."""

_ohlcv = ohlcv_bars
_its_series = and_(
    _ohlcv.c.symbol == bindparam("name"),
    _ohlcv.c.exchange == bindparam("exchange"),
    _ohlcv.c.timeframe == bindparam("timeframe"),
)

_its_range = _ohlcv.c.timestamp_ms.between(bindparam("first"), bindparam("last"))
BARS_COUNT = _plain(select(func.count()).select_from(_ohlcv).where(_its_series, _its_range))
BARS_DELETE = _plain(delete(_ohlcv).where(_its_series, _its_range))

# Whole columns of bars move as 64-bit integers; what follows is where each database wants them.

_KEY = "symbol, exchange, timeframe"
_VALUES = "timestamp_ms, open_price, high_price, low_price, close_price, volume"
_ON_CONFLICT = (
    f"ON CONFLICT ({_KEY}, timestamp_ms) DO UPDATE SET "
    "open_price = excluded.open_price, high_price = excluded.high_price, "
    "low_price = excluded.low_price, close_price = excluded.close_price, "
    "volume = excluded.volume"
)
_RANGE = "symbol = {} AND exchange = {} AND timeframe = {} AND timestamp_ms BETWEEN {} AND {}"


def sqlite_upsert(rows: int) -> str:
    """An upsert of that many bars; the first three parameters are the key, each row six more."""
    values = ", ".join(["(?1, ?2, ?3, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO ohlcv_bars ({_KEY}, {_VALUES}) VALUES {values} {_ON_CONFLICT}"


SQLITE_READ = (
    f"SELECT {_VALUES} FROM ohlcv_bars WHERE {_RANGE.format(*'?????')} "
    "ORDER BY timestamp_ms LIMIT ?"
)

# Raw bars have no row that stands for their series, so a name does; Core has no such function.
POSTGRES_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 14))"

# A volume of 64 bits travels less 2**63, as a bigint.
POSTGRES_STAGE = "jts_incoming_bars"
POSTGRES_CREATE_STAGE = (
    f"CREATE TEMPORARY TABLE IF NOT EXISTS {POSTGRES_STAGE} "
    "(t bigint, o bigint, h bigint, l bigint, c bigint, v bigint) ON COMMIT DELETE ROWS"
)
POSTGRES_CLEAR_STAGE = f"DELETE FROM {POSTGRES_STAGE}"
POSTGRES_UPSERT = (
    f"INSERT INTO ohlcv_bars ({_KEY}, {_VALUES}) "
    "SELECT $1, $2, $3, t, o * 0.0001, h * 0.0001, l * 0.0001, c * 0.0001, "
    "v + 9223372036854775808 "
    f"FROM {POSTGRES_STAGE} {_ON_CONFLICT}"
)
POSTGRES_READ = (
    "SELECT timestamp_ms, (open_price * 10000)::bigint, (high_price * 10000)::bigint, "
    "(low_price * 10000)::bigint, (close_price * 10000)::bigint, "
    "(volume - 9223372036854775808)::bigint "
    f"FROM ohlcv_bars WHERE {_RANGE.format('$1', '$2', '$3', '$4', '$5')} "
    "ORDER BY timestamp_ms LIMIT $6"
)
