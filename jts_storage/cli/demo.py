"""``jts-storage demo``: the main job of the kit, from nothing, on the engines it brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from jts_storage.cli import demo_data
from jts_storage.cli.candles import print_quarantined
from jts_storage.cli.coverage_looks import draw, look, write_page
from jts_storage.cli.demo_data import CALENDAR, COMPANIES, EXCHANGE
from jts_storage.cli.output import (
    AsJson,
    finished,
    meter,
    out,
    print_json,
    print_table,
    waiting,
)
from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import FormulaCategory, ParameterType, Timeframe
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.strategy import StopLossRule, Strategy
from jts_storage.domain.symbol import Symbol
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.settings import StorageSettings
from jts_storage.storage import Storage
from jts_storage.usecases.coverage import Coverage
from jts_storage.usecases.quality import QualityPolicy
from jts_storage.usecases.quarantine import Quarantine
from jts_storage.usecases.results import ImportResult

FOLDER = Path(".jts") / "demo"
_SEOUL = "Asia/Seoul"

_FORMULAS = (
    ("golden cross", FormulaCategory.ENTRY, "sma(close, :fast) > sma(close, :slow)", 5),
    ("death cross", FormulaCategory.EXIT, "sma(close, :fast) < sma(close, :slow)", 5),
    ("volume surge", FormulaCategory.SCAN, "volume > :fast * sma(volume, :slow)", 3),
)


@dataclass(slots=True)
class _Report:
    quiet: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        if not self.quiet:
            out().print(f"\n[bold]{len(self.seconds) + 1}. {title}[/bold]")
        started = perf_counter()
        yield
        self.seconds[title] = perf_counter() - started

    def say(self, text: str) -> None:
        if not self.quiet:
            out().print(f"   {text}", markup=False)


@dataclass(slots=True)
class _Outcome:
    imports: list[ImportResult] = field(default_factory=list)
    page: Path | None = None


def demo(
    folder: Annotated[Path, typer.Option(help="Where to keep it.")] = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Make a market, import it, look at it: embedded, with no configuration, harmless to repeat."""
    report = _Report(quiet=as_json)
    started = perf_counter()
    outcome = finished(lambda: _tour(folder, report))
    seconds = perf_counter() - started
    if as_json:
        imports = [{**vars_of(result)} for result in outcome.imports]
        print_json({"seconds": round(seconds, 2), "steps": report.seconds, "imports": imports})
    else:
        _last_lines(folder, outcome, seconds)


def vars_of(result: ImportResult) -> dict[str, object]:
    return {name: getattr(result, name) for name in type(result).__dataclass_fields__}


async def _tour(folder: Path, report: _Report) -> _Outcome:
    outcome = _Outcome()
    with report.step("A market: three symbols, two years of minutes, with halts and bad rows"):
        files = _made(folder, report)
    settings = StorageSettings.load(
        data_dir=folder,
        clickhouse_url=None,
        mongo_url=None,
        database_url=None,
        migrate=True,
        migrations=None,
    )
    storage = Storage.open(settings)
    with report.step("Open and migrate: ClickHouse, MongoDB and SQLite, all local"):
        with waiting("Opening the stores", quiet=report.quiet):
            await storage.open_stores()
        health = await storage.health()
        report.say(", ".join(f"{name} answers" for name, well in health.items() if well))
    try:
        with report.step("Import, through the quality gate"):
            await _import(storage, files, report, outcome)
        with report.step("What the gate set aside"):
            await _report_quarantined(storage, report)
        with report.step("Formulas and a strategy"):
            strategy = await _documents(storage, report)
        with report.step("One commit over ClickHouse, MongoDB and SQLite"):
            await _cross_store(storage, strategy, report)
        with report.step("Search"):
            await _search(storage, report)
        with report.step("Resample"):
            await _resample(storage, report)
        with report.step("Coverage"):
            outcome.page = await _coverage(storage, folder, report)
    finally:
        await storage.close()
    return outcome


