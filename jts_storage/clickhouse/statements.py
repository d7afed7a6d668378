"""The statements on candles: text built once, parameters bound by the driver.

Prices leave and enter as the integers they are, timestamps as milliseconds, so that whole columns
move without becoming objects. Each statement begins with where rows come from: `LATEST` for our
table; `ORIGINAL` for a table of the original schema, a plain MergeTree that knows no versions and
refuses FINAL, where of two rows the one inserted later counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_TIMESTAMP, LAST_TIMESTAMP, PRICE_LIMIT, to_ms
from jts_storage.domain.columns import NAMES, PRICES
from jts_storage.domain.enums import Timeframe

Parameters = dict[str, Any]

_KEY = "symbol = %(symbol)s AND exchange = %(exchange)s AND timeframe = %(timeframe)s"
_RANGE = (
    "timestamp BETWEEN fromUnixTimestamp64Milli(toInt64(%(first)s), 'UTC')"
    " AND fromUnixTimestamp64Milli(toInt64(%(last)s), 'UTC')"
)
_MS = "toUnixTimestamp64Milli(timestamp)"
_COLUMNS = f"timestamp AS ms, {', '.join(f'{name} AS {name}_' for name in PRICES)}, volume"
_CARRIED = "symbol, exchange, timeframe, timestamp, open, high, low, close, volume"


STORED = {
    "ms": "DateTime64(3)",
    **{f"{name}_": "Decimal(18, 4)" for name in PRICES},
    "volume": "UInt64",
    "largest": "UInt64",
}
"""The columns of a result that are read as the integers they are, and what these must mean."""

_INSERTED = "toUInt64OrZero(splitByChar('_', toString(_part))[2]) * 1099511627776 + _part_offset"
"""Where a row of a plain MergeTree stands among all: higher means inserted later."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the candles of one key come from.

    :param rows: what stands behind FROM for a range, each timestamp once.
    :param series: the same without a range.
    :param version: which of two rows of one timestamp is the later, the higher.
    :param is_deleted: whether a row says that there is no candle.
    :param has_versions: whether rows carry these two, so that candles can be written.
    """

    rows: str
    series: str
    version: str
    is_deleted: str
    has_versions: bool


LATEST = Source(
    rows=f"candles FINAL WHERE {_KEY} AND {_RANGE} AND NOT is_deleted",
    series=f"candles FINAL WHERE {_KEY} AND NOT is_deleted",
    version="version",
    is_deleted="is_deleted",
    has_versions=True,
)
_EACH_ONCE = f"ORDER BY timestamp, {_INSERTED} DESC LIMIT 1 BY timestamp"
ORIGINAL = Source(
    rows=f"(SELECT * FROM candles WHERE {_KEY} AND {_RANGE} {_EACH_ONCE})",
    series=f"(SELECT * FROM candles WHERE {_KEY} {_EACH_ONCE})",
    version=_INSERTED,
    is_deleted="0",
    has_versions=False,
)


def names_of(keys: Iterable[SeriesKey]) -> tuple[tuple[str, str, str], ...]:
    """Keys as statements on several bind them."""
    return tuple((key.symbol, key.exchange, key.timeframe.value) for key in keys)


def parameters(key: SeriesKey, first: int, last: int) -> Parameters:
    checks.instance(key, SeriesKey, "key")
    return {
        "symbol": key.symbol,
        "exchange": key.exchange,
        "timeframe": key.timeframe.value,
        "first": first,
        "last": last,
    }


def select_range(source: Source, limit: int | None = None) -> str:
    tail = f" LIMIT {int(limit)}" if limit is not None else ""
    return f"SELECT {_COLUMNS} FROM {source.rows} ORDER BY timestamp{tail}"


SELECT_SEVERAL = (
    f"SELECT {_COLUMNS}, cityHash64(symbol, exchange, timeframe) AS hash FROM candles FINAL"
    f" WHERE (symbol, exchange, timeframe) IN %(keys)s AND {_RANGE} AND NOT is_deleted"
    " ORDER BY symbol, exchange, timeframe, timestamp"
)
"""The candles of several keys, one key after the other; where the next begins, the hash changes."""

SELECT_HASHES = "SELECT arrayMap(key -> cityHash64(key.1, key.2, key.3), %(keys)s) AS hashes"


def select_rows(source: Source) -> str:
    """The rows of a range as they lie there: right if none has a double, and quicker than FINAL."""
    return (
        f"SELECT {_COLUMNS}, {source.is_deleted} AS deleted"
        f" FROM candles WHERE {_KEY} AND {_RANGE} ORDER BY timestamp"
    )


def select_end(source: Source, rows: int, *, newest: bool) -> str:
    """The newest or oldest rows as they lie there, doubles and deleted ones among them.

    FINAL would merge the whole series to give its last row, and so would a sort by version while
    doubles wait for a merge. Rows as they lie touch only the end of each part; `mappers.settled`
    finds those that count.
    """
    order = "DESC" if newest else "ASC"
    return (
        f"SELECT {_COLUMNS}, {source.is_deleted} AS deleted, {source.version} AS later"
        f" FROM candles WHERE {_KEY} ORDER BY timestamp {order} LIMIT {int(rows)}"
    )


def select_count(source: Source, *, bounded: bool) -> str:
    return f"SELECT count() AS rows FROM {source.rows if bounded else source.series}"


def select_days(source: Source) -> str:
    return (
        f"SELECT toInt64(toDate32(timestamp, %(timezone)s)) AS day, count() AS rows"
        f" FROM {source.series} GROUP BY day ORDER BY day"
    )


def select_resampled(source: Source, key: SeriesKey, target: Timeframe) -> str:
    """Coarser candles, and what tells whether a volume may have overflowed."""
    return (
        f"SELECT {_bucket(key.timeframe, target)} AS bucket,"
        " argMin(open, timestamp) AS open_, max(high) AS high_, min(low) AS low_,"
        " argMax(close, timestamp) AS close_, sum(volume) AS volume_,"
        " max(volume) AS largest, count() AS rows"
        f" FROM {source.rows} GROUP BY bucket ORDER BY bucket"
    )


def _bucket(source: Timeframe, target: Timeframe) -> str:
    if target.is_intraday:
        # Counted from 1900, which is whole in every step, a remainder is never negative.
        return f"{_MS} - modulo({_MS} - ({to_ms(FIRST_TIMESTAMP)}), {target.step_ms})"
    # What is a day or longer already carries its date; only intraday candles have a local day.
    zone = "%(timezone)s" if source.is_intraday else "'UTC'"
    date = f"toDate32(timestamp, {zone})"
    day = f"toInt64({date})"
    if target is Timeframe.W1:
        day = f"{day} - positiveModulo({day} - 4, 7)"
    elif target is Timeframe.MN1:
        day = f"toInt64(makeDate32(toYear({date}), toMonth({date}), 1))"
    return f"({day}) * 86400000"


SELECT_HIGHEST_VERSION = "SELECT max(version) FROM candles"

SELECT_NEXT_VERSION = (
    "WITH (SELECT toUInt64(toUnixTimestamp64Nano(now64(9)))) AS moment"
    " SELECT greatest(moment, max(version) + 1)"
    f" FROM candles WHERE {_KEY} AND {_RANGE} AND version >= moment"
)
"""A version by the server's clock, above all that is stored in a range.

