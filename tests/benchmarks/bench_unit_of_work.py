"""What a unit of work costs over the same writes without one."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from jts_storage import Formula, Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.domain.events import CandlesImported
from jts_storage.domain.ids import new_document_id
from jts_storage.mongo.documents import FORMULAS
from jts_storage.mongo.mappers import formula_to_document
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_formula

ROWS = 100_000
Work = Callable[[], Awaitable[object]]


async def compare(name: str, ours: Work, floor: Work, runs: int) -> None:
    """Alternate both in one loop and print the medians as one line of JSON."""
    taken: dict[Work, list[float]] = {ours: [], floor: []}
    for run in range(runs + 1):
        for work in (floor, ours) if run % 2 else (ours, floor):
            begin = time.perf_counter()
            await work()
            if run:  # the first is a warm-up
                taken[work].append(time.perf_counter() - begin)
    seconds, bare = (statistics.median(taken[work]) for work in (ours, floor))
    print(
        f'{{"name": "{name}", "seconds": {seconds:.6f}, "floor_seconds": {bare:.6f}, '
        f'"ratio": {seconds / bare:.3f}}}',
        flush=True,
    )


async def measure(storage: Storage, backend: StoreBackend) -> None:
    alone = ClickHouseCandleRepository(backend.stores.clickhouse)
    batches = [make_candles(count=ROWS, seed=seed) for seed in range(2)]
    turn = 0

    def batch() -> object:
        nonlocal turn
        turn += 1
        return batches[turn % 2]

    async def save_many() -> None:
        await alone.save_many(SAMPLE_KEY, batch())

    async def commit_candles() -> None:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(SAMPLE_KEY, batch())
            await uow.commit()

    async def commit_everywhere() -> None:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(SAMPLE_KEY, batch())
            await uow.formulas.save(make_formula())
            await uow.ingestion.checkpoints.save("bench", {"turn": turn})
            uow.events.add(CandlesImported(series=SAMPLE_KEY, rows=ROWS))
            await uow.commit()

    async def commit_formula() -> None:
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            await uow.commit()

    async def bare_transaction() -> None:
        mongo = backend.stores.mongo
        formula: Formula = make_formula(id=new_document_id())
        async with mongo.client.start_session() as session, await session.start_transaction():
            document = formula_to_document(formula).to_stored()
            await mongo.db[FORMULAS].insert_one(document, session=session)

    async def empty() -> None:
        async with storage.unit_of_work():
            pass

    async def nothing() -> None:
        await asyncio.sleep(0)

    await compare("unit of work, 100,000 candles alone", commit_candles, save_many, 15)
    await compare("unit of work, journalled over all stores", commit_everywhere, commit_candles, 15)
    await compare("unit of work, one formula", commit_formula, bare_transaction, 200)
    await compare("unit of work, empty (against one turn of the loop)", empty, nothing, 500)


async def measured() -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = StoreBackend(StorageSettings(data_dir=Path(folder)))
        async with Storage(backend) as storage:
            await measure(storage, backend)


def main() -> None:
    asyncio.run(measured())


if __name__ == "__main__":
    main()
