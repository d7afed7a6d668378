"""Random units of work over a scene, which note what they read and what they are to write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Any, Protocol

from jts_storage import CandleSeries, Formula, FormulaCategory, Market, Storage, Symbol, SymbolBars
from jts_storage.ports import UnitOfWork
from tests import declared
from tests.declared import Balance, Fundamental, Tick
from tests.histories.history import How, Read, Write, store_of
from tests.histories.scene import (
    SHARED_ROWS,
    Happened,
    Scene,
    appended,
    as_text,
    candle,
    last,
    moment,
    own_row,
    row_of,
)

MOST_FORMULAS = 5


@dataclass(slots=True)
class Notes:
    """What one attempt of a unit of work read and wrote."""

    tx: int
    client: str
    reads: list[Read] = field(default_factory=list)
    writes: dict[str, Write] = field(default_factory=dict)
    events: list[tuple[str, int]] = field(default_factory=list)

    def saw(
        self, began: float, values: Mapping[str, int], lengths: Mapping[str, int] | None = None
    ) -> None:
        ended = time.monotonic()
        self.reads.append(Read(self.client, began, ended, values, self.tx, lengths or {}))

    def wrote(self, name: str, how: How, replaced: int = 0, *refers: str | None) -> None:
        used = tuple(formula for formula in refers if formula)
        before = self.writes.get(name)
        erased = before is not None and how == "put" and (before.erased or before.how == "erase")
        self.writes[name] = Write(name, how, replaced, used, erased)

    @property
    def stores(self) -> set[str]:
        return {store_of(name) for name in self.writes}


class Bars(Protocol):
    """What candles and raw bars have in common."""

    async def get_range(self, key: Any, start: Any, end: Any) -> CandleSeries: ...


def rows_seen(kind: str, series: str, found: CandleSeries) -> dict[str, int]:
    """Each shared row with the transaction that wrote it, 0 where there is none."""
    stored = zip(found.columns.timestamp.tolist(), found.columns.volume.tolist(), strict=True)
    values = {f"{kind}:{series}/{row}": 0 for row in range(SHARED_ROWS)}
    return values | {f"{kind}:{series}/{row_of(at)}": int(volume) for at, volume in stored}


class Unit:
    """One attempt of a unit of work."""

    def __init__(
        self, scene: Scene, storage: Storage, uow: UnitOfWork, notes: Notes, choice: Random
    ) -> None:
        self.scene = scene
        self.storage = storage
        self.uow = uow
        self.notes = notes
        self.choice = choice

    async def run(self, kinds: list[str]) -> None:
        for kind in kinds:
            await ACTIONS[kind](self)
            await asyncio.sleep(0)  # in memory, nothing else lets the others in
        await self._leave_traces()

    async def _leave_traces(self) -> None:
        """What only this unit writes: whether it is there shows whether the unit is whole."""
        tx, kinds = self.notes.tx, {name.partition(":")[0] for name in self.notes.writes}
        if "candle" in kinds and self.choice.random() < 0.7:
            await self._put_rows("candle", self.scene.series[0], [own_row(tx)])
        if "symbol" in kinds and self.choice.random() < 0.5:
            await self._put_symbol(f"T{tx}")
        if "bookkeeping" in self.notes.stores and self.choice.random() < 0.7:
            name = f"T{tx}"
            await self.uow.ingestion.checkpoints.save(self.scene.own(name), {"appended": [tx]})
            self.notes.wrote(f"checkpoint:{name}", "append")

    async def ledger(self) -> None:
        """Sometimes what it changes was read before, outside: its version tells whether it may."""
        is_held = self.choice.random() < 0.3
        await self._append_to_formula(self.choice.choice(self.scene.ledgers), is_held=is_held)

    async def _append_to_formula(self, identity: str, *, is_held: bool = False) -> None:
        name, began = f"formula:{identity}", time.monotonic()
        if name in self.notes.writes:
            return
        stored = self.storage.formulas if is_held else self.uow.formulas
        formula = await stored.get_by_id(identity)
        if formula is None:
            return
        values = appended(formula.expression)
        if not is_held:
            self.notes.saw(began, {name: last(values)}, {name: len(values)})
        changed = replace(formula, expression=as_text([*values, self.notes.tx]))
        self.notes.wrote(name, "append", last(values))
        await self.uow.formulas.save(changed)

    async def _formulas(self) -> list[str]:
        """Ids of the formulas that come and go, without those of this unit."""
        began = time.monotonic()
        found = await self.uow.formulas.get_by_tag(self.scene.name)
        lists = {
            f"formula:{formula.id}": appended(formula.expression)
            for formula in found
            if f"formula:{formula.id}" not in self.notes.writes
        }
        self.notes.saw(
            began,
            {name: last(values) for name, values in lists.items()},
            {name: len(values) for name, values in lists.items()},
        )
        self._last = {name.partition(":")[2]: last(values) for name, values in lists.items()}
        return sorted(self._last)

    async def formula(self) -> None:
        ids = await self._formulas()
        if len(ids) < 2 or (len(ids) < MOST_FORMULAS and self.choice.random() < 0.4):
            await self._make_formula()
        elif len(ids) >= MOST_FORMULAS or self.choice.random() < 0.5:
            await self._delete_formula(self.choice.choice(ids))
        else:
            await self._append_to_formula(self.choice.choice(ids))

    async def _make_formula(self) -> None:
        made = await self.uow.formulas.save(
            Formula(
                name=f"made by {self.notes.tx}",
                expression=as_text([self.notes.tx]),
                category=FormulaCategory.ENTRY,
                tags=(self.scene.name,),
            )
        )
        self.notes.wrote(f"formula:{made.id}", "append")

    async def _delete_formula(self, identity: str) -> None:
        if not await self.uow.strategies.get_by_formula(identity):
            self.notes.wrote(f"formula:{identity}", "remove", self._last[identity])
            if not await self.uow.formulas.delete(identity):
                del self.notes.writes[f"formula:{identity}"]

    async def strategy(self) -> None:
        ids = await self._formulas()
        identity = self.choice.choice(self.scene.strategies)
        name, began = f"strategy:{identity}", time.monotonic()
        if name in self.notes.writes:
            return
        strategy = await self.uow.strategies.get_by_id(identity)
        assert strategy is not None
        values = appended(strategy.description)
        self.notes.saw(began, {name: last(values)}, {name: len(values)})
        used = self.choice.choice(ids) if ids and self.choice.random() < 0.6 else None
        self.notes.wrote(name, "append", last(values), used)
        changed = replace(strategy, description=as_text([*values, self.notes.tx]))
        await self.uow.strategies.save(replace(changed, entry_formula_id=used))

    async def candles(self) -> None:
        await self._rows("candle", self.uow.candles)

    async def bars(self) -> None:
        await self._rows("bar", self.uow.ingestion.bars)

    async def _rows(self, kind: str, stored: Any) -> None:
        series = self.choice.choice(self.scene.series)
        first = self.choice.randrange(SHARED_ROWS - 1)
        rows = range(first, self.choice.randrange(first, SHARED_ROWS) + 1)
        key = self.scene.series_key(series)
        written = any(name.startswith(f"{kind}:{series}/") for name in self.notes.writes)
        if not written and self.choice.random() < 0.4:
            began = time.monotonic()
            found = await stored.get_range(key, moment(0), moment(SHARED_ROWS - 1))
            self.notes.saw(began, rows_seen(kind, series, found))
        if self.choice.random() < 0.25:
            for row in rows:
                self.notes.wrote(f"{kind}:{series}/{row}", "erase")
            await stored.delete_range(key, moment(rows[0]), moment(rows[-1]))
        else:
            await self._put_rows(kind, series, list(rows))

    async def _put_rows(self, kind: str, series: str, rows: list[int]) -> None:
        stored = self.uow.candles if kind == "candle" else self.uow.ingestion.bars
        for row in rows:
            self.notes.wrote(f"{kind}:{series}/{row}", "put")
        key = self.scene.series_key(series)
        await stored.save_many(key, [candle(row, self.notes.tx) for row in rows])

    async def symbol(self) -> None:
        await self._put_symbol(self.choice.choice(self.scene.symbols))

    async def _put_symbol(self, code: str) -> None:
        self.notes.wrote(f"symbol:{code}", "put")
        symbol = Symbol(self.scene.own(code), str(self.notes.tx), Market.KOSPI)
        await self.uow.symbols.save(symbol)

    async def checkpoint(self) -> None:
        """Read and saved, or updated: both are to lose nothing."""
        name = self.choice.choice(self.scene.checkpoints)
        noted, stored = f"checkpoint:{name}", self.uow.ingestion.checkpoints
        if noted in self.notes.writes:
            return
        began = time.monotonic()

        def change(data: Mapping[str, Any] | None) -> Mapping[str, Any]:
            values = list(data["appended"]) if data else []
            self.notes.saw(began, {noted: last(values)}, {noted: len(values)} if values else {})
            self.notes.wrote(noted, "append", last(values))
            return {"appended": [*values, self.notes.tx]}

        if self.choice.random() < 0.5:
            await stored.update(self.scene.own(name), change)
        else:
            found = await stored.get(self.scene.own(name))
            await asyncio.sleep(0)
            await stored.save(self.scene.own(name), change(found.data if found else None))

    async def aggregate(self) -> None:
        number = self.choice.randrange(self.scene.days)
        name, began = f"aggregate:{number}", time.monotonic()
        if name in self.notes.writes:
            return
        symbol, day = self.scene.own("A"), self.scene.day(number)
        found = await self.uow.ingestion.symbol_bars.get(symbol, day)
        value = found.bar_count if found else 0
        self.notes.saw(began, {name: value})
        if found and self.choice.random() < 0.2:
            self.notes.wrote(name, "remove", value)
            await self.uow.ingestion.symbol_bars.delete(symbol, day)
        else:
            state = found or SymbolBars(symbol, day)
            self.notes.wrote(name, "append", value)
            await self.uow.ingestion.symbol_bars.save(
                replace(state, collection_started=True, bar_count=self.notes.tx)
            )

    async def order(self) -> None:
        """A document of a declared model, changed as a ledger is."""
        identity = self.choice.choice(self.scene.orders)
        name, began = f"order:{identity}", time.monotonic()
        if name in self.notes.writes:
            return
        stored = self.uow.repository(declared.orders)
        order = await stored.get(identity)
        assert order is not None
        values = appended(order.symbol)
        self.notes.saw(began, {name: last(values)}, {name: len(values)})
        self.notes.wrote(name, "append", last(values))
        await stored.save(replace(order, symbol=as_text([*values, self.notes.tx])))

    async def balance(self) -> None:
        """A record of a declared model, changed as an aggregate is."""
        account = self.choice.choice(self.scene.accounts)
        name, began = f"balance:{account}", time.monotonic()
        if name in self.notes.writes:
            return
        stored = self.uow.repository(declared.balances)
        found = await stored.get(self.scene.own(account))
        value = int(found.cash) if found else 0
        self.notes.saw(began, {name: value})
        if found and self.choice.random() < 0.2:
            self.notes.wrote(name, "remove", value)
            await stored.delete(self.scene.own(account))
        else:
            self.notes.wrote(name, "append", value)
            version = found.version if found else 0
            cash = Decimal(self.notes.tx)
            await stored.save(Balance(self.scene.own(account), cash, moment(0), version))

    async def figure(self) -> None:
        """A row of a declared table, replaced as a symbol is."""
        name = self.choice.choice(self.scene.figures)
        self.notes.wrote(f"figure:{name}", "put")
        figure = Fundamental(self.scene.own(name), self.scene.day(0), Decimal(self.notes.tx))
        await self.uow.repository(declared.fundamentals).save(figure)

    async def tick(self) -> None:
        """A row that is appended; what is appended twice is found twice."""
        name = f"tick:{self.notes.tx}"
        if name in self.notes.writes:
            return
        self.notes.wrote(name, "put")
        tick = Tick(self.scene.own("A"), moment(0), Decimal(1), self.notes.tx)
        await self.uow.repository(declared.ticks).append([tick])

    async def event(self) -> None:
        name = self.choice.choice(self.scene.keys)
        first = sum(key == name for key, _ in self.notes.events)
        for number in range(first, first + self.choice.randint(1, 2)):
            happened = Happened(
                scene=self.scene.name, name=name, transaction=self.notes.tx, number=number
            )
            self.uow.events.add(happened)
            self.notes.events.append((name, number))


ACTIONS: dict[str, Callable[[Unit], Awaitable[None]]] = {
    "ledger": Unit.ledger,
    "formula": Unit.formula,
    "strategy": Unit.strategy,
    "candles": Unit.candles,
    "symbol": Unit.symbol,
    "checkpoint": Unit.checkpoint,
    "aggregate": Unit.aggregate,
    "bars": Unit.bars,
    "event": Unit.event,
    "order": Unit.order,
    "balance": Unit.balance,
    "figure": Unit.figure,
    "tick": Unit.tick,
}


def chosen_kinds(choice: Random, kinds: tuple[str, ...]) -> list[str]:
    """What one unit of work does."""
    return choice.choices(kinds, k=choice.choice((1, 1, 2, 2, 3, 4)))


async def read_something(
    storage: Storage, scene: Scene, choice: Random, kinds: tuple[str, ...]
) -> dict[str, tuple[int, int]]:
    """One read outside of a unit of work: each object with its value, and its length or 0."""
    kind = choice.choice(kinds)
    if kind in ("candles", "bars"):
        series = choice.choice(scene.series)
        stored = storage.candles if kind == "candles" else storage.ingestion.bars
        ends = moment(0), moment(SHARED_ROWS - 1)
        found = await stored.get_range(scene.series_key(series), *ends)
        noted = "candle" if kind == "candles" else "bar"
        return {name: (value, 0) for name, value in rows_seen(noted, series, found).items()}
    if kind == "symbol":
        code = choice.choice(scene.symbols)
        symbol = await storage.symbols.get_by_code(scene.own(code))
        return {f"symbol:{code}": (int(symbol.name) if symbol else 0, 0)}
    if kind == "checkpoint":
        name = choice.choice(scene.checkpoints)
        checkpoint = await storage.ingestion.checkpoints.get(scene.own(name))
        values = list(checkpoint.data["appended"]) if checkpoint else []
        return {f"checkpoint:{name}": (last(values), len(values))}
    if kind == "aggregate":
        number = choice.randrange(scene.days)
        bars = await storage.ingestion.symbol_bars.get(scene.own("A"), scene.day(number))
        return {f"aggregate:{number}": (bars.bar_count if bars else 0, 0)}
    if kind == "order":
        identity = choice.choice(scene.orders)
        order = await storage.repository(declared.orders).get(identity)
        values = appended(order.symbol if order else None)
        return {f"order:{identity}": (last(values), len(values))}
    if kind == "balance":
        name = choice.choice(scene.accounts)
        balance = await storage.repository(declared.balances).get(scene.own(name))
        return {f"balance:{name}": (int(balance.cash) if balance else 0, 0)}
    if kind == "figure":
        name = choice.choice(scene.figures)
        figure = await storage.repository(declared.fundamentals).get(scene.own(name), scene.day(0))
        return {f"figure:{name}": (int(figure.eps or 0) if figure else 0, 0)}
    identity = choice.choice(scene.ledgers)
    formula = await storage.formulas.get_by_id(identity)
    values = appended(formula.expression if formula else None)
    return {f"formula:{identity}": (last(values), len(values))}
