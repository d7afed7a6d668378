"""What a client of an earlier release does, run with that release: each step as it was then."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe, new_unit_id
from jts_storage.domain.events import CandlesImported
from jts_storage.testing.factories import (
    make_backtest,
    make_candles,
    make_formula,
    make_strategy,
    make_symbol,
)

KEY = SeriesKey("005930", Timeframe.M1, "KRX")


async def main(url: str) -> None:
    heard: list[str] = []
    async with Storage.open(StorageSettings(url=url, env_file=None)) as storage:
        storage.events.register_handler(CandlesImported, lambda event: heard.append(event.id))
        unit_id = new_unit_id()
        candles = make_candles(KEY, 500)
        async with storage.unit_of_work(id=unit_id) as uow:
            await uow.candles.save_many(KEY, candles)
            await uow.symbols.save(make_symbol(KEY.symbol))
            formula = await uow.formulas.save(make_formula())
            strategy = await uow.strategies.save(make_strategy())
            assert strategy.id is not None
            result = await uow.backtests.save(make_backtest(strategy.id))
            await uow.ingestion.checkpoints.save("feed", {"at": 1})
            uow.events.add(CandlesImported(series=KEY, rows=500))
            commit = (await uow.commit()).commit
        assert commit is not None
        outcome = await storage.outcome(unit_id)
        assert outcome.is_committed
        assert outcome.commit == commit
        assert len(heard) == 1
        end = candles[-1].timestamp
        assert await storage.candles.get_range(KEY, candles[0].timestamp, end) == candles
        blocks = [
            block
            async for block in storage.candles.stream(KEY, candles[0].timestamp, end, block_rows=99)
        ]
        assert sum(map(len, blocks)) == 500
        assert list(await storage.formulas.list()) == [formula]
        assert await storage.backtests.get_by_id(result.id or "") == result
        assert [trade async for trade in storage.backtests.trades(result.id or "")] == [
            *result.trades
        ]
        async with storage.unit_of_work() as uow:  # small, and without documents
            await uow.candles.save_many(KEY, candles[:1])
            await uow.ingestion.checkpoints.save("feed", {"at": 2})
            await uow.commit()
        assert await storage.candles.count(KEY) == 500
        view = await storage.as_of(commit)
        assert await view.candles.get_coverage(KEY) == (candles[0].timestamp, end)
        async with storage.subscribe("scanner", CandlesImported, from_="now") as events:
            async with storage.unit_of_work() as uow:
                uow.events.add(CandlesImported(series=KEY, rows=1))
                await uow.commit()
            assert await events.next(within=30) is not None
            await events.acknowledge()
        health = await storage.health()
        assert health.is_well
        assert health.oldest is None or isinstance(health.oldest, timedelta)
    sys.stdout.write("as it was\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
