"""Reads everything that is stored, once every commit is recovered and every event delivered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from jts_storage import Checkpoint, Storage, StorageSettings, Symbol
from jts_storage.errors import StorageError
from tests import declared
from tests.histories.history import Final
from tests.histories.process import Records, note_deliveries
from tests.histories.scene import MODELS, Scene, appended, last, moment, row_of

E = TypeVar("E")
_PAGE = 1_000
_FAR = moment(100_000_000)


async def read_all(
    settings: StorageSettings, scene: Scene, records: Records, *, patience: float
) -> Final:
    storage = Storage.open(settings, models=MODELS)
    note_deliveries(storage, records, scene.name)
    async with storage:
        return await read_from(storage, scene, patience=patience)


async def read_from(storage: Storage, scene: Scene, *, patience: float = 30.0) -> Final:
    unfinished = await _unfinished(storage, patience)
    found: list[tuple[str, int]] = []
    lists: dict[str, tuple[int, ...]] = {}
    refers: dict[str, tuple[str, ...]] = {}
    await _documents(storage, scene, found, lists, refers)
    await _bookkeeping(storage, scene, found, lists)
    await _series(storage, scene, found)
    await _declared(storage, scene, found, lists)
    return Final(tuple(found), lists, refers, unfinished)


async def _unfinished(storage: Storage, patience: float) -> str:
    """Wait until nothing is unfinished and no event waits; what is left all the same, in words."""
    give_up = time.monotonic() + patience
    trouble = ""
    while time.monotonic() < give_up:
        try:
            await storage.recover()
        except StorageError as error:
            trouble = str(error)
        health = await storage.health()
        if health.is_well and not health.unfinished and not health.waiting_events:
            parked = health.parked_events
            return f"{parked} events are parked, though no handler fails" if parked else ""
        await asyncio.sleep(0.2)
    return (
        f"after {patience:.0f} s {health.unfinished} commits are unfinished and "
        f"{health.waiting_events} events wait; {trouble}"
    )


async def _pages(read: Callable[..., Any], key: Callable[[E], Any]) -> list[E]:
    found: list[E] = []
    while True:
        page = await read(limit=_PAGE, after=key(found[-1]) if found else None)
        found += page
        if len(page) < _PAGE:
            return found


async def _documents(
    storage: Storage,
    scene: Scene,
    found: list[tuple[str, int]],
    lists: dict[str, tuple[int, ...]],
    refers: dict[str, tuple[str, ...]],
) -> None:
    tagged = await storage.formulas.get_by_tag(scene.name)
    stored = {formula.id or "": formula for formula in tagged}
    for identity in scene.ledgers:
        ledger = await storage.formulas.get_by_id(identity)
        if ledger is not None:
            stored[identity] = ledger
    for identity, formula in stored.items():
        _list(f"formula:{identity}", appended(formula.expression), found, lists)
    for identity in scene.strategies:
        strategy = await storage.strategies.get_by_id(identity)
        if strategy is not None:
            name = f"strategy:{identity}"
            _list(name, appended(strategy.description), found, lists)
            refers[name] = tuple(strategy.formula_ids)


async def _bookkeeping(
    storage: Storage,
    scene: Scene,
    found: list[tuple[str, int]],
    lists: dict[str, tuple[int, ...]],
) -> None:
    prefix = scene.own("")
    checkpoints: list[Checkpoint] = await _pages(
        storage.ingestion.checkpoints.list, lambda checkpoint: checkpoint.name
    )
    for checkpoint in checkpoints:
        if checkpoint.name.startswith(prefix):
            name = f"checkpoint:{checkpoint.name.removeprefix(prefix)}"
            _list(name, list(checkpoint.data["appended"]), found, lists)
    found += [
        (f"aggregate:{(bars.trading_day - scene.day(0)).days}", bars.bar_count)
        for bars in await storage.ingestion.symbol_bars.list(scene.own("A"))
    ]


async def _series(storage: Storage, scene: Scene, found: list[tuple[str, int]]) -> None:
    for series in scene.series:
        key = scene.series_key(series)
        for kind, stored in (("candle", storage.candles), ("bar", storage.ingestion.bars)):
            rows = await stored.get_range(key, moment(0), _FAR)
            columns = zip(rows.columns.timestamp.tolist(), rows.columns.volume, strict=True)
            here = [(f"{kind}:{series}/{row_of(at)}", int(volume)) for at, volume in columns]
            found += here
    prefix = scene.own("")
    symbols: list[Symbol] = await _pages(storage.symbols.list, lambda symbol: symbol.code)
    for symbol in symbols:
        if symbol.code.startswith(prefix):
            found.append((f"symbol:{symbol.code.removeprefix(prefix)}", int(symbol.name)))


async def _declared(
    storage: Storage,
    scene: Scene,
    found: list[tuple[str, int]],
    lists: dict[str, tuple[int, ...]],
) -> None:
    for identity in scene.orders:
        order = await storage.repository(declared.orders).get(identity)
        if order is not None:
            _list(f"order:{identity}", appended(order.symbol), found, lists)
    prefix = scene.own("")
    found += [
        (f"balance:{balance.account.removeprefix(prefix)}", int(balance.cash))
        for balance in await storage.repository(declared.balances).list()
        if balance.account.startswith(prefix)
    ]
    found += [
        (f"figure:{figure.symbol.removeprefix(prefix)}", int(figure.eps or 0))
        for figure in await storage.repository(declared.fundamentals).list()
        if figure.symbol.startswith(prefix)
    ]
    ticks = await storage.repository(declared.ticks).read(
        where=lambda c: c.symbol == scene.own("A"), columns=["size"]
    )
    found += [(f"tick:{size}", size) for size in ticks.column("size").to_pylist()]


def _list(
    name: str,
    values: list[int],
    found: list[tuple[str, int]],
    lists: dict[str, tuple[int, ...]],
) -> None:
    found.append((name, last(values)))
    lists[name] = tuple(values)