The subquery is answered once, so that every shard compares with the same moment. Rows before it,
nearly all there are, are left out early.
"""

SELECT_KEYS = (
    "SELECT DISTINCT toString(symbol) AS s, toString(exchange) AS e, toString(timeframe) AS t"
    " FROM candles WHERE (symbol, exchange, timeframe) > (%(symbol)s, %(exchange)s, %(timeframe)s)"
    " ORDER BY s, e, t LIMIT %(limit)s"
)
"""Keys of which rows are stored, deleted ones included."""

SELECT_KEYS_WITH_DELETIONS = (
    "SELECT DISTINCT toString(symbol), toString(exchange), toString(timeframe)"
    " FROM candles WHERE is_deleted"
)

DELETE = (
    f"INSERT INTO candles ({_CARRIED}, version, is_deleted)"
    f" SELECT {_CARRIED}, toUInt64(%(version)s), 1"
    f" FROM {LATEST.rows} AND version < %(version)s"
)
"""Deletes by writing, for each row, a later version that says so."""

COUNT_DELETED = (
    f"SELECT count() FROM candles WHERE {_KEY} AND {_RANGE}"
    " AND version = %(version)s AND is_deleted"
)

SELECT_ENGINE = (
    "SELECT engine, partition_key FROM system.tables"
    " WHERE database = currentDatabase() AND name = 'candles'"
)

SELECT_STATE = (
    "SELECT any(engine), any(extract(path, '/store/[0-9a-f]{3}/([0-9a-f-]{36})/')),"
    " toString(groupBitXor(cityHash64(name, hash_of_all_files))), count()"
    " FROM system.parts WHERE database = currentDatabase() AND table = 'candles' AND active"
)
"""What changes whenever any row does: parts are never changed, only added and replaced."""


_FILES = (
    "file(%(pattern)s, 'Parquet', 'timestamp Nullable(DateTime64(3)), "
    + "".join(f"{name} Nullable(Decimal(18, 4)), " for name in PRICES)
    + "volume Nullable(UInt64)')"
)
_POSSIBLE = " AND ".join(
    [
        f"toUnixTimestamp64Milli(assumeNotNull(timestamp)) BETWEEN {to_ms(FIRST_TIMESTAMP)}"
        f" AND {to_ms(LAST_TIMESTAMP)}",
        "open BETWEEN low AND high",
        "close BETWEEN low AND high",
        f"reinterpret(assumeNotNull(low), 'Int64') > -{PRICE_LIMIT}",
        f"reinterpret(assumeNotNull(high), 'Int64') < {PRICE_LIMIT}",
        *(f"{name} IS NOT NULL" for name in NAMES),
    ]
)

CHECK_FILES = f"SELECT count(), countIf(NOT ifNull({_POSSIBLE}, 0)) FROM {_FILES}"
"""How many rows Parquet files hold, and how many of them are no candles."""

IMPORT_FILES = (
    f"INSERT INTO candles ({_CARRIED}, version)"
    f" SELECT %(symbol)s, %(exchange)s, %(timeframe)s, {', '.join(NAMES)},"
    f" toUInt64(%(version)s) + indexOf(%(names)s, _path) FROM {_FILES}"
)


STREAM_SETTINGS = {"max_block_size": 16_384}
"""FINAL reads a block of every part before it gives a row: small ones cost the least there."""


COUNT_WRITTEN = (
    f"SELECT count() FROM candles WHERE (symbol, exchange, timeframe) IN %(keys)s AND {_RANGE}"
    " AND version = %(version)s"
)


def write_settings(extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What makes an insert durable when it is acknowledged; called anew for each attempt.

    The engine notes a token before it has the rows. One that was noted in the moment in which the
    server died would have the repetition dropped, so none is used twice: a repetition is
    recognised by its rows, which carry a version.
    """
    return {
        "async_insert": 0,
        "insert_deduplicate": 1,
        "insert_deduplication_token": uuid4().hex,
        "max_partitions_per_insert_block": 0,
        "distributed_foreground_insert": 1,
        **(extra or {}),
    }
