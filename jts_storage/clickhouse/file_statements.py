"""The statements that read Parquet files, whose columns are called as the kit writes them."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Table, and_, bindparam, func, insert, not_, select

from jts_storage.clickhouse.candle_rows import KEY, Expression, TableColumns
from jts_storage.clickhouse.constructs import text_of
from jts_storage.domain.checks import FIRST_TIMESTAMP, LAST_TIMESTAMP, PRICE_LIMIT, to_ms
from jts_storage.domain.columns import NAMES, PRICES


@cache
def check_files() -> str:
    """Count the rows of Parquet files, and those among them that are no candles."""
    files = _files()
    impossible = func.countIf(not_(func.ifNull(_is_possible(files.c), 0)))
    return text_of(select(func.count(), impossible).select_from(files))


@cache
def import_files(candles: Table) -> str:
    files = _files()
    version: Expression = func.toUInt64(bindparam("version"))
    names = [*KEY, *NAMES]
    rows = select(
        *map(bindparam, KEY),
        *(files.c[name] for name in NAMES),
        version + func.indexOf(bindparam("names"), files.c["_path"]),
    ).select_from(files)
    return text_of(
        insert(candles).from_select([candles.c[name] for name in (*names, "version")], rows)
    )


def _files() -> Any:
    """Return the table function that reads the files; one that lacks a value is refused later."""
    prices = "".join(f"{name} Nullable(Decimal(18, 4)), " for name in PRICES)
    structure = f"timestamp Nullable(DateTime64(3)), {prices}volume Nullable(UInt64)"
    read = func.file(bindparam("pattern"), "Parquet", structure)
    return read.table_valued(*NAMES, "_path", name="files")


def _is_possible(c: TableColumns) -> Expression:
    def ticks(name: str) -> Expression:
        scaled: Expression = func.reinterpret(func.assumeNotNull(c[name]), "Int64")
        return scaled

    ms = func.toUnixTimestamp64Milli(func.assumeNotNull(c.timestamp))
    return and_(
        ms.between(to_ms(FIRST_TIMESTAMP), to_ms(LAST_TIMESTAMP)),
        c.open.between(c.low, c.high),
        c.close.between(c.low, c.high),
        ticks("low") > -PRICE_LIMIT,
        ticks("high") < PRICE_LIMIT,
        *(c[name].is_not(None) for name in NAMES),
    )
