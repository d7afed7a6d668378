"""``jts-storage import``: candles from a file into the stores.

What loads Arrow is imported when the command runs: shells ask for its help at every press of tab.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from jts_storage.cli import arguments
from jts_storage.cli.arguments import Code, Exchange, Gate, Zone
from jts_storage.cli.groups import grouped
from jts_storage.cli.import_reports import print_files, print_import, print_without_exchange
from jts_storage.cli.output import (
    FAILED,
    NOT_WELL,
    AsJson,
    meter,
    print_json,
    told,
    with_storage,
)
from jts_storage.domain.enums import Timeframe

if TYPE_CHECKING:
    from jts_storage.readers.file_source import Layout
    from jts_storage.readers.values import FloatRule
    from jts_storage.storage import Storage
    from jts_storage.usecases.import_candles import ImportOptions
    from jts_storage.usecases.quality import QualityPolicy
    from jts_storage.usecases.results import FilesResult, ImportResult

_BLOCK_ROWS = 262_144  # that of the use case, which is imported later
_FLOATS, _ON_ERROR = ("refuse", "exact", "round"), ("stop", "quarantine")
_UNITS = ("s", "ms", "us", "ns")


def _one_of(known: Sequence[str]) -> Callable[[str | None], str | None]:
    def checked(text: str | None) -> str | None:
        if text is not None and text not in known:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(known)}.")
        return text

    return checked


def _columns(given: list[str] | None) -> list[str] | None:
    for text in given or []:
        if "=" not in text:
            raise typer.BadParameter(f"{text!r} is not TARGET=HEADER.")
    return given


def _market(text: str | None) -> str | None:
    if text is not None:
        arguments.market_of(text)
    return text


def _alone(sources: list[Path]) -> list[Path]:
    """Refuse one file that is not there; of several, the report says which."""
    first, *others = sources
    is_elsewhere = str(first) == "-" or has_magic(str(first))
    if not (others or is_elsewhere or first.exists()):
        raise typer.BadParameter(f"There is no file {first}. Check the path.")
    return sources


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """How the file is written, where its first rows do not show it."""

    column: Annotated[
        list[str] | None,
        typer.Option(
            help="TARGET=HEADER where a guess fails, as in close=Last; market= ignores the column; "
            "may be repeated.",
            callback=_columns,
        ),
    ] = None
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Columns have numbers: --column open=2.")
    ] = False
    skip_lines: Annotated[
        int,
        typer.Option(
            help="Lines of a CSV file above its header, such as a title.", min=0, max=1_000
        ),
    ] = 0
    timezone: Zone = None
    time_format: Annotated[
        str | None, typer.Option(help="strptime format of moments that are not ISO 8601.")
    ] = None
    time_unit: Annotated[
        str | None,
        typer.Option(help="Unit of numbers since 1970: s, ms, us or ns.", callback=_one_of(_UNITS)),
    ] = None
    decimal: Annotated[str | None, typer.Option(help="Decimal mark: '.' or ','.")] = None
    thousands: Annotated[
        str | None, typer.Option(help="Mark between thousands: ',', '.', a blank or an apostrophe.")
    ] = None
    delimiter: Annotated[str | None, typer.Option(help="What separates fields.")] = None
    encoding: Annotated[str | None, typer.Option(help="Encoding of the text.")] = None
    floats: Annotated[
        str,
        typer.Option(
            help="Prices that are floats: refuse, exact or round.", callback=_one_of(_FLOATS)
        ),
    ] = "refuse"
    round_prices: Annotated[
        bool, typer.Option("--round-prices", help="Round prices to four decimals, half to even.")
    ] = False
    volume: Annotated[
        str | None,
        typer.Option(
            help="Volumes that are no whole numbers: round, floor, scale:N (stored times 10**N), "
            "zero-if-missing; several with commas. Otherwise they are refused."
        ),
    ] = None

    @property
    def layout(self) -> Layout:
        from jts_storage.readers.file_source import Layout

        return Layout(
            columns=_overrides(self.column),
            delimiter=self.delimiter,
            encoding=self.encoding,
            header=not self.no_header,
            skip_lines=self.skip_lines,
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
            autocompletion=arguments.complete_timeframes,
            callback=arguments.timeframe_named,
        ),
    ] = None
    symbol: Code = None
    symbol_from_name: Annotated[
        bool,
        typer.Option(
            "--symbol-from-name", help="The name of a file is its symbol, as in AAPL.csv."
        ),
    ] = False
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
        typer.Option(
            help="Create unknown symbols in this market: KOSPI, NYSE, own:MINE.", callback=_market
        ),
    ] = None
    block_rows: Annotated[int, typer.Option(help="Rows stored at a time.")] = _BLOCK_ROWS
    on_error: Annotated[
        str,
        typer.Option(
            help="Rows that cannot be read: stop at the first, or quarantine them.",
            callback=_one_of(_ON_ERROR),
        ),
    ] = "stop"
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, even if it was interrupted before.")
    ] = False


@grouped
def import_(
    *,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Files of CSV, JSON lines, Parquet or Arrow, by their names; folders, patterns in "
            "quotes, or - for standard input.",
            callback=_alone,
        ),
    ],
    series: Series,
    storing: Storing,
    format: FileFormat,
    gate: Gate,
    as_json: AsJson = False,
) -> None:
    """Import candles from files; interrupted and repeated, it goes on where it stopped."""
    from jts_storage.domain.calendar import BY_EXCHANGE
    from jts_storage.usecases.results import ImportResult

    calendar = (
        BY_EXCHANGE  # of each series: a file may hold several
        if gate.calendar in (None, BY_EXCHANGE)
        else arguments.calendar_for(gate.calendar, series.exchange)
    )
    # Before a storage is opened: what is wrong with them is a mistake on the command line.
    options = told(lambda: _options(storing, format, gate.policy(calendar)))
    run = _Run(sources, series, options, as_json)
    result = run.many() if run.has_many else run.one()
    if as_json:
        print_json(result)
    elif isinstance(result, ImportResult):
        print_import(result)
        print_without_exchange(result, options.create)
    else:
        print_files(result)
        print_without_exchange(result.total, options.create)
    refused = {} if isinstance(result, ImportResult) else result.refused
    for message in refused.values():
        typer.echo(f"Error: {message}", err=True)
    if refused and storing.on_error == "stop":
        raise typer.Exit(FAILED)
    if refused or is_all_refused(result if isinstance(result, ImportResult) else result.total):
        raise typer.Exit(NOT_WELL)


def is_all_refused(result: ImportResult) -> bool:
    """Return whether rows were read and the stores have none of them."""
    return bool(result.read) and not (result.imported or result.skipped)


def _options(storing: Storing, format: FileFormat, policy: QualityPolicy) -> ImportOptions:
    from jts_storage.usecases.import_candles import ImportOptions

    return ImportOptions(
        mode="incremental" if storing.incremental else "full",
        create=arguments.market_of(storing.create) if storing.create else None,
        layout=format.layout,
        timezone=format.timezone,
        time_format=format.time_format,
        time_unit=format.time_unit,
        decimal=format.decimal,
        thousands=format.thousands,
        floats=cast("FloatRule", format.floats),
        round_prices=format.round_prices,
        volume=format.volume,
        on_error=cast("Literal['stop', 'quarantine']", storing.on_error),
        policy=policy,
        block_rows=storing.block_rows,
        resume=not storing.restart,
    )


@dataclass(frozen=True)
class _Run:
    """One import, with a progress bar."""

    sources: list[Path]
    series: Series
    options: ImportOptions
    quiet: bool

    @property
    def has_many(self) -> bool:
        from jts_storage.usecases.import_files import is_pattern

        first, *others = self.sources
        return bool(others) or first.is_dir() or is_pattern(first)

    def one(self) -> ImportResult:
        from jts_storage.usecases.import_candles import ImportCandles
        from jts_storage.usecases.import_files import symbol_of

        (source,) = self.sources
        symbol = symbol_of(source) if self.series.symbol_from_name else self.series.symbol
        step = self.series.step

        async def work(storage: Storage) -> ImportResult:
            return await ImportCandles(storage).run(
                sys.stdin.buffer if str(source) == "-" else source,
                step,
                symbol=symbol,
                exchange=self.series.exchange,
                options=self.options,
                progress=lambda at: bar.update(at.rows, at.fraction, at.read_bytes),
            )

        with meter(f"Importing {source.name}", quiet=self.quiet) as bar:
            return with_storage(work, stopped=lambda: _stopped(bar.rows, str(source)))

    def many(self) -> FilesResult:
        from jts_storage.usecases.import_files import ImportFiles

        step = self.series.step

        async def work(storage: Storage) -> FilesResult:
            return await ImportFiles(storage).run(
                self.sources,
                step,
                symbol=self.series.symbol,
                exchange=self.series.exchange,
                symbol_from_name=self.series.symbol_from_name,
                options=self.options,
                progress=lambda at: bar.update(at.rows, at.fraction, at.read_bytes),
            )

        with meter("Importing files", quiet=self.quiet) as bar:
            return with_storage(work, stopped=lambda: _stopped(bar.rows, "the files"))


def _stopped(rows: int, source: str) -> str:
    said = f"Stopped after {rows:,} rows of {source}."
    return said if source == "-" else f"{said} The same command again goes on from there."


def _overrides(given: list[str] | None) -> dict[str, str]:
    found = {}
    for text in given or []:
        target, _, header = text.partition("=")
        found[target] = header
    return found
