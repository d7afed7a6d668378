"""What ``jts-storage import`` prints at its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jts_storage.cli.output import print_table
from jts_storage.domain.enums import Market

if TYPE_CHECKING:
    from jts_storage.readers.adjusting import Adjusted
    from jts_storage.usecases.results import FilesResult, ImportResult

_SERIES_SHOWN = 10
_EXCHANGES = {Market.KOSPI: "KRX", Market.KOSDAQ: "KRX", Market.KONEX: "KRX", Market.ETF: "KRX"} | {
    market: market.value for market in (Market.NYSE, Market.NASDAQ, Market.FX)
}
"""Exchanges with a calendar, by the market of their symbols; one of crypto never closes."""


def print_files(result: FilesResult) -> None:
    from jts_storage.usecases.results import COUNTS

    names = [name for name in COUNTS if name == "read" or getattr(result.total, name)]
    rows = [(Path(item.source).name, *(getattr(item, n) for n in names)) for item in result.files]
    print_table(["file", *names], rows)
    print_import(result.total)
    if result.refused:
        typer.echo(f"Refused: {len(result.refused):,} files.")
    if result.left:
        typer.echo(f"Not tried: {len(result.left):,} files behind it.")


def print_import(result: ImportResult) -> None:
    from jts_storage.usecases.results import COUNTS

    if result.resumed_at is not None:
        typer.echo(f"Went on at row {result.resumed_at:,}.")
    counts = ", ".join(f"{getattr(result, name):,} {name}" for name in COUNTS)
    typer.echo(f"{result.source}: {counts}.")
    print_series(result)
    print_adjusted(result.adjusted)
    if result.broken.get("missing", 0) * 2 > result.read:
        typer.echo(
            "Most rows lack a price or the volume; --volume zero-if-missing takes volumes that are "
            "missing for zero."
        )
    if result.duplicates * 2 > result.read:
        typer.echo(
            "Most timestamps came more than once, and the last row of each was stored. If a column "
            "names the symbol of each row, say --column symbol=HEADER."
        )
    if result.differing:
        typer.echo(
            f"{result.differing:,} of those skipped are stored with other values; "
            "without --incremental they would be replaced."
        )
    broken = dict(result.broken)
    if result.is_stored_by_time:
        typer.echo(
            f"The rows came from newest to oldest ({broken.pop('order'):,} before the one above), "
            "and are stored by time."
        )
    if broken:
        found = ", ".join(f"{rule} {count:,}" for rule, count in broken.items())
        typer.echo(f"Rules broken: {found}.")
    if result.created_symbols:
        typer.echo(f"Created: {', '.join(result.created_symbols)}.")
    if result.start is not None and result.end is not None:
        typer.echo(f"From {result.start:%Y-%m-%d %H:%M} to {result.end:%Y-%m-%d %H:%M} UTC.")


def print_series(result: ImportResult) -> None:
    """Print a line for each series, if there are several."""
    if len(result.by_series) < 2:
        return
    from jts_storage.usecases.results import COUNTS

    shown = list(result.by_series.items())[:_SERIES_SHOWN]
    names = [name for name in COUNTS if getattr(result, name)]
    print_table(
        ["series", *names], [(key, *(counts.get(n, 0) for n in names)) for key, counts in shown]
    )
    if len(result.by_series) > len(shown):
        typer.echo(f"... and {len(result.by_series) - len(shown):,} more series.")


def print_adjusted(adjusted: Adjusted) -> None:
    for name, changes in (("prices", adjusted.prices), ("volumes", adjusted.volumes)):
        if changes.values:
            typer.echo(
                f"Rounded: {changes.values:,} {name}, the largest change {changes.largest:f}."
            )
    if adjusted.filled:
        typer.echo(f"Missing: {adjusted.filled:,} volumes, stored as zero.")


def print_without_exchange(result: ImportResult, market: Market | None) -> None:
    """Say that the calendar of series is not known, where their market would have named it.

    The exchange is part of a series: one that is made up would part it from what is stored of it.

    :param market: in which unknown symbols were created.
    """
    exchange = _EXCHANGES.get(market) if market is not None else None
    created = {f"{code}/" for code in result.created_symbols}
    bare = [key for key in result.series if key[: key.rfind("/") + 1] in created]
    if exchange is None or not bare:
        return
    typer.echo(
        f"{bare[0]} names no exchange, so days without trading count as missing. Where it is "
        f"listed on {exchange}, say --exchange {exchange} from the start: it is part of a series."
    )
