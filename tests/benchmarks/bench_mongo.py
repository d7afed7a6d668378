"""What the MongoDB repositories cost over bare PyMongo doing the same work with dicts by hand.

Both sides use one client and take turns, operation by operation, so that whatever else the machine
does meets both. Prints one JSON object a line; ``ratio`` compares medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bson import ObjectId

from jts_storage.domain.enums import FormulaCategory, ParameterType
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import (
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    ensure_schema,
)

OPERATIONS = 2_000
READ_AT_ONCE = 1_000
BULK_READS = 30
STORED = 2_000
Operation = Callable[[int], Awaitable[Any]]

WORDS = ("golden", "dead", "cross", "moving", "average", "volume", "spike", "rsi", "macd", "gap")
_random = random.Random(1)


def formula(number: int) -> Formula:
    words = _random.sample(WORDS, 4)
    return Formula(
        name=f"{words[0]} {words[1]} w{number % 200}",
        expression=f"{words[0]}(:n) > {words[1]}(:m) and volume > {number}",
        category=FormulaCategory.ENTRY,
        description=f"finds a {words[2]} after a {words[3]}, number {number}",
        tags=(words[2], words[3]),
        parameters=(
            FormulaParameter("n", ParameterType.INT, 14, 1, 200),
            FormulaParameter("m", ParameterType.FLOAT, 2.5, 0.5, 10.0),
        ),
    )


def strategy(number: int) -> Strategy:
    return Strategy(
        name=f"strategy {number}",
        description="enters, leaves, stops",
        entry_formula_id=str(ObjectId()),
        exit_formula_id=str(ObjectId()),
        stop_loss_rule=StopLossRule(percentage=Decimal("2.5")),
        risk_config=RiskConfig(position_size_pct=Decimal("12.5"), max_positions=4),
    )


def by_hand(formula: Formula, now: datetime) -> dict[str, Any]:
    return {
        "name": formula.name,
        "expression": formula.expression,
        "category": formula.category.value,
        "description": formula.description,
        "tags": list(formula.tags),
        "parameters": [
            {
                "name": p.name,
                "dataType": p.data_type.value,
                "defaultValue": p.default_value,
                "minValue": p.min_value,
                "maxValue": p.max_value,
            }
            for p in formula.parameters
        ],
        "updatedAt": now,
    }


def formula_by_hand(d: dict[str, Any]) -> Formula:
    return Formula(
        id=str(d["_id"]),
        name=d["name"],
        expression=d["expression"],
        category=FormulaCategory(d["category"]),
        description=d["description"],
        tags=tuple(d["tags"]),
        parameters=tuple(
            FormulaParameter(
                p["name"],
                ParameterType(p["dataType"]),
                p["defaultValue"],
                p["minValue"],
                p["maxValue"],
            )
            for p in d["parameters"]
        ),
        version=d["version"],
        created_at=d["createdAt"],
        updated_at=d["updatedAt"],
    )


def strategy_by_hand(d: dict[str, Any]) -> Strategy:
    stop, risk = d["stopLossRule"], d["riskConfig"]
    take, loss = risk["takeProfitPct"], risk["maxDailyLossPct"]
    return Strategy(
        id=str(d["_id"]),
        name=d["name"],
        entry_formula_id=str(d["entryFormulaId"]),
        exit_formula_id=str(d["exitFormulaId"]),
        stop_loss_rule=StopLossRule(percentage=Decimal(repr(stop["percentage"]))),
        risk_config=RiskConfig(
            position_size_pct=Decimal(repr(risk["positionSizePct"])),
            max_positions=risk["maxPositions"],
            take_profit_pct=None if take is None else Decimal(repr(take)),
            max_daily_loss_pct=None if loss is None else Decimal(repr(loss)),
        ),
        description=d["description"],
        version=d["version"],
        created_at=d["createdAt"],
        updated_at=d["updatedAt"],
    )


async def compare(name: str, floor: Operation, ours: Operation, operations: int) -> None:
    """Run both by turns and print what they took."""
    times: tuple[list[float], list[float]] = ([], [])
    sides = [(floor, times[0]), (ours, times[1])]
    for number in range(-min(100, operations // 10), operations):
        for operation, taken in sides:
            begin = time.perf_counter()
            await operation(number)
            if number >= 0:
                taken.append(time.perf_counter() - begin)
        sides.reverse()
    floor_seconds, seconds = map(statistics.median, times)
    p99 = statistics.quantiles(times[1], n=100)[98]
    line = {
        "name": f"mongo_{name}",
        "seconds": round(seconds, 7),
        "floor_seconds": round(floor_seconds, 7),
        "ratio": round(seconds / floor_seconds, 3),
        "p99_seconds": round(p99, 7),
        "operations": operations,
    }
    print(json.dumps(line), flush=True)


async def run(uri: str, operations: int) -> None:
    async with MongoDBManager(uri=uri, database="bench") as manager:
        await ensure_schema(manager.db)
        await documents(manager, operations)
        await search(manager, operations)
        await read_at_once(manager)
        await manager.client.drop_database("bench")


async def documents(manager: MongoDBManager, operations: int) -> None:
    raw, repository = manager.get_collection("formulas"), MongoDBFormulaRepository(manager)
    samples = [formula(number) for number in range(200)]

    async def insert_by_hand(number: int) -> None:
        now = datetime.now(UTC)
        await raw.insert_one(
            {"_id": ObjectId(), **by_hand(samples[number % 200], now), "version": 1}
            | {"createdAt": now}
        )

    await compare(
        "formula_save_new",
        insert_by_hand,
        lambda number: repository.save(samples[number % 200]),
        operations,
    )

    stored = await repository.list(limit=2_000)
    text_ids = [str(each.id) for each in stored]
    ids = [ObjectId(each) for each in text_ids]
    count = len(ids)
    await compare(
        "formula_get_by_id",
        lambda number: raw.find_one({"_id": ids[number % count]}),
        lambda number: repository.get_by_id(text_ids[number % count]),
        operations,
    )

    # Each side changes documents of its own, so that versions stay known.
    half = count // 2
    theirs = list(stored[:half])
    mine = list(stored[half:])

    async def update_by_hand(number: int) -> None:
        at = number % half
        old = theirs[at]
        result = await raw.update_one(
            {"_id": ids[at], "version": old.version},
            {"$set": by_hand(old, datetime.now(UTC)), "$inc": {"version": 1}},
        )
        assert result.matched_count == 1
        theirs[at] = replace(old, version=old.version + 1)

    async def update(number: int) -> None:
        at = number % len(mine)
        mine[at] = await repository.save(mine[at])

    await compare("formula_save_changed", update_by_hand, update, operations)


async def search(manager: MongoDBManager, operations: int) -> None:
    raw, repository = manager.get_collection("formulas"), MongoDBFormulaRepository(manager)
    await raw.delete_many({})
    await repository.save_many(formula(number) for number in range(STORED))

    async def by_hand(query: str) -> list[dict[str, Any]]:
        """Whole words by the text index, beginnings by expressions, names first."""
        score = {"$meta": "textScore"}
        words = query.lower().split()
        phrases = " ".join(f'"{word}"' for word in words)
        found = await raw.find(
            {"$text": {"$search": phrases}}, {"s": score}, sort=[("s", score)], limit=100
        ).to_list()
        seen = {document["_id"] for document in found}
        fields = ("name", "description", "tags")
        begins = [
            {"$or": [{f: {"$regex": rf"\b{re.escape(w)}", "$options": "i"}} for f in fields]}
            for w in words
        ]
        more = await raw.find({"$and": begins}, sort=[("_id", 1)], hint=[("$natural", 1)]).to_list()
        found += [document for document in more if document["_id"] not in seen]
        in_name = [all(w in d["name"].lower() for w in words) for d in found]
        order = sorted(range(len(found)), key=lambda at: not in_name[at])
        return [found[at] for at in order[:100]]

    queries = [f"w{number}" for number in range(100, 200)]
    for query in queries[:20]:
        expected = {document["_id"] for document in await by_hand(query)}
        assert {ObjectId(str(f.id)) for f in await repository.search(query)} == expected
    await compare(
        "formula_search",
        lambda number: by_hand(queries[number % len(queries)]),
        lambda number: repository.search(queries[number % len(queries)]),
        operations,
    )


async def read_at_once(manager: MongoDBManager) -> None:
    formulas, strategies = MongoDBFormulaRepository(manager), MongoDBStrategyRepository(manager)
    await manager.get_collection("formulas").delete_many({})
    await formulas.save_many(formula(number) for number in range(READ_AT_ONCE))
    await strategies.save_many(strategy(number) for number in range(READ_AT_ONCE))
    for name, repository, decode in (
        ("formulas", formulas, formula_by_hand),
        ("strategies", strategies, strategy_by_hand),
    ):
        raw = manager.get_collection(name)

        async def by_hand(_: int, raw: Any = raw, decode: Any = decode) -> list[Any]:
            return [decode(each) for each in await raw.find(sort=[("_id", 1)]).to_list()]

        async def ours(_: int, repository: Any = repository) -> Any:
            return await repository.list(limit=READ_AT_ONCE)

        assert await by_hand(0) == await ours(0)
        await compare(f"{name}_read_{READ_AT_ONCE}", by_hand, ours, BULK_READS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--uri", help="a server that may be written to; else a local mongod")
    given = parser.parse_args()
    if given.uri:
        asyncio.run(run(given.uri, given.operations))
        return
    with tempfile.TemporaryDirectory() as folder, LocalMongod.acquire(folder) as server:
        asyncio.run(run(server.uri, given.operations))


if __name__ == "__main__":
    main()
