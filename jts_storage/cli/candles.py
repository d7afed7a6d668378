"""``import``, ``export``, ``validate``, ``reconcile`` and ``quarantine``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jts_storage.cli import arguments
from jts_storage.cli.arguments import (
    Calendar,
    Code,
    End,
    Jump,
    OfExchange,
    OfTimeframe,
    Rules,
    Start,
    Tick,
    Zone,
)
from jts_storage.cli.output import NOT_WELL, AsJson, meter, out, print_json, print_table, run
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Market, member
from jts_storage.errors import InvalidData, NotFound
from jts_storage.readers.blocks import Floats
from jts_storage.readers.file_source import Layout
from jts_storage.settings import StorageSettings
from jts_storage.storage import Storage
from jts_storage.usecases.export_candles import ExportCandles, ExportResult
from jts_storage.usecases.import_candles import BLOCK_ROWS, ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine
from jts_storage.usecases.reconcile import Disagreement, Reconcile
from jts_storage.usecases.results import COUNTS, ImportResult
from jts_storage.usecases.validate import ValidateCandles, ValidationResult

if TYPE_CHECKING:
    from jts_storage.lake import ParquetStorageEngine

Timeframe = Annotated[str, typer.Option("--timeframe", "-t", help="1m, 5m, 15m, 1h, 1d, 1w or 1M.")]
Exchange = Annotated[str, typer.Option("--exchange", "-x", help="Name of the exchange.")]

_SERIES_SHOWN = 10

quarantine = typer.Typer(help="Rows that an import set aside.", no_args_is_help=True)


def import_(
    source: Annotated[Path, typer.Argument(help="CSV, JSON lines, Parquet or Arrow, by its name.")],
    timeframe: Annotated[
        str | None,
        typer.Option(
            "--timeframe",
            "-t",
            help="1m, 5m, 15m, 1h, 1d, 1w or 1M; otherwise as a column of the file tells.",
        ),
    ] = None,
    symbol: Code = None,
    exchange: Exchange = "",
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Only rows that are not stored yet.")
    ] = False,
    create: Annotated[
        str | None, typer.Option(help="Create unknown symbols in this market: KOSPI, KOSDAQ, ETF.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="TARGET=HEADER where a guess fails, as in close=Last; market= ignores the column; "
            "may be repeated."
        ),
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Columns have numbers: --column open=2.")
    ] = False,
    timezone: Zone = None,
    time_format: Annotated[
        str | None, typer.Option(help="strptime format of moments that are not ISO 8601.")
    ] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal mark: '.' or ','.")] = None,
    thousands: Annotated[
        str | None, typer.Option(help="Mark between thousands: ',', '.', a blank or an apostrophe.")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="What separates fields.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of the text.")] = None,
    floats: Annotated[
        str, typer.Option(help="Prices that are floats: refuse, exact or round.")
    ] = "refuse",
    rules: Rules = None,
    jump: Jump = "0.3",
    tick: Tick = None,
    calendar: Calendar = None,
    block_rows: Annotated[int, typer.Option(help="Rows stored at a time.")] = BLOCK_ROWS,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, even if it was interrupted before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import candles from a file; interrupted and repeated, it goes on where it stopped."""
    step = arguments.timeframe_of(timeframe) if timeframe else None
    shown = meter(f"Importing {source.name}", quiet=as_json)

    async def work(storage: Storage) -> ImportResult:
        options = ImportOptions(
            mode="incremental" if incremental else "full",
            create=member(Market, create, "create") if create else None,
            layout=Layout(
                columns=_overrides(column),
                delimiter=delimiter,
                encoding=encoding,
                header=not no_header,
            ),
            timezone=timezone,
            time_format=time_format,
            decimal=decimal,
            thousands=thousands,
            floats=cast(Floats, floats),
            policy=arguments.policy_of(
                rules, jump, tick, arguments.calendar_for(calendar or "none", exchange)
            ),
            block_rows=block_rows,
            resume=not restart,
        )
        return await ImportCandles(storage).run(
            source,
            step,
            symbol=symbol,
            exchange=exchange,
            options=options,
            progress=lambda at: bar.update(at.rows, at.fraction),
        )

    with shown as bar:
        result = run(
            work,
            stopped=lambda: (
                f"Stopped after {bar.rows:,} rows of {source}. "
                "The same command again goes on from there."
            ),
        )
    if as_json:
        print_json(result)
    else:
        print_import(result)


