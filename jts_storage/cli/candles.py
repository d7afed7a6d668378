"""``export``, ``validate``, ``reconcile`` and ``quarantine``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jts_storage.cli import arguments, moments
from jts_storage.cli.arguments import (
    Calendar,
    Code,
    End,
    Exchange,
    Gate,
    OfExchange,
    OfTimeframe,
    Start,
    TimeframeOption,
    Zone,
)
from jts_storage.cli.groups import grouped
from jts_storage.cli.moments import AsOfMoment
from jts_storage.cli.output import (
    NOT_WELL,
    AsJson,
    meter,
    out,
    print_json,
    print_table,
    told,
    with_reader,
    with_storage,
)
from jts_storage.domain.candle import SeriesKey
from jts_storage.errors import NotFound

if TYPE_CHECKING:
    from jts_storage.lake import ParquetStorageEngine
    from jts_storage.storage import Storage
    from jts_storage.usecases.any_storage import AnyStorage
    from jts_storage.usecases.export_candles import ExportResult
    from jts_storage.usecases.quarantine import QuarantinedRow
    from jts_storage.usecases.reconcile import Disagreement
    from jts_storage.usecases.validate import ValidationResult

quarantine = typer.Typer(help="Rows that an import set aside.", no_args_is_help=True)


def export(
    path: Annotated[
        Path,
        typer.Argument(help="File to write; its suffix gives the format; - is standard output."),
    ],
    symbol: Annotated[str, typer.Option("--symbol", "-s", help="Code of the symbol.")],
    timeframe: TimeframeOption,
    exchange: Exchange = "",
    start: Start = None,
    end: End = None,
    resample: Annotated[
        str | None,
        typer.Option(
            help="A coarser timeframe.",
            autocompletion=arguments.complete_timeframes,
            callback=arguments.timeframe_named,
        ),
    ] = None,
    calendar: Calendar = None,
    timezone: Zone = None,
    as_of: AsOfMoment = None,
    format: Annotated[str, typer.Option(help="Of standard output: csv, tsv, jsonl, ...")] = "csv",
    as_json: AsJson = False,
) -> None:
    """Export candles to a file, which appears when it is complete, or to standard output."""
    is_piped = str(path) == "-"
    key = SeriesKey(symbol, arguments.timeframe_of(timeframe), exchange)
    ends_in = arguments.zone_of(key.timeframe, timezone)
    first = arguments.moment(start, ends_in)
    last = arguments.moment(end, ends_in, is_end=True)
    moment = moments.moment_or_name(as_of, timezone)
    coarser = arguments.timeframe_of(resample) if resample else None

    from jts_storage.usecases.export_candles import ExportCandles

    async def work(storage: Storage) -> ExportResult:
        source = await moments.seen(storage, moment)
        await arguments.check_stored(key, storage, source)
        # Of what was at a moment there are candles alone; an export asks for nothing else.
        return await ExportCandles(cast("AnyStorage", source)).run(
            key,
            sys.stdout.buffer if is_piped else path,
            format=format,
            start=first,
            end=last,
            timeframe=coarser,
            calendar=arguments.calendar_for(calendar or "none", exchange),
            timezone=timezone or "UTC",
            progress=bar.update,
        )

    with meter(f"Exporting {key}", quiet=as_json or is_piped) as bar:
        result = moments.reading(work, moment, stopped=lambda: f"Stopped; {path} was not written.")
    if not is_piped:
        _print_export(result, as_json)


def _print_export(result: ExportResult, as_json: bool) -> None:
    if as_json:
        print_json(result)
    elif result.rows:
        typer.echo(f"{result.path}: {result.rows:,} candles of {result.key}.")
    else:
        typer.echo(f"{result.path}: no candles of {result.key} there.")


@grouped
def validate(
    *,
    symbol: Code = None,
    timeframe: OfTimeframe = None,
    exchange: OfExchange = None,
    start: Start = None,
    end: End = None,
    gate: Gate,
    as_json: AsJson = False,
) -> None:
    """Look at stored candles as an import does; exits with 1 if a rule is broken."""

    told(lambda: gate.policy(None))  # what is wrong with it is told before a storage is opened

    async def work(storage: Storage) -> list[ValidationResult]:
        from jts_storage.usecases.validate import ValidateCandles

        use_case = ValidateCandles(storage)
        return [
            await use_case.run(
                key,
                gate.policy(arguments.calendar_for(gate.calendar, key.exchange)),
                start=arguments.moment(start, None),
                end=arguments.moment(end, None, is_end=True),
            )
            for key in await arguments.chosen(storage, symbol, timeframe, exchange)
        ]

    found = with_reader(work)
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
        from jts_storage.usecases.reconcile import Reconcile

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

    found = with_storage(work)
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
    if folder is not None and not folder.is_dir():
        raise typer.BadParameter(f"There is no folder {folder}.")
    from jts_storage.lake import ParquetStorageEngine
    from jts_storage.settings import StorageSettings

    root = folder or StorageSettings.load().lake_root
    return ParquetStorageEngine(root) if root.is_dir() else None


@quarantine.command("list")
def quarantine_list(
    symbol: Code = None,
    limit: Annotated[int, typer.Option(help="At most so many rows.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the rows that were set aside, with reason and source."""

    async def work(storage: Storage) -> list[QuarantinedRow]:
        from jts_storage.usecases.quarantine import Quarantine

        return await Quarantine(storage).review()

    found = [row for row in with_storage(work) if symbol in (None, row.key and row.key.symbol)]
    if as_json:
        print_json(found[:limit])
        return
    print_quarantined(found[:limit])
    if len(found) > limit:
        typer.echo(f"... and {len(found) - limit:,} more.")


def print_quarantined(rows: Sequence[QuarantinedRow]) -> None:
    print_table(
        ["series", "source", "row", "moment", "reasons", "as it came"],
        [
            (
                row.key,
                Path(row.source).name,
                row.row if row.line is None else f"{row.place} {row.line}",
                row.timestamp,
                ", ".join(row.reasons),
                " ".join(map(str, row.came_as.values())),
            )
            for row in rows
        ],
    )


@quarantine.command("release")
def quarantine_release(symbol: Code = None, as_json: AsJson = False) -> None:
    """Store what can be stored; rows that contradict themselves stay."""

    async def work(storage: Storage) -> tuple[int, int]:
        return await _each(storage, symbol, "release")

    released, kept = with_storage(work)
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

    gone, _ = with_storage(work)
    if as_json:
        print_json({"discarded": gone})
    else:
        typer.echo(f"{gone:,} thrown away.")


async def _each(storage: Storage, symbol: str | None, what: str) -> tuple[int, int]:
    """Release or discard the rows of every series of a symbol, or of all."""
    from jts_storage.usecases.quarantine import Quarantine

    found = Quarantine(storage)
    done = kept = 0
    keys: list[SeriesKey | None] = [None]  # those of all series, and of none
    if symbol is not None:
        its = {row.key for row in await found.review() if row.key and row.key.symbol == symbol}
        keys = list(its)
    for key in keys:
        if what == "discard":
            done += await found.discard(key)
        else:
            released, stay = await found.release(key)
            done, kept = done + released, kept + stay
    return done, kept
