"""What it costs to be observed: the same calls without an observer, with one that only listens,
with metrics, and with metrics and traces, in turn, on the same embedded stores.

What the proxy alone costs is measured first, over a call that does nothing, in processor time of
the thread: of a busy machine that says more than the clock does.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter, thread_time_ns
from typing import Any

from harness import report
from opentelemetry.sdk.trace import TracerProvider

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.observe import Metrics, Observers, Traces
from jts_storage.observe.backend import ObservedBackend
from jts_storage.ports.observation import Call
from jts_storage.testing.factories import make_candles, make_formula

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
MARKET = [SeriesKey(f"{n:06}", Timeframe.M1, "KRX") for n in range(2_500)]
CALLS, COMMITS, RANGES = 200, 9, 2_000
BLOCKS, CALLS_A_BLOCK = 300, 2_000


class Silent:
    """An observer that does nothing: what is left is the proxy."""

    def begin(self, call: Call) -> Silent:
        return self

    def reached(self, step: str) -> None: ...

    def given(self, part: Any) -> None: ...

    def done(self, result: Any) -> None: ...

    def failed(self, error: BaseException) -> None: ...


class Nothing:
    """A backend whose one call does nothing."""

    def __init__(self) -> None:
        self.candles = self

    @property
    def readable(self) -> Nothing:
        return self

    async def get_range(self, *_: object) -> None: ...


async def measure_alone() -> None:
    nothing: Any = Nothing()
    readables: dict[str, Any] = {
        "off": nothing.readable,
        "listening": ObservedBackend(nothing, Silent()).readable,
        "metrics": ObservedBackend(nothing, Metrics()).readable,
    }
    taken: dict[str, list[float]] = {variant: [] for variant in readables}
    for _ in range(BLOCKS):
        for variant, readable in readables.items():
            begun = thread_time_ns()
            for _ in range(CALLS_A_BLOCK):
                await readable.candles.get_range(KEY, None, None)
            taken[variant].append((thread_time_ns() - begun) / CALLS_A_BLOCK / 1_000)
    least, median = min(taken["off"]), statistics.median(taken["off"])
    for variant, each in taken.items():
        report(
            f"a call that does nothing, {variant}",
            microseconds_at_least=round(min(each) - least, 3),
            microseconds_median=round(statistics.median(each) - median, 3),
        )


def variants(backend: StoreBackend) -> dict[str, Storage]:
    """Storages over one backend, which is open."""
    traced = Observers(Metrics(), Traces(TracerProvider()))
    found = {
        "off": Storage(backend),
        "listening": Storage(ObservedBackend(backend, Silent())),
        "metrics": Storage(ObservedBackend(backend, Metrics())),
        "metrics_and_traces": Storage(ObservedBackend(backend, traced)),
    }
    for storage in found.values():
        storage._is_open = True
    return found


async def save_formula(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(replace(make_formula(), name="benchmark"))
        await uow.commit()


async def save_market(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        for key in MARKET:
            await uow.candles.save_many(key, BARS[key])
        await uow.commit()


async def measure(
    name: str,
    storages: dict[str, Storage],
    work: Callable[[Storage], Awaitable[object]],
    runs: int,
) -> None:
    seconds: dict[str, list[float]] = {variant: [] for variant in storages}
    for _ in range(runs):
        for variant, storage in storages.items():
            begun = perf_counter()
            await work(storage)
            seconds[variant].append(perf_counter() - begun)
    medians = {variant: statistics.median(each) * 1e6 for variant, each in seconds.items()}
    for variant, median in medians.items():
        report(
            f"{name}, {variant}",
            microseconds=round(median, 1),
            more=round(median - medians["off"], 1),
        )


BARS = {key: make_candles(key, 1) for key in MARKET}


def main() -> None:
    asyncio.run(measured())


async def measured() -> None:
    await measure_alone()
    with tempfile.TemporaryDirectory() as folder:
        backend = StoreBackend(StorageSettings(data_dir=Path(folder), env_file=None))
        async with Storage(backend):
            storages = variants(backend)
            candles = make_candles(KEY, 390)
            async with storages["off"].unit_of_work() as uow:
                await uow.candles.save_many(KEY, candles)
                await uow.commit()
            start, end = candles[0].timestamp, candles[0].timestamp + timedelta(minutes=390)
            await measure(
                "get_range of 390, held",
                storages,
                lambda storage: storage.candles.get_range(KEY, start, end),
                RANGES,
            )
            await measure("one formula saved", storages, save_formula, CALLS)
            await measure("a commit of 2,500 bars", storages, save_market, COMMITS)


if __name__ == "__main__":
    main()