def print_import(result: ImportResult) -> None:
    if result.resumed_at is not None:
        typer.echo(f"Went on at row {result.resumed_at:,}.")
    counts = ", ".join(f"{getattr(result, name):,} {name}" for name in COUNTS)
    typer.echo(f"{result.source}: {counts}.")
    if len(result.series) > 1:
        told = [f"{key} {count:,}" for key, count in list(result.series.items())[:_SERIES_SHOWN]]
        more = len(result.series) - len(told)
        typer.echo(f"Series: {', '.join(told)}{f' and {more:,} more' if more else ''}.")
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


def export(
    path: Annotated[Path, typer.Argument(help="Where to; the name tells the format.")],
    symbol: Annotated[str, typer.Option("--symbol", "-s", help="Code of the symbol.")],
    timeframe: Timeframe,
    exchange: Exchange = "",
    start: Start = None,
    end: End = None,
    resample: Annotated[str | None, typer.Option(help="A coarser timeframe.")] = None,
    calendar: Calendar = None,
    timezone: Zone = None,
    as_json: AsJson = False,
) -> None:
    """Export candles to a file, which appears when it is complete."""
    key = SeriesKey(symbol, arguments.timeframe_of(timeframe), exchange)
    first = arguments.moment(start, timezone)
    last = arguments.moment(end, timezone, is_end=True)
    coarser = arguments.timeframe_of(resample) if resample else None

    async def work(storage: Storage) -> ExportResult:
        if (await storage.candles.get_coverage(key)).first is None:
            raise arguments.nothing_stored(key)
        return await ExportCandles(storage).run(
            key,
            path,
            start=first,
            end=last,
            timeframe=coarser,
            calendar=arguments.calendar_for(calendar or "none", exchange),
            timezone=timezone or "UTC",
            progress=bar.update,
        )

    with meter(f"Exporting {key}", quiet=as_json) as bar:
        result = run(work, stopped=lambda: f"Stopped; {path} was not written.")
    if as_json:
        print_json(result)
    elif result.rows:
        typer.echo(f"{result.path}: {result.rows:,} candles of {result.key}.")
    else:
        typer.echo(f"{result.path}: no candles of {result.key} there.")


def validate(
    symbol: Code = None,
    timeframe: OfTimeframe = None,
    exchange: OfExchange = None,
    start: Start = None,
    end: End = None,
    rules: Rules = None,
    jump: Jump = "0.3",
    tick: Tick = None,
    calendar: Calendar = None,
    as_json: AsJson = False,
) -> None:
    """Look at stored candles as an import does; exits with 1 if a rule is broken."""

    async def work(storage: Storage) -> list[ValidationResult]:
        use_case = ValidateCandles(storage)
        return [
            await use_case.run(
                key,
                arguments.policy_of(
                    rules, jump, tick, arguments.calendar_for(calendar, key.exchange)
                ),
                start=arguments.moment(start, None),
                end=arguments.moment(end, None, is_end=True),
            )
            for key in await arguments.chosen(storage, symbol, timeframe, exchange)
        ]

    found = run(work)
    if as_json:
        print_json(found)
    else:
        rows = [
            (item.key, item.rows, rule, count, item.examples[rule][0])
            for item in found
            for rule, count in item.broken.items()
        ]
        clean = [(item.key, item.rows, "-", 0, None) for item in found if item.is_clean]
        print_table(["series", "rows", "rule", "broken", "first"], [*rows, *clean])
    if not all(item.is_clean for item in found):
        raise typer.Exit(NOT_WELL)


