"""``symbols``, ``formulas``, ``strategies`` and ``backtests``: list, show, search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jts_storage.cli.arguments import complete_markets, market_of
from jts_storage.cli.output import (
    NOT_WELL,
    AsJson,
    print_json,
    print_table,
    with_reader,
    with_storage,
)
from jts_storage.domain.enums import Metric, member
from jts_storage.errors import NotFound

if TYPE_CHECKING:
    from jts_storage.domain.backtest import BacktestSummary
    from jts_storage.domain.data_sets import Verification
    from jts_storage.domain.formula import Formula
    from jts_storage.domain.strategy import Strategy
    from jts_storage.domain.symbol import Symbol
    from jts_storage.storage import Storage

symbols = typer.Typer(help="Symbols.", no_args_is_help=True)
formulas = typer.Typer(help="Formulas.", no_args_is_help=True)
strategies = typer.Typer(help="Strategies.", no_args_is_help=True)
backtests = typer.Typer(help="Backtest results.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(help="At most so many.", min=1, max=1_000_000)]
After = Annotated[str | None, typer.Option(help="The last one of the page before.")]
SearchText = Annotated[str, typer.Argument(help="What to search for.")]
Id = Annotated[str, typer.Argument(help="Its id.")]


@symbols.command("list")
def list_symbols(limit: Limit = 100, after: After = None, as_json: AsJson = False) -> None:
    """List symbols by code."""
    _symbols(with_reader(lambda s: s.symbols.list(limit=limit, after=after)), as_json)


@symbols.command("show")
def show_symbol(
    code: Annotated[str, typer.Argument(help="Its code.")], as_json: AsJson = False
) -> None:
    """Show one symbol."""
    _show(with_reader(lambda s: _found(s.symbols.get_by_code(code), "symbol", code)), as_json)


@symbols.command("search")
def search_symbols(query: SearchText, limit: Limit = 100, as_json: AsJson = False) -> None:
    """Search in codes and names."""
    _symbols(with_reader(lambda s: s.symbols.search(query, limit=limit)), as_json)


@symbols.command("add")
def add_symbol(
    code: Annotated[str, typer.Argument(help="Its code, such as 005930.")],
    name: Annotated[str, typer.Argument(help="Its name.")],
    market: Annotated[str, typer.Argument(help="Its market.", autocompletion=complete_markets)],
    sector: Annotated[str | None, typer.Option(help="Its sector.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a symbol, or replace the one of its code."""

    place = market_of(market)

    async def work(storage: Storage) -> Symbol:
        from jts_storage.domain.checks import composed
        from jts_storage.domain.symbol import Symbol

        symbol = Symbol(composed(code), composed(name), place, sector)
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(symbol)
            await uow.commit()
        return symbol

    _show(with_storage(work), as_json)


@formulas.command("list")
def list_formulas(limit: Limit = 100, after: After = None, as_json: AsJson = False) -> None:
    """List formulas by id."""
    _formulas(with_storage(lambda s: s.formulas.list(limit=limit, after=after)), as_json)


@formulas.command("show")
def show_formula(identity: Id, as_json: AsJson = False) -> None:
    """Show one formula."""
    _show(
        with_storage(lambda s: _found(s.formulas.get_by_id(identity), "formula", identity)), as_json
    )


@formulas.command("search")
def search_formulas(query: SearchText, limit: Limit = 100, as_json: AsJson = False) -> None:
    """Search in names, descriptions and tags."""
    _formulas(with_storage(lambda s: s.formulas.search(query, limit=limit)), as_json)


@strategies.command("list")
def list_strategies(limit: Limit = 100, after: After = None, as_json: AsJson = False) -> None:
    """List strategies by id."""
    _strategies(with_storage(lambda s: s.strategies.list(limit=limit, after=after)), as_json)


@strategies.command("show")
def show_strategy(identity: Id, as_json: AsJson = False) -> None:
    """Show one strategy."""
    _show(
        with_storage(lambda s: _found(s.strategies.get_by_id(identity), "strategy", identity)),
        as_json,
    )


