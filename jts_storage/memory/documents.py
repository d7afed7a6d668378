"""Formulas, strategies and backtest results in rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from jts_storage.domain import checks
from jts_storage.domain.backtest import BacktestResult, BacktestSummary, Trade
from jts_storage.domain.enums import FormulaCategory, Metric, member
from jts_storage.domain.formula import Formula
from jts_storage.domain.ids import new_document_id
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import Conflict, InUse, InvalidData
from jts_storage.memory import mappers
from jts_storage.memory.tables import BACKTESTS, FORMULAS, REFERENCES, STRATEGIES, Row, Session

Document = TypeVar("Document", Formula, Strategy)
E = TypeVar("E")

_EXTRA_BYTES = 8


class _Versioned:
    """Saving documents under optimistic locks, which formulas and strategies share."""

    table: str
    kind: type[Any]

    def __init__(self, session: Session) -> None:
        self._session = session

    def _save(self, entity: Document, to_row: Callable[[Document], Row]) -> Document:
        with self._session.exclusive():
            saved = self._next(entity)
            self._put(saved, self._row(saved, to_row))
        return saved

    def _save_many(
        self, entities: Iterable[Document], to_row: Callable[[Document], Row]
    ) -> Sequence[Document]:
        """All of them or, if one is refused, none."""
        given = checks.several(entities, self.kind, self.table)
        with self._session.exclusive():
            saved: dict[str, Document] = {}
            for entity in given:
                if entity.id in saved:
                    raise self._changed(entity, saved[entity.id].version)
                each = self._next(entity)
                assert each.id is not None
                saved[each.id] = each
            rows = [self._row(each, to_row) for each in saved.values()]
            for each, row in zip(saved.values(), rows, strict=True):
                self._put(each, row)
        return list(saved.values())

    def _put(self, saved: Formula | Strategy, row: Row) -> None:
        assert saved.id is not None
        self._session.put(self.table, saved.id, row)

    def _row(self, saved: Document, to_row: Callable[[Document], Row]) -> Row:
        row = to_row(saved)
        checks.document_size(_size(row), f"{self.kind.__name__.lower()} {saved.name[:80]!r}")
        return row

    def _next(self, entity: Document) -> Document:
        checks.instance(entity, self.kind, self.kind.__name__.lower())
        moment = checks.now()
        if entity.id is None:
            return replace(
                entity, id=new_document_id(), version=1, created_at=moment, updated_at=moment
            )
        stored = self._session.get(self.table, entity.id)
        if stored is None:
            raise Conflict(
                f"{self.table} {entity.id} ({entity.name!r}) cannot be updated: it is not stored.",
                remedy="It may have been deleted; save it without an id to store it anew.",
            )
        if stored["version"] != entity.version:
            raise self._changed(entity, stored["version"])
        for name in ("created_at", "updated_at"):
            read = getattr(entity, name)
            if read is not None and read != stored[name]:
                raise Conflict(
                    f"{self.table} {entity.id} ({entity.name!r}) was changed by somebody else:"
                    f" {name} {stored[name]} is stored, {read} was read.",
                    remedy="Read it again and repeat.",
                )
        return replace(
            entity, version=entity.version + 1, created_at=stored["created_at"], updated_at=moment
        )

    def _changed(self, entity: Formula | Strategy, version: int) -> Conflict:
        return Conflict(
            f"{self.table} {entity.id} ({entity.name!r}) was changed by somebody else: "
            f"version {version} is stored, {entity.version} was read.",
            remedy="Read it again and repeat.",
        )

    def _get(self, identity: str) -> Row | None:
        return self._session.get(self.table, _known_as(identity))

    def _page(
        self,
        from_row: Callable[[Row], E],
        belongs: Callable[[Row], bool],
        limit: int,
        after: str | None,
    ) -> list[E]:
        rows = [
            row for row in self._session.scan(self.table) if belongs(row) and _is_behind(row, after)
        ]
        return [from_row(row) for row in sorted(rows, key=lambda row: row["id"])[: _count(limit)]]


class InMemoryFormulaRepository(_Versioned):
    table = FORMULAS
    kind = Formula

    async def save(self, formula: Formula) -> Formula:
        return self._save(formula, mappers.formula_to_row)

    async def save_many(self, formulas: Iterable[Formula]) -> Sequence[Formula]:
        return self._save_many(formulas, mappers.formula_to_row)

    async def get_by_id(self, formula_id: str) -> Formula | None:
        row = self._get(formula_id)
        return None if row is None else mappers.formula_from_row(row)

    async def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        value = member(FormulaCategory, category, "category").value
        return self._formulas(lambda row: row["category"] == value, limit, after)

    async def get_by_tag(
        self, tag: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        return await self.get_by_tags([tag], limit=limit, after=after)

    async def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        wanted = {checks.text(tag, "tags") for tag in _strings(tags)}
        return self._formulas(
            lambda row: bool(wanted) and wanted.issubset(row["tags"]), limit, after
        )

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        checks.text(query, "query")
        found: list[tuple[int, str, Formula]] = []
        for row in self._session.scan(self.table):
            formula = mappers.formula_from_row(row)
            rank = formula.rank(query)
            if rank is not None:
                found.append((rank, row["id"], formula))
        return [
            formula for *_, formula in sorted(found, key=lambda item: item[:2])[: _count(limit)]
        ]

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Formula]:
        return self._formulas(lambda row: True, limit, after)

    async def delete(self, formula_id: str, *, force: bool = False) -> bool:
        with self._session.exclusive():
            users = await InMemoryStrategyRepository(self._session).get_by_formula(formula_id)
            if users and not force:
                names = ", ".join(repr(strategy.name) for strategy in users[:10])
                raise InUse(
                    f"formula {formula_id} cannot be deleted: used by {names}.",
                    remedy="Change those strategies first, or pass force=True.",
                )
            deleted = self._session.delete(self.table, _known_as(formula_id))
            if deleted and not force:
                _note_reference(self._session, _known_as(formula_id))
            return deleted

    def _formulas(
        self, belongs: Callable[[Row], bool], limit: int, after: str | None
    ) -> Sequence[Formula]:
        return self._page(mappers.formula_from_row, belongs, limit, after)


class InMemoryStrategyRepository(_Versioned):
    table = STRATEGIES
    kind = Strategy

    async def save(self, strategy: Strategy) -> Strategy:
        return self._save(strategy, mappers.strategy_to_row)

    def _put(self, saved: Formula | Strategy, row: Row) -> None:
        stored = self._session.get(self.table, saved.id)
        for formula_id in _formulas_of(row) - _formulas_of(stored):
            _note_reference(self._session, formula_id)
        super()._put(saved, row)

    async def save_many(self, strategies: Iterable[Strategy]) -> Sequence[Strategy]:
        return self._save_many(strategies, mappers.strategy_to_row)

    async def get_by_id(self, strategy_id: str) -> Strategy | None:
        row = self._get(strategy_id)
        return None if row is None else mappers.strategy_from_row(row)

    async def get_by_formula(
        self, formula_id: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Strategy]:
        wanted = _known_as(formula_id)

        def uses(row: Row) -> bool:
            return wanted in _formulas_of(row)

        return self._page(mappers.strategy_from_row, uses, limit, after)

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Strategy]:
        return self._page(mappers.strategy_from_row, lambda row: True, limit, after)

    async def delete(self, strategy_id: str) -> bool:
        return self._session.delete(self.table, _known_as(strategy_id))


class InMemoryBacktestResultRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def save(self, result: BacktestResult) -> BacktestResult:
        checks.instance(result, BacktestResult, "result")
        saved = result if result.id else replace(result, id=new_document_id())
        row = mappers.backtest_to_row(saved)
        head = {name: value for name, value in row.items() if name != "trades"}
        checks.document_size(_size(head), f"backtest result {saved.id}")
        with self._session.exclusive():
            stored = self._session.get(BACKTESTS, saved.id)
            if stored is not None and mappers.backtest_from_row(stored) != saved:
                raise Conflict(
                    f"a different backtest result is stored under {saved.id}.",
                    remedy="Results are not changed: save it without an id.",
                )
            if stored is None:
                self._session.put(BACKTESTS, saved.id, row)
        return saved

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        row = self._session.get(BACKTESTS, _known_as(result_id))
        return None if row is None else mappers.backtest_from_row(row)

    async def get_many(self, result_ids: Iterable[str]) -> Sequence[BacktestResult]:
        wanted = checks.several(result_ids, str, "result_ids")
        rows = (self._session.get(BACKTESTS, _known_as(each)) for each in wanted)
        return [mappers.backtest_from_row(row) for row in rows if row is not None]

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestSummary]:
        rows = self._newest_first(strategy_id)
        if after is not None:
            last = self._session.get(BACKTESTS, _known_as(after))
            rows = [row for row in rows if last is not None and _age(row) < _age(last)]
        return _summaries(rows[: _count(limit)])

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        rows = self._newest_first(strategy_id)
        return mappers.backtest_from_row(rows[0]) if rows else None

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestSummary]:
        metric = member(Metric, metric, "metric")

        def figure(row: Row) -> float:
            return float(row["metrics"][metric.value])

        defined = [
            row
            for row in self._newest_first(strategy_id)
            if row["metrics"][metric.value] is not None
        ]
        sign = -1 if metric.higher_is_better else 1
        ranked = sorted(defined, key=lambda row: sign * figure(row))
        return _summaries(ranked[: _count(limit)])

    async def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestSummary]:
        rows = sorted(self._session.scan(BACKTESTS), key=lambda row: row["id"])
        return _summaries([row for row in rows if _is_behind(row, after)][: _count(limit)])

    async def trades(self, result_id: str) -> AsyncIterator[Trade]:
        row = self._session.get(BACKTESTS, _known_as(result_id))
        for trade in row["trades"] if row else ():
            yield mappers.trade_from_row(trade)

    async def delete(self, result_id: str) -> bool:
        return self._session.delete(BACKTESTS, _known_as(result_id))

    def _newest_first(self, strategy_id: str | None) -> Sequence[Row]:
        rows = [
            row
            for row in self._session.scan(BACKTESTS)
            if strategy_id is None or row["strategy_id"] == _known_as(strategy_id)
        ]
        return sorted(rows, key=_age, reverse=True)


def _formulas_of(row: Row | None) -> frozenset[str]:
    """The formulas that a strategy refers to."""
    if row is None:
        return frozenset()
    stop = row["stop_loss_rule"]
    found = (row["entry_formula_id"], row["exit_formula_id"], stop and stop["formula_id"])
    return frozenset(each for each in found if each is not None)


def _size(value: object) -> int:
    """About the bytes that a document store takes for it."""
    if isinstance(value, str):
        return len(value.encode()) + _EXTRA_BYTES
    if isinstance(value, Mapping):
        return sum(_size(name) + _size(each) for name, each in value.items())
    if isinstance(value, tuple | list):
        return sum(map(_size, value)) + _EXTRA_BYTES * len(value)
    return _EXTRA_BYTES


def _note_reference(session: Session, formula_id: str) -> None:
    session.put(REFERENCES, formula_id, MappingProxyType({"id": formula_id}))


def _known_as(identity: object) -> str:
    """The id as it is stored; nothing is stored under what is no id."""
    is_id = isinstance(identity, str) and checks.is_document_id(identity)
    return str(identity).lower() if is_id else ""


def _is_behind(row: Row, after: object) -> bool:
    """Whether the row is on a page after the one that ended with that id."""
    known = _known_as(after)
    return after is None or (bool(known) and row["id"] > known)


def _strings(values: object) -> Iterable[object]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidData("must be several strings", field="tags", value=values)
    return values


def _age(row: Row) -> tuple[datetime, Any]:
    return row["run_at"], row["id"]


def _summaries(rows: Iterable[Row]) -> list[BacktestSummary]:
    return [mappers.backtest_from_row(row).summary() for row in rows]


def _count(limit: object) -> int:
    return checks.whole(limit, "limit", below=2**31)