def reconcile(
    symbol: Code = None,
    timeframe: OfTimeframe = "1m",
    exchange: OfExchange = None,
    timezone: Zone = None,
    lake: Annotated[
        Path | None, typer.Option(help="Folder of Parquet files; otherwise as the settings say.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is safe to.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare bookkeeping, candles and Parquet files; exits with 1 where they still differ."""
    files = _lake(lake)

    async def work(storage: Storage) -> list[Disagreement]:
        use_case = Reconcile(storage, files)
        found: list[Disagreement] = []
        try:
            keys = await arguments.chosen(storage, symbol, timeframe, exchange)
        except NotFound:
            if symbol is None or timeframe is None:
                raise
            # Candles may be what is missing; if nothing else is there either, the name is wrong.
            key = SeriesKey(symbol, arguments.timeframe_of(timeframe), exchange or "")
            found = await use_case.run(key, timezone=timezone or "UTC", repair=repair)
            if not found:
                raise
            return found
        for key in keys:
            found += await use_case.run(key, timezone=timezone or "UTC", repair=repair)
        return found

    found = run(work)
    if as_json:
        print_json(found)
    elif found:
        print_table(
            ["series", "day", "aggregate", "raw bars", "candles", "files", "repair"],
            [
                (d.key, d.day, d.aggregate, d.raw, d.candles, d.files, d.repair or "by hand")
                for d in found
            ],
        )
    else:
        out().print("The stores agree.")
    if any(d.repair is None or not repair for d in found):
        raise typer.Exit(NOT_WELL)


def _lake(folder: Path | None) -> ParquetStorageEngine | None:
    from jts_storage.lake import ParquetStorageEngine

    if folder is not None and not folder.is_dir():
        raise typer.BadParameter(f"There is no folder {folder}.")
    root = folder or StorageSettings.load().lake_root
    return ParquetStorageEngine(root) if root.is_dir() else None


@quarantine.command("list")
def quarantine_list(
    symbol: Code = None,
    limit: Annotated[int, typer.Option(help="At most so many rows.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the rows that were set aside, with reason and source."""
    found = [
        row for row in run(lambda s: Quarantine(s).review()) if symbol in (None, row.key.symbol)
    ]
    if as_json:
        print_json(found[:limit])
        return
    print_table(
        ["series", "source", "row", "moment", "reasons", "as it came"],
        [
            (r.key, Path(r.source).name, r.row, r.timestamp, ", ".join(r.reasons), _came(r.came_as))
            for r in found[:limit]
        ],
    )
    if len(found) > limit:
        typer.echo(f"... and {len(found) - limit:,} more.")


def _came(values: dict[str, object]) -> str:
    return " ".join(str(value) for value in values.values())


@quarantine.command("release")
def quarantine_release(symbol: Code = None, as_json: AsJson = False) -> None:
    """Store what can be stored; rows that contradict themselves stay."""

    async def work(storage: Storage) -> tuple[int, int]:
        return await _each(storage, symbol, "release")

    released, kept = run(work)
    if as_json:
        print_json({"released": released, "kept": kept})
    else:
        typer.echo(f"{released:,} released, {kept:,} kept.")


@quarantine.command("discard")
def quarantine_discard(
    symbol: Code = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Throw rows away."""
    if not yes:
        typer.confirm("Throw quarantined rows away?", abort=True, err=True)

    async def work(storage: Storage) -> tuple[int, int]:
        return await _each(storage, symbol, "discard")

    gone, _ = run(work)
    if as_json:
        print_json({"discarded": gone})
    else:
        typer.echo(f"{gone:,} thrown away.")


async def _each(storage: Storage, symbol: str | None, what: str) -> tuple[int, int]:
    """Release or discard the rows of every series of a symbol, or of all."""
    found = Quarantine(storage)
    done = kept = 0
    keys = {row.key for row in await found.review() if symbol in (None, row.key.symbol)}
    for key in sorted(keys, key=lambda key: key.sort_key):
        if what == "discard":
            done += await found.discard(key)
        else:
            released, stay = await found.release(key)
            done, kept = done + released, kept + stay
    return done, kept