@strategies.command("search")
def search_strategies(
    query: Annotated[str, typer.Argument(help="Part of a name, or the id of a formula.")],
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Find strategies by part of the name, or by a formula that they use."""

    async def work(storage: Storage) -> Sequence[Strategy]:
        # First as the id of a formula, then as part of a name.
        using = await storage.strategies.get_by_formula(query, limit=limit)
        if using:
            return using
        named: list[Strategy] = []
        after: str | None = None
        while len(named) < limit:
            page = await storage.strategies.list(limit=1_000, after=after)
            named += [item for item in page if query.casefold() in item.name.casefold()]
            if len(page) < 1_000:
                break
            after = page[-1].id
        return named[:limit]

    _strategies(with_storage(work), as_json)


@backtests.command("list")
def list_backtests(limit: Limit = 100, after: After = None, as_json: AsJson = False) -> None:
    """List backtest results by id."""
    _backtests(with_storage(lambda s: s.backtests.list(limit=limit, after=after)), as_json)


@backtests.command("show")
def show_backtest(identity: Id, as_json: AsJson = False) -> None:
    """Show one backtest result with its trades."""
    _show(
        with_storage(lambda s: _found(s.backtests.get_by_id(identity), "result", identity)), as_json
    )


@backtests.command("search")
def search_backtests(
    strategy: Annotated[str | None, typer.Option(help="Id of a strategy.")] = None,
    best: Annotated[
        str | None, typer.Option(help="Rank by a metric, such as sharpe_ratio.")
    ] = None,
    limit: Limit = 10,
    as_json: AsJson = False,
) -> None:
    """Find results of a strategy, newest first, or the best by a metric."""

    metric = None if best is None else member(Metric, best, "best")

    async def work(storage: Storage) -> Sequence[BacktestSummary]:
        if metric is not None:
            return await storage.backtests.best(metric, limit=limit, strategy_id=strategy)
        if strategy is not None:
            return await storage.backtests.get_by_strategy(strategy, limit=limit)
        return await storage.backtests.list(limit=limit)

    _backtests(with_storage(work), as_json)


@backtests.command("verify")
def verify_backtest(identity: Id, as_json: AsJson = False) -> None:
    """Tell whether what a backtest saw is still what is stored; exits with 1 if it is not."""

    async def work(storage: Storage) -> Verification:
        try:
            return await storage.backtests.verify(identity)
        except NotFound as exc:
            raise _not_there("result", identity) from exc

    found = with_storage(work)
    if as_json:
        print_json(_verified(found))
    else:
        typer.echo(f"Result {identity}: {found}.")
        if found.differing:
            columns = ["series", "rows", "added", "corrected", "deleted"]
            rows = [(d.key, d.rows, d.added, d.corrected, d.deleted) for d in found.differing]
            print_table(columns, rows)
    if not found.is_same:
        raise typer.Exit(NOT_WELL)


def _verified(found: Verification) -> dict[str, object]:
    return {
        "is_same": found.is_same,
        "is_reproducible": found.is_reproducible,
        "fingerprint": found.fingerprint,
        "commit": found.data_set.commit.version,
        "differing": [
            {
                "series": str(each.key),
                "rows": each.rows,
                "added": each.added,
                "corrected": each.corrected,
                "deleted": each.deleted,
            }
            for each in found.differing
        ],
    }


async def _found(looking: Any, kind: str, name: str) -> Any:
    found = await looking
    if found is None:
        raise _not_there(kind, name)
    return found


def _not_there(kind: str, name: str) -> NotFound:
    return NotFound(f"There is no {kind} {name}.", remedy="`list` shows what there is.")


def _show(entity: Any, as_json: bool) -> None:
    if as_json:
        print_json(entity)
        return
    names = list(type(entity).__dataclass_fields__)
    print_table(["field", "value"], [(name, _text(getattr(entity, name))) for name in names])


def _text(value: Any) -> object:
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or None
    return value if value is None or hasattr(value, "value") else str(value)


def _symbols(found: Sequence[Symbol], as_json: bool) -> None:
    rows = [(s.code, s.name, s.market, s.sector, s.is_active) for s in found]
    print_found(found, ["code", "name", "market", "sector", "active"], rows, as_json)


def _formulas(found: Sequence[Formula], as_json: bool) -> None:
    rows = [(f.id, f.name, f.category, ", ".join(f.tags), f.expression) for f in found]
    print_found(found, ["id", "name", "category", "tags", "expression"], rows, as_json)


def _strategies(found: Sequence[Strategy], as_json: bool) -> None:
    rows = [(s.id, s.name, s.entry_formula_id, s.exit_formula_id, s.version) for s in found]
    print_found(found, ["id", "name", "enters by", "leaves by", "version"], rows, as_json)


def _backtests(found: Sequence[BacktestSummary], as_json: bool) -> None:
    rows = [
        (r.id, r.strategy_id, r.run_at, r.metrics.total_return_pct, r.metrics.sharpe_ratio)
        for r in found
    ]
    print_found(found, ["id", "strategy", "run at", "return %", "Sharpe"], rows, as_json)


def print_found(
    found: Sequence[Any], columns: Sequence[str], rows: Sequence[Sequence[object]], as_json: bool
) -> None:
    if as_json:
        print_json(found)
    elif found:
        print_table(columns, rows)
    else:
        typer.echo("None found.")
