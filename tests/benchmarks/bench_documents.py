"""What documents cost: bare PyMongo, Beanie used plainly and the repositories, side by side.

The three take turns within one process and on one client, so that whatever else the machine does
meets all of them. Bare PyMongo reads dicts and makes nothing of them, and writes dicts that are
made by hand of the same entities. Prints one JSON object a line: seconds are medians, `to_bare`
and `to_beanie` how many times theirs the repositories take.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bench_mongo import by_hand, formula, strategy
from bson import Decimal128, ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.domain.backtest import BacktestConfig, BacktestMetrics, BacktestResult, Trade
from jts_storage.domain.enums import Metric, TradeSide
from jts_storage.domain.formula import Formula
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import (
    Documents,
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    ensure_schema,
)
from jts_storage.mongo.transaction import Transaction

ROUNDS = 15
LISTED = 1_000
TRADES = 10_000
RUNS, TRADES_A_RUN = 50, 1_000
START = datetime(2024, 1, 2, tzinfo=UTC)
Work = Callable[[], Awaitable[object]]


class Sides:
    """The three ways to one database."""

    def __init__(self, manager: MongoDBManager, documents: Documents) -> None:
        self.manager = manager
        self.documents = documents
        self.formulas = MongoDBFormulaRepository(manager)
        self.strategies = MongoDBStrategyRepository(manager)
        self.backtests = MongoDBBacktestResultRepository(manager)

    def raw(self, name: str) -> Any:
        return self.manager.get_collection(name)

    async def empty(self) -> None:
        for name in ("formulas", "strategies", "backtest_results", "backtest_trades"):
            await self.raw(name).delete_many({})


def inserted_by_hand(each: Formula) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"_id": ObjectId(), **by_hand(each, now), "version": 1, "createdAt": now}


def for_beanie(documents: Documents, each: Formula) -> Any:
    now = datetime.now(UTC)
    return documents.formulas(
        name=each.name,
        expression=each.expression,
        category=each.category,
        description=each.description,
        tags=list(each.tags),
        parameters=[
            {
                "name": p.name,
                "data_type": p.data_type,
                "default_value": p.default_value,
                "min_value": p.min_value,
                "max_value": p.max_value,
            }
            for p in each.parameters
        ],
        created_at=now,
        updated_at=now,
    )


def backtest(trades: int) -> BacktestResult:
    """Prices and profits that are all different, as they are in practice."""
    return BacktestResult(
        strategy_id="c" * 24,
        run_at=START,
        config=BacktestConfig(
            start_date=START,
            end_date=START + timedelta(days=365),
            symbols=("005930", "000660"),
            initial_capital=Decimal(10_000_000),
        ),
        metrics=BacktestMetrics(sharpe_ratio=1.25, win_rate=0.55, total_trades=trades),
        trades=tuple(
            Trade(
                symbol="005930",
                side=TradeSide.BUY,
                entry_time=START + timedelta(minutes=number),
                entry_price=Decimal(700_000_000 + 37 * number).scaleb(-4),
                quantity=Decimal("1.5"),
                exit_time=START + timedelta(minutes=number + 7),
                exit_price=Decimal(700_001_234 + 41 * number).scaleb(-4),
                pnl=Decimal(1_234 + 4 * number).scaleb(-4),
                exit_reason="stop",
            )
            for number in range(trades)
        ),
    )


def backtest_by_hand(result: BacktestResult) -> dict[str, Any]:
    config, metrics = result.config, result.metrics
    return {
        "_id": ObjectId(),
        "strategyId": ObjectId(result.strategy_id),
        "runAt": result.run_at,
        "config": {
            "startDate": config.start_date,
            "endDate": config.end_date,
            "symbols": list(config.symbols),
            "initialCapital": Decimal128(config.initial_capital),
        },
        "metrics": {"sharpeRatio": metrics.sharpe_ratio, "winRate": metrics.win_rate},
        "trades": [
            {
                "symbol": t.symbol,
                "side": t.side.value,
                "entryTime": t.entry_time,
                "entryPrice": Decimal128(t.entry_price),
                "exitTime": t.exit_time,
                "exitPrice": None if t.exit_price is None else Decimal128(t.exit_price),
                "quantity": float(t.quantity),
                "pnl": None if t.pnl is None else Decimal128(t.pnl),
                "exitReason": t.exit_reason,
            }
            for t in result.trades
        ],
    }


def backtest_for_beanie(documents: Documents, result: BacktestResult) -> Any:
    config, metrics = result.config, result.metrics
    return documents.backtest_results(
        strategy_id=ObjectId(result.strategy_id),
        run_at=result.run_at,
        config={
            "start_date": config.start_date,
            "end_date": config.end_date,
            "symbols": list(config.symbols),
            "initial_capital": config.initial_capital,
        },
        metrics={"sharpe_ratio": metrics.sharpe_ratio, "win_rate": metrics.win_rate},
        trades=[
            {
                "symbol": t.symbol,
                "side": t.side,
                "entry_time": t.entry_time,
                "entry_price": t.entry_price,
                "exit_time": t.exit_time,
                "exit_price": t.exit_price,
                "quantity": float(t.quantity),
                "pnl": t.pnl,
                "exit_reason": t.exit_reason,
            }
            for t in result.trades
        ],
    )


async def compare(name: str, bare: Work, beanie: Work, ours: Work, rounds: int) -> None:
    times: dict[str, list[float]] = {"bare": [], "beanie": [], "ours": []}
    sides = [("bare", bare), ("beanie", beanie), ("ours", ours)]
    for number in range(-2, rounds):
        for side, work in sides:
            gc.collect()
            begin = time.perf_counter()
            result = await work()
            seconds = time.perf_counter() - begin
            del result
            if number >= 0:
                times[side].append(seconds)
        sides.append(sides.pop(0))
    medians = {side: statistics.median(taken) for side, taken in times.items()}
    line = {
        "name": f"documents_{name}",
        "seconds": round(medians["ours"], 6),
        "bare_seconds": round(medians["bare"], 6),
        "beanie_seconds": round(medians["beanie"], 6),
        "to_bare": round(medians["ours"] / medians["bare"], 2),
        "to_beanie": round(medians["ours"] / medians["beanie"], 2),
    }
    print(json.dumps(line), flush=True)


async def lists(sides: Sides, rounds: int) -> None:
    await sides.formulas.save_many(map(formula, range(LISTED)))
    await sides.strategies.save_many(map(strategy, range(LISTED)))
    for name, repository, documents in (
        ("formulas", sides.formulas, sides.documents.formulas),
        ("strategies", sides.strategies, sides.documents.strategies),
    ):
        raw = sides.raw(name)
        assert len(await repository.list(limit=LISTED)) == LISTED
        await compare(
            f"list_{LISTED}_{name}",
            lambda raw=raw: raw.find(sort=[("_id", 1)], batch_size=LISTED).to_list(),  # type: ignore[misc]
            lambda documents=documents: documents.find(  # type: ignore[misc]
                sort="_id", batch_size=LISTED
            ).to_list(),
            lambda repository=repository: repository.list(limit=LISTED),  # type: ignore[misc]
            rounds,
        )


async def single(sides: Sides, rounds: int) -> None:
    samples = [formula(number) for number in range(100)]
    raw, documents = sides.raw("formulas"), sides.documents

    async def bare() -> None:
        for each in samples:
            await raw.insert_one(inserted_by_hand(each))

    async def beanie() -> None:
        for each in samples:
            await for_beanie(documents, each).insert()

    async def ours() -> None:
        for each in samples:
            await sides.formulas.save(each)

    await compare("save_new_x100", bare, beanie, ours, rounds)

    stored = [str(each.id) for each in await sides.formulas.list(limit=100)]

    async def get_bare() -> None:
        for each in stored:
            await raw.find_one({"_id": ObjectId(each)})

    async def get_beanie() -> None:
        for each in stored:
            await documents.formulas.get(each)

    async def get_ours() -> None:
        for each in stored:
            await sides.formulas.get_by_id(each)

    await compare("get_by_id_x100", get_bare, get_beanie, get_ours, rounds)


async def changes(sides: Sides, rounds: int) -> None:
    raw, documents = sides.raw("formulas"), sides.documents
    everything = list(await sides.formulas.save_many(map(formula, range(300))))
    theirs, ours_now = everything[:100], everything[200:]
    of_beanie = [await documents.formulas.get(each.id) for each in everything[100:200]]
    versions = [1] * len(theirs)

    async def bare() -> None:
        for at, each in enumerate(theirs):
            result = await raw.update_one(
                {"_id": ObjectId(each.id), "version": versions[at]},
                {"$set": by_hand(each, datetime.now(UTC)), "$inc": {"version": 1}},
            )
            assert result.matched_count == 1
            versions[at] += 1

    async def beanie() -> None:
        for each in of_beanie:
            assert each is not None
            each.version += 1
            await each.replace()

    async def ours() -> None:
        for at, each in enumerate(ours_now):
            ours_now[at] = await sides.formulas.save(each)

    await compare("save_changed_x100", bare, beanie, ours, rounds)


async def many(sides: Sides, rounds: int) -> None:
    samples = [formula(number) for number in range(LISTED)]
    raw, documents = sides.raw("formulas"), sides.documents
    await compare(
        f"save_many_{LISTED}",
        lambda: raw.insert_many([inserted_by_hand(each) for each in samples]),
        lambda: documents.formulas.insert_many([for_beanie(documents, each) for each in samples]),
        lambda: sides.formulas.save_many(samples),
        rounds,
    )

    @asynccontextmanager
    async def transaction() -> AsyncIterator[AsyncClientSession]:
        async with sides.manager.client.start_session() as session:
            await session.start_transaction()
            yield session
            await session.commit_transaction()

    async def bare() -> None:
        async with transaction() as session:
            for each in samples:
                await raw.insert_one(inserted_by_hand(each), session=session)

    async def beanie() -> None:
        async with transaction() as session:
            for each in samples:
                await for_beanie(documents, each).insert(session=session)

    async def ours() -> None:
        async with transaction() as session:
            repository = MongoDBFormulaRepository(sides.manager, Transaction(session))
            for each in samples:
                await repository.save(each)

    await compare(f"save_{LISTED}_in_a_transaction", bare, beanie, ours, rounds)


async def one_backtest(sides: Sides, rounds: int) -> None:
    result = backtest(TRADES)
    raw, documents = sides.raw("backtest_results"), sides.documents
    await compare(
        f"save_backtest_{TRADES}",
        lambda: raw.insert_one(backtest_by_hand(result)),
        lambda: backtest_for_beanie(documents, result).insert(),
        lambda: sides.backtests.save(result),
        rounds,
    )
    await sides.empty()
    saved = await sides.backtests.save(result)
    assert await sides.backtests.get_by_id(str(saved.id)) == saved
    await compare(
        f"get_backtest_{TRADES}",
        lambda: raw.find_one({"_id": ObjectId(saved.id)}),
        lambda: documents.backtest_results.get(saved.id),
        lambda: sides.backtests.get_by_id(str(saved.id)),
        rounds,
    )


async def many_backtests(sides: Sides, rounds: int) -> None:
    await sides.empty()
    for _ in range(RUNS):
        await sides.backtests.save(backtest(TRADES_A_RUN))
    raw, documents = sides.raw("backtest_results"), sides.documents
    no_trades = {"trades": 0}
    await compare(
        f"list_{RUNS}_backtests",
        lambda: raw.find({}, no_trades, sort=[("_id", 1)]).to_list(),
        lambda: documents.backtest_results.find(sort="_id").to_list(),
        lambda: sides.backtests.list(limit=RUNS),
        rounds,
    )
    by_ratio = [("metrics.sharpeRatio", -1), ("runAt", -1), ("_id", -1)]
    await compare(
        f"best_10_of_{RUNS}_backtests",
        lambda: raw.find({}, no_trades, sort=by_ratio, limit=10).to_list(),
        lambda: documents.backtest_results.find(sort=by_ratio, limit=10).to_list(),
        lambda: sides.backtests.best(Metric.SHARPE_RATIO),
        rounds,
    )


async def run(uri: str, rounds: int) -> None:
    async with MongoDBManager(uri=uri, database="bench_documents") as manager:
        await ensure_schema(manager.db)
        sides = Sides(manager, await manager.documents())
        await sides.empty()
        for part in (lists, single, changes, many, one_backtest, many_backtests):
            await part(sides, rounds)
            await sides.empty()
        await manager.client.drop_database("bench_documents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--uri", help="a server that may be written to; else a local mongod")
    given, _ = parser.parse_known_args()
    if given.uri:
        asyncio.run(run(given.uri, given.rounds))
        return
    with tempfile.TemporaryDirectory() as folder, LocalMongod.acquire(folder) as server:
        asyncio.run(run(server.uri, given.rounds))


if __name__ == "__main__":
    main()
