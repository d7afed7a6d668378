"""Everything that a storage holds, as values to compare."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, overload

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_TIMESTAMP, LAST_TIMESTAMP
from jts_storage.storage import Storage
from jts_storage.sync import Storage as SyncStorage

T = TypeVar("T")
StorageState: TypeAlias = dict[str, Any]
"""Entities by ``kind/name``, such as ``candles/KRX:005930/1m`` or ``formulas/<id>``."""


@overload
def storage_state(
    storage: Storage, *, keys: Iterable[SeriesKey] = ()
) -> Awaitable[StorageState]: ...
@overload
def storage_state(storage: SyncStorage, *, keys: Iterable[SeriesKey] = ()) -> StorageState: ...
def storage_state(
    storage: Storage | SyncStorage, *, keys: Iterable[SeriesKey] = ()
) -> Awaitable[StorageState] | StorageState:
    """What `storage` holds now; two of them compare with ``==`` or, readably, `assert_same`.

    Await it, unless the storage is a blocking one. It reads everything: it is for the amounts of
    data that tests have. Bars and aggregates of the bookkeeping are found for the symbols and
    series that the storage knows, and for `keys`.
    """
    if isinstance(storage, SyncStorage):
        return storage._portal.call(_state(storage._storage, keys))  # noqa: SLF001 - its twin
    return _state(storage, keys)


def _state(storage: Storage, keys: Iterable[SeriesKey]) -> Coroutine[Any, Any, StorageState]:
    return _read(storage, list(keys))


async def _read(storage: Storage, more_keys: list[SeriesKey]) -> StorageState:
    state: StorageState = {}
    stored = await _all(storage.candles.list_keys, lambda key: key)
    for key in stored:
        state[f"candles/{key}"] = await storage.candles.get_range(
            key, FIRST_TIMESTAMP, LAST_TIMESTAMP
        )
    symbols = await _all(storage.symbols.list, lambda symbol: symbol.code)
    state.update({f"symbols/{symbol.code}": symbol for symbol in symbols})
    state.update(await _by_id("formulas", storage.formulas.list))
    state.update(await _by_id("strategies", storage.strategies.list))
    summaries = await _all(storage.backtests.list, lambda summary: summary.id)
    for result in await storage.backtests.get_many(str(each.id) for each in summaries):
        state[f"backtests/{result.id}"] = result
    keys = dict.fromkeys([*stored, *more_keys])
    names = sorted({key.symbol for key in keys} | {symbol.code for symbol in symbols})
    async for name, entity in _bookkeeping(storage, keys, names):
        state[name] = entity
    return state


async def _bookkeeping(
    storage: Storage, keys: Iterable[SeriesKey], symbols: Iterable[str]
) -> AsyncIterator[tuple[str, Any]]:
    books = storage.ingestion
    for key in keys:
        bars = await books.bars.get_range(key, FIRST_TIMESTAMP, LAST_TIMESTAMP)
        if len(bars):
            yield f"bars/{key}", bars
    for symbol in symbols:
        for day in await books.symbol_bars.list(symbol, limit=100_000):
            yield f"symbol_bars/{symbol}/{day.trading_day}", day
    for checkpoint in await _all(books.checkpoints.list, lambda found: found.name):
        yield f"checkpoints/{checkpoint.name}", checkpoint


async def _by_id(kind: str, list_: Callable[..., Awaitable[Sequence[Any]]]) -> StorageState:
    return {f"{kind}/{found.id}": found for found in await _all(list_, lambda entity: entity.id)}


async def _all(
    list_: Callable[..., Awaitable[Sequence[T]]], name_of: Callable[[T], Any]
) -> list[T]:
    found: list[T] = []
    after = None
    while page := await list_(limit=100, after=after):
        found += page
        after = name_of(page[-1])
    return found
