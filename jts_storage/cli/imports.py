"""``jts-storage import``: candles from a file into the stores.

What loads Arrow is imported when the command runs: shells ask for its help at every press of tab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jts_storage.cli import arguments
from jts_storage.cli.arguments import Code, Exchange, Gate, Zone
from jts_storage.cli.groups import grouped
from jts_storage.cli.output import AsJson, meter, print_json, with_storage
from jts_storage.domain.calendar import BY_EXCHANGE
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.storage import Storage
from jts_storage.usecases.any_storage import BLOCK_ROWS
from jts_storage.usecases.quality import QualityPolicy
from jts_storage.usecases.results import COUNTS, ImportResult

if TYPE_CHECKING:
    from jts_storage.readers.blocks import Floats
    from jts_storage.readers.file_source import Layout
    from jts_storage.usecases.import_candles import ImportOptions

_SERIES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Format:
    """How the file is written, where its first rows do not show it."""

    column: Annotated[
        list[str] | None,
        typer.Option(
            help="TARGET=HEADER where a guess fails, as in close=Last; market= ignores the column; "
            "may be repeated."
        ),
    ] = None
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Columns have numbers: --column open=2.")
    ] = False
    timezone: Zone = None
    time_format: Annotated[
        str | None, typer.Option(help="strptime format of moments that are not ISO 8601.")
    ] = None
    decimal: Annotated[str | None, typer.Option(help="Decimal mark: '.' or ','.")] = None
    thousands: Annotated[
        str | None, typer.Option(help="Mark between thousands: ',', '.', a blank or an apostrophe.")
    ] = None
    delimiter: Annotated[str | None, typer.Option(help="What separates fields.")] = None
    encoding: Annotated[str | None, typer.Option(help="Encoding of the text.")] = None
    floats: Annotated[str, typer.Option(help="Prices that are floats: refuse, exact or round.")] = (
        "refuse"
    )

    @property
    def layout(self) -> Layout:
        from jts_storage.readers.file_source import Layout

        return Layout(
            columns=_overrides(self.column),
            delimiter=self.delimiter,
            encoding=self.encoding,
            header=not self.no_header,
        )


@dataclass(frozen=True, kw_only=True)
class Series:
    """Whose candles the file holds, where no column of it says so."""

    timeframe: Annotated[
        str | None,
        typer.Option(
            "--timeframe",
            "-t",
            help="1m, 5m, 15m, 1h, 1d, 1w or 1M; by default from a column of the file.",
        ),
    ] = None
    symbol: Code = None
    exchange: Exchange = ""

    @property
    def step(self) -> Timeframe | None:
        return arguments.timeframe_of(self.timeframe) if self.timeframe else None


@dataclass(frozen=True, kw_only=True)
class Storing:
    """Which of the rows are stored, and how."""

    incremental: Annotated[
        bool, typer.Option("--incremental", help="Only rows that are not stored yet.")
    ] = False
    create: Annotated[
        str | None,
        typer.Option(help="Create unknown symbols in this market: KOSPI, NYSE, own:MINE."),
    ] = None
    block_rows: Annotated[int, typer.Option(help="Rows stored at a time.")] = BLOCK_ROWS
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, even if it was interrupted before.")
    ] = False


@grouped
def import_(
    *,
    source: Annotated[Path, typer.Argument(help="CSV, JSON lines, Parquet or Arrow, by its name.")],
    series: Series,
    storing: Storing,
    format: Format,
    gate: Gate,
    as_json: AsJson = False,
) -> None:
    """Import candles from a file; interrupted and repeated, it goes on where it stopped."""
    calendar = (
        BY_EXCHANGE  # of each series: a file may hold several
        if gate.calendar in (None, BY_EXCHANGE)
        else arguments.calendar_for(gate.calendar, series.exchange)
    )
    result = _imported(
        source, series, lambda: _options(storing, format, gate.policy(calendar)), quiet=as_json
    )
    if as_json:
        print_json(result)
    else:
        print_import(result)


def _options(storing: Storing, format: Format, policy: QualityPolicy) -> ImportOptions:
    from jts_storage.usecases.import_candles import ImportOptions

    return ImportOptions(
        mode="incremental" if storing.incremental else "full",
        create=arguments.market_of(storing.create) if storing.create else None,
        layout=format.layout,
        timezone=format.timezone,
        time_format=format.time_format,
        decimal=format.decimal,
        thousands=format.thousands,
        floats=cast("Floats", format.floats),
        policy=policy,
        block_rows=storing.block_rows,
        resume=not storing.restart,
    )


def _imported(
    source: Path, series: Series, options: Callable[[], ImportOptions], *, quiet: bool
) -> ImportResult:
    """Import the file with a progress bar.

    :param options: called within `with_storage`, which reports what is wrong with them.
    """

    from jts_storage.usecases.import_candles import ImportCandles

    # Before a storage is opened: a timeframe that is misspelled needs none.
    timeframe = series.step

    async def work(storage: Storage) -> ImportResult:
        return await ImportCandles(storage).run(
            source,
            timeframe,
            symbol=series.symbol,
            exchange=series.exchange,
            options=options(),
            progress=lambda at: bar.update(at.rows, at.fraction),
        )

    with meter(f"Importing {source.name}", quiet=quiet) as bar:
        return with_storage(
            work,
            stopped=lambda: (
                f"Stopped after {bar.rows:,} rows of {source}. "
                "The same command again goes on from there."
            ),
        )


def print_import(result: ImportResult) -> None:
    if result.resumed_at is not None:
        typer.echo(f"Went on at row {result.resumed_at:,}.")
    counts = ", ".join(f"{getattr(result, name):,} {name}" for name in COUNTS)
    typer.echo(f"{result.source}: {counts}.")
    if len(result.series) > 1:
        shown = [f"{key} {count:,}" for key, count in list(result.series.items())[:_SERIES_SHOWN]]
        more = len(result.series) - len(shown)
        typer.echo(f"Series: {', '.join(shown)}{f' and {more:,} more' if more else ''}.")
    if result.differing:
        typer.echo(
            f"{result.differing:,} of those skipped are stored with other values; "
            "without --incremental they would be replaced."
        )
    if result.broken:
        found = ", ".join(f"{rule} {count:,}" for rule, count in result.broken.items())
        typer.echo(f"Rules broken: {found}.")
    if result.created_symbols:
        typer.echo(f"Created: {', '.join(result.created_symbols)}.")
    if result.start is not None and result.end is not None:
        typer.echo(f"From {result.start:%Y-%m-%d %H:%M} to {result.end:%Y-%m-%d %H:%M} UTC.")


def _overrides(given: list[str] | None) -> dict[str, str]:
    found = {}
    for text in given or []:
        target, mark, header = text.partition("=")
        if not mark:
            raise InvalidData("must be TARGET=HEADER", field="--column", value=text)
        found[target] = header
    return found
