"""Backtest results as the documents that MongoDB would hold, by its own mappers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from jts_storage.domain import checks
from jts_storage.domain.backtest import BacktestResult, BacktestSummary, Trade
from jts_storage.domain.enums import Metric, member
from jts_storage.domain.ids import new_document_id
from jts_storage.errors import Conflict
from jts_storage.memory.documents import as_row, is_behind, known_as, page_size
from jts_storage.memory.tables import BACKTESTS, FORMULAS, STRATEGIES, Session, StoredRow
from jts_storage.mongo.documents import BacktestDocument, StrategyDocument, VersionedDocument
from jts_storage.mongo.mappers import (
    backtest_to_stored,
    read_stored,
    summary_from_document,
    trades_to_stored,
)
from jts_storage.mongo.stored import ID, at_path
from jts_storage.mongo.trades import read_backtest, read_trades


class InMemoryBacktestResultRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def save(self, result: BacktestResult) -> BacktestResult:
        checks.instance(result, BacktestResult, "result")
        saved = result if result.id else replace(result, id=new_document_id())
        as_row(backtest_to_stored(saved, []), f"backtest result {saved.id}")
        with self._session.exclusive():
            row = self._session.get(BACKTESTS, saved.id)
            if row is not None:
                return _same(_result(row), saved)
            named = self._naming_versions(saved)
            row = as_row(backtest_to_stored(named, trades_to_stored(named.trades)))
            self._session.put(BACKTESTS, named.id, row)
        return named

    def _naming_versions(self, result: BacktestResult) -> BacktestResult:
        strategy = self._session.get(STRATEGIES, result.strategy_id)
        if strategy is None or not self._session.keeps_history:
            return result
        used = {
            each: self._session.get(FORMULAS, each)
            for each in StrategyDocument.formulas_of(strategy)
        }
        versions = {each: _version(row) for each, row in used.items() if row is not None}
        return result.with_versions(_version(strategy), versions)

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        row = self._session.get(BACKTESTS, known_as(result_id))
        return None if row is None else _result(row)

    async def get_many(self, result_ids: Iterable[str]) -> Sequence[BacktestResult]:
        wanted = checks.several(result_ids, str, "result_ids")
        rows = (self._session.get(BACKTESTS, known_as(each)) for each in wanted)
        return [_result(row) for row in rows if row is not None]

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestSummary]:
        rows = self._newest_first(strategy_id)
        if after is not None:
            last = self._session.get(BACKTESTS, known_as(after))
            rows = [row for row in rows if last is not None and _age(row) < _age(last)]
        return _summaries(rows[: page_size(limit)])

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        rows = self._newest_first(strategy_id)
        return _result(rows[0]) if rows else None

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestSummary]:
        path = BacktestDocument.path(f"metrics.{member(Metric, metric, 'metric').value}")
        found = [(at_path(row, path), row) for row in self._newest_first(strategy_id)]
        defined = [(figure, row) for figure, row in found if figure is not None]
        sign = -1 if Metric(metric).higher_is_better else 1
        ranked = sorted(defined, key=lambda item: sign * float(item[0]))
        return _summaries(row for _, row in ranked[: page_size(limit)])

    async def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestSummary]:
        rows = [row for row in self._session.scan(BACKTESTS) if is_behind(row, after)]
        return _summaries(sorted(rows, key=lambda row: str(row[ID]))[: page_size(limit)])

    async def trades(self, result_id: str) -> AsyncIterator[Trade]:
        row = self._session.get(BACKTESTS, known_as(result_id))
        if row is not None:
            for trade in read_trades(BacktestDocument, row):
                yield trade

    async def delete(self, result_id: str) -> bool:
        return self._session.delete(BACKTESTS, known_as(result_id))

    def _newest_first(self, strategy_id: str | None) -> Sequence[StoredRow]:
        name = BacktestDocument.path("strategy_id")
        rows = [
            row
            for row in self._session.scan(BACKTESTS)
            if strategy_id is None or str(row[name]) == known_as(strategy_id)
        ]
        return sorted(rows, key=_age, reverse=True)


def _same(stored: BacktestResult, given: BacktestResult) -> BacktestResult:
    """:raises Conflict: they differ."""
    # Where none were given, those of the first save stay.
    if stored != given.with_versions(stored.strategy_version, stored.formula_versions):
        raise Conflict(
            f"a different backtest result is stored under {given.id}.",
            remedy="Results are not changed: save it without an id.",
        )
    return stored


def _version(row: StoredRow) -> int:
    return int(row[VersionedDocument.path("version")])


def _age(row: StoredRow) -> tuple[datetime, Any]:
    return row[BacktestDocument.path("run_at")], row[ID]


def _result(row: StoredRow) -> BacktestResult:
    return read_backtest(BacktestDocument, row)


def _summaries(rows: Iterable[StoredRow]) -> list[BacktestSummary]:
    return [read_stored(BacktestDocument, summary_from_document, row) for row in rows]