def _made(folder: Path, report: _Report) -> dict[str, Path]:
    files = {}
    making = demo_data.write(folder / "files")
    for company in COMPANIES:
        # The first one also loads the calendar, which takes seconds.
        with waiting(f"Making {company.code}, {company.name}", quiet=report.quiet):
            path = files[company.code] = next(making)
        report.say(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return files


async def _import(
    storage: Storage, files: dict[str, Path], report: _Report, outcome: _Outcome
) -> None:
    from jts_storage.usecases.import_candles import ImportCandles, ImportOptions

    async with storage.unit_of_work() as uow:
        await uow.symbols.save_many(Symbol(c.code, c.name, c.market, c.sector) for c in COMPANIES)
        await uow.commit()
    policy = QualityPolicy(calendar=CALENDAR, tick="krx")
    for company in COMPANIES:
        path = files[company.code]
        with meter(f"Importing {path.name}", quiet=report.quiet) as bar:
            options = ImportOptions(policy=policy, timezone=_SEOUL)
            if path.suffix == ".gz":
                options = replace(options, decimal=",")
            result = await ImportCandles(storage).run(
                path,
                Timeframe.M1,
                symbol=company.code,
                exchange=EXCHANGE,
                options=options,
                progress=lambda at, bar=bar: bar.update(at.rows, at.fraction),  # type: ignore[misc]
            )
        outcome.imports.append(result)
    if report.quiet:
        return
    print_table(
        ["file", "read", "new", "changed", "as before", "duplicates", "set aside", "rows a second"],
        [
            (
                Path(r.source).name,
                r.read,
                r.inserted,
                r.replaced,
                r.unchanged,
                r.duplicates,
                r.quarantined,
                int(r.rows_per_second),
            )
            for r in outcome.imports
        ],
    )


async def _report_quarantined(storage: Storage, report: _Report) -> None:
    found = await Quarantine(storage).review()
    report.say(f"{len(found)} rows wait, with reason and source; the first:")
    if not report.quiet:
        print_quarantined(found[:4])


async def _documents(storage: Storage, report: _Report) -> Strategy:
    """Stored once: a second run finds what the first one left."""
    known = {formula.name: formula for formula in await storage.formulas.list()}
    strategies = {strategy.name: strategy for strategy in await storage.strategies.list()}
    async with storage.unit_of_work() as uow:
        for name, category, expression, fast in _FORMULAS:
            if name not in known:
                known[name] = await uow.formulas.save(_formula(name, category, expression, fast))
        if "trend follower" not in strategies:
            strategies["trend follower"] = await uow.strategies.save(
                Strategy(
                    name="trend follower",
                    entry_formula_id=known["golden cross"].id,
                    exit_formula_id=known["death cross"].id,
                    stop_loss_rule=StopLossRule(percentage=Decimal("2.5")),
                )
            )
        await uow.commit()
    report.say(f"{len(known)} formulas, {len(strategies)} strategy stored")
    return strategies["trend follower"]


def _formula(name: str, category: FormulaCategory, expression: str, fast: int) -> Formula:
    return Formula(
        name=name,
        category=category,
        expression=expression,
        tags=("demo", "trend"),
        parameters=(
            FormulaParameter("fast", ParameterType.INT, fast, 1, 60),
            FormulaParameter("slow", ParameterType.INT, 20, 2, 240),
        ),
    )


async def _cross_store(storage: Storage, strategy: Strategy, report: _Report) -> None:
    """The result of a backtest, the day bars it saw, and the bookkeeping of the latter."""
    key = SeriesKey(COMPANIES[0].code, Timeframe.D1, EXCHANGE)
    minutes = SeriesKey(key.symbol, Timeframe.M1, EXCHANGE)
    ends = await storage.candles.get_coverage(minutes)
    assert ends.first is not None
    assert ends.last is not None
    daily = (await storage.candles.get_range(minutes, ends.first, ends.last)).resample(
        Timeframe.D1, calendar=CALENDAR
    )
    assert strategy.id is not None
    result = BacktestResult(
        strategy_id=strategy.id,
        run_at=ends.last,
        config=BacktestConfig(
            start_date=ends.first,
            end_date=ends.last,
            symbols=(key.symbol,),
            initial_capital=Decimal(10_000_000),
            data_fingerprint=daily.fingerprint(),
        ),
        metrics=BacktestMetrics(total_return_pct=12.5, sharpe_ratio=1.1, total_trades=42),
    )
    known = await storage.backtests.latest(strategy.id)
    day = ends.last.date()
    rows = (await storage.candles.coverage_by_day(minutes, timezone=_SEOUL))[day]

    async def work(uow: UnitOfWork) -> None:
        await uow.candles.save_many(key, daily)
        if known is None or known.config.data_fingerprint != daily.fingerprint():
            await uow.backtests.save(result)
        if await uow.ingestion.symbol_bars.get(key.symbol, day) is None:
            bars = SymbolBars(key.symbol, day).start_collection().add_bars(rows).complete()
            await uow.ingestion.symbol_bars.save(bars)
        await uow.ingestion.checkpoints.save("demo", {"fingerprint": daily.fingerprint()})

    await storage.run(work)
    report.say(f"{len(daily)} day bars, a backtest result and the bookkeeping, all or nothing")


async def _search(storage: Storage, report: _Report) -> None:
    found = await storage.formulas.search("cross")
    report.say(f"formulas with 'cross': {', '.join(sorted(f.name for f in found))}")
    using = await storage.strategies.get_by_formula(str(found[0].id))
    report.say(f"strategies that use {found[0].name!r}: {', '.join(s.name for s in using)}")
    symbols = await storage.symbols.search("sk")
    report.say(f"symbols with 'sk': {', '.join(f'{s.code} {s.name}' for s in symbols)}")


async def _resample(storage: Storage, report: _Report) -> None:
    key = SeriesKey(COMPANIES[1].code, Timeframe.M1, EXCHANGE)
    ends = await storage.candles.get_coverage(key)
    assert ends.last is not None
    started = perf_counter()
    recent = await storage.candles.get_range(key, ends.last - timedelta(days=5), ends.last)
    hourly = recent.resample(Timeframe.H1, calendar=CALENDAR)
    milliseconds = (perf_counter() - started) * 1_000
    report.say(f"{len(recent):,} minutes of {key} as {len(hourly)} hours in {milliseconds:.0f} ms:")
    if not report.quiet:
        print_table(
            ["from", "open", "high", "low", "close", "volume"],
            [
                (c.timestamp, int(c.open), int(c.high), int(c.low), int(c.close), c.volume)
                for c in hourly.tail(5)
            ],
        )


async def _coverage(storage: Storage, folder: Path, report: _Report) -> Path:
    keys = [key for key in await Coverage(storage).keys() if key.timeframe is Timeframe.M1]
    found = [await look(storage, key, CALENDAR, _SEOUL, with_candles=True) for key in keys]
    if not report.quiet:
        draw(found)
    page = folder / "coverage.html"
    write_page(page, found)
    return page


def _last_lines(folder: Path, outcome: _Outcome, seconds: float) -> None:
    rows = sum(result.read for result in outcome.imports)
    taken = sum(result.seconds for result in outcome.imports)
    typer.echo("")
    typer.echo(
        f"Done in {seconds:.1f} s: {rows:,} rows of {len(outcome.imports)} files read, judged and "
        f"stored at {rows / max(taken, 1e-9):,.0f} a second; "
        f"{sum(r.inserted for r in outcome.imports):,} were new."
    )
    typer.echo(f"Open {outcome.page} in a browser. What to try next:")
    for command in (
        "coverage",
        "quarantine list --limit 5",
        "validate --symbol 005930 --calendar XKRX --tick krx",
        "export prices.parquet --symbol 000660 --timeframe 1m --exchange KRX --resample 1h",
        "formulas search cross",
    ):
        typer.echo(f"  JTS_DATA_DIR={folder} jts-storage {command}")
