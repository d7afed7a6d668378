"""Backtest results in MongoDB. The port says what the methods promise.

A result whose trades are too many for one document names a set of trades; they lie in chunks
under that mark. The chunks are written first and the result last: without it nobody sees them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from jts_storage.domain import checks
from jts_storage.domain.backtest import BacktestResult, BacktestSummary, Trade
from jts_storage.domain.enums import Metric, member
from jts_storage.domain.ids import new_document_id
from jts_storage.errors import Conflict, InvalidData
from jts_storage.mongo import queries
from jts_storage.mongo.access import DocumentAccess, Pages, no_pages
from jts_storage.mongo.documents import BACKTEST_RESULTS, BacktestDocument
from jts_storage.mongo.errors import duplicate_of_id
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.mappers import (
    backtest_to_stored,
    summary_from_document,
    trades_to_stored,
)
from jts_storage.mongo.stored import ID
from jts_storage.mongo.trade_sets import TradeSets, count_elsewhere, fits_document, incomplete
from jts_storage.mongo.trades import read_backtest, read_trades
from jts_storage.mongo.transaction import Transaction
from jts_storage.mongo.versions_run import versions_now


class MongoDBBacktestResultRepository:
    """The collections ``backtest_results`` and ``backtest_trades``.

    :param transaction: that of a unit of work, which every operation is to be part of.
    """

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None = None) -> None:
        self._results = DocumentAccess[BacktestDocument](manager, BACKTEST_RESULTS, transaction)
        self._trade_sets = TradeSets(manager, transaction)

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        identity = queries.object_id(result_id)
        document = None if identity is None else await self._results.find_one({ID: identity})
        found = await self._completed([document]) if document else [None]
        return None if found[0] is None else self._result(found[0])

    async def get_many(self, result_ids: Iterable[str]) -> Sequence[BacktestResult]:
        wanted = checks.several(result_ids, str, "result_ids")
        ids = [each for each in map(queries.object_id, wanted) if each is not None]
        stored = await self._results.find({ID: {"$in": ids}}, limit=len(ids))
        found = (self._result(each) for each in await self._completed(stored) if each)
        by_id = {result.id: result for result in found}
        return [by_id[each] for each in map(str, ids) if each in by_id]

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestSummary]:
        return await self._summaries(
            await self._newest_first(strategy_id, after, self._no_trades), limit
        )

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        pages = await self._newest_first(strategy_id, None, None)

        async def complete(skip: int, limit: int) -> Sequence[Bson | None]:
            return await self._completed(await pages(skip, limit))

        found = await self._results.readable(complete, self._result, 1)
        return found[0] if found else None

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestSummary]:
        metric = member(Metric, metric, "metric")
        identity = None if strategy_id is None else queries.object_id(strategy_id)
        if strategy_id is not None and identity is None:
            return await self._summaries(no_pages, limit)
        results, bound = self._results, await self._results.bound()
        form = self._no_trades

        async def ranked(skip: int, limit: int) -> Sequence[Bson | None]:
            pipeline = queries.best_ids(results.model, metric, identity, skip, limit)
            query = bound.aggregate(pipeline, session=results.session)
            ids = [each[ID] for each in await results.repeat("ranking", query.to_list)]
            found = await results.find({ID: {"$in": ids}}, limit=len(ids), projection=form)
            by_id = {document[ID]: document for document in found}
            return [by_id.get(each) for each in ids]

        return await self._summaries(ranked, limit)

    async def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestSummary]:
        pages = self._results.pages({}, after, self._no_trades)
        return await self._summaries(pages, limit, strict=strict)

    async def trades(self, result_id: str) -> AsyncIterator[Trade]:
        identity, model = queries.object_id(result_id), self._results.model
        fields = queries.only(model, "trades", "trade_set", "trade_count")
        document = (
            None if identity is None else await self._results.find_one({ID: identity}, fields)
        )
        if document is None:
            return
        for trade in read_trades(model, document, is_part=True):
            yield trade
        number, missing = 0, count_elsewhere(model, document)
        while missing > 0:
            chunk = await self._trade_sets.chunk(document[model.path("trade_set")], number)
            if chunk is None:
                raise incomplete(document)
            for trade in chunk:
                yield trade
            number, missing = number + 1, missing - len(chunk)

    async def save(self, result: BacktestResult) -> BacktestResult:
        checks.instance(result, BacktestResult, "result")
        saved = result if result.id else replace(result, id=new_document_id())
        head = backtest_to_stored(saved, [], self._results.model)
        self._results.encoded(head, f"backtest result {saved.id}")
        async with self._results.writing():
            return await self._save(saved, is_new=not result.id)

    async def _save(self, saved: BacktestResult, *, is_new: bool) -> BacktestResult:
        # A duplicate key would abort the transaction, so within one we ask first.
        if not is_new and self._results.transaction is not None:
            stored = await self._stored(saved)
            if stored is not None:
                return stored
        saved = await self._naming_versions(saved)
        model, count = self._results.model, len(saved.trades)
        if fits_document(saved.trades):
            trades = trades_to_stored(saved.trades, model.nested("trades"))
            document = backtest_to_stored(saved, trades, model)
            await self._insert(saved, document, is_new=is_new)
            return saved
        trade_set = await self._trade_sets.insert_set(saved.trades)
        document = backtest_to_stored(saved, [], model, trade_set=trade_set, trade_count=count)
        try:
            is_ours = await self._insert(saved, document, is_new=is_new)
        except (Conflict, InvalidData):
            if self._results.transaction is None:  # else they go with it
                await self._trade_sets.delete_set(trade_set)
            raise
        # An equal result was stored before, with trades of its own.
        if not is_ours:
            await self._trade_sets.delete_set(trade_set)
        return saved

    async def delete(self, result_id: str) -> bool:
        identity = queries.object_id(result_id)
        if identity is None:
            return False
        results, bound = self._results, await self._results.bound()
        mark = results.model.path("trade_set")
        async with results.writing():
            deleted: Bson | None = await results.once(
                "deleting",
                lambda: bound.get_pymongo_collection().find_one_and_delete(
                    {ID: identity}, projection={mark: 1}, session=results.session
                ),
            )
            if deleted is not None and deleted.get(mark) is not None:
                await self._trade_sets.delete_set(deleted[mark])
        return deleted is not None

    async def _insert(self, result: BacktestResult, document: Bson, *, is_new: bool) -> bool:
        """Return whether the document stored is this one, and not an equal one of before."""
        results = self._results

        async def insert() -> bool:
            try:
                await results.insert(document)
            except DuplicateKeyError as exc:
                if is_new or not duplicate_of_id(exc) or results.session is not None:
                    raise
                return False
            return True

        async def insert_unless_done() -> bool:
            try:
                return await insert()
            except DuplicateKeyError as exc:
                if not (is_new and duplicate_of_id(exc)):
                    raise
                return True

        if await results.repeat("saving", insert, again=insert_unless_done):
            return True
        mark = results.model.path("trade_set")
        stored = await results.find_one({ID: document[ID]}, {mark: 1}) or {}
        if stored.get(mark) is not None and stored.get(mark) == document.get(mark):
            return True
        if await self._stored(result) is None:
            # Deleted between the insert and the look: store it as if it had never been there.
            return await self._insert(result, document, is_new=is_new)
        return False

    async def _naming_versions(self, result: BacktestResult) -> BacktestResult:
        """The result with the versions that are stored, if it names none and history is kept."""
        transaction = self._results.transaction
        if result.names_versions or transaction is None or transaction.revisions is None:
            return result
        versions = await versions_now(self._results.manager, transaction, result.strategy_id)
        return result.with_versions(*versions)

    async def _stored(self, result: BacktestResult) -> BacktestResult | None:
        """:raises Conflict: a different result is stored under that id."""
        assert result.id is not None
        stored = await self.get_by_id(result.id)
        if stored is None:
            return None
        # Where none were given, those of the first save stay.
        if stored != result.with_versions(stored.strategy_version, stored.formula_versions):
            raise Conflict(
                f"a different backtest result is stored under {result.id}.",
                remedy="Results are not changed: save it without an id.",
            )
        return stored

    async def _newest_first(
        self, strategy_id: str, after: str | None, projection: Mapping[str, Any] | None
    ) -> Pages:
        identity, model = queries.object_id(strategy_id), self._results.model
        if identity is None:
            return no_pages
        where = queries.of_strategy(model, identity)
        if after is not None:
            last, run_at = queries.object_id(after), model.path("run_at")
            before = last and await self._results.find_one({ID: last}, {run_at: 1})
            if not (last and before):
                return no_pages
            where |= queries.older_than(model, before[run_at], last)
        order = queries.newest_first(model)
        return lambda skip, limit: self._results.find(
            where, sort=order, limit=limit, skip=skip, projection=projection
        )

    @property
    def _no_trades(self) -> Bson:
        """The projection of what a summary needs."""
        return queries.without(self._results.model, "trades")

    async def _summaries(
        self, pages: Pages, limit: int, *, strict: bool = False
    ) -> Sequence[BacktestSummary]:
        read = self._results.reading(summary_from_document)
        return await self._results.readable(pages, read, limit, strict=strict)

    async def _completed(self, documents: Sequence[Bson | None]) -> Sequence[Bson | None]:
        """The results with the trades that lie elsewhere, all of them read at once.

        None stands for what was deleted while they were read.
        """
        mark = self._results.model.path("trade_set")
        sets = [each[mark] for each in documents if each and isinstance(each.get(mark), ObjectId)]
        if not sets:
            return documents
        trades = await self._trade_sets.read(sets)
        return [
            await self._with_trades(each, trades[each[mark]])
            if each and isinstance(each.get(mark), ObjectId)
            else each
            for each in documents
        ]

    async def _with_trades(self, document: Bson, trades: Sequence[Bson]) -> Bson | None:
        path = self._results.model.path
        found = document | {path("trades"): trades}
        if len(trades) == document.get(path("trade_count")):
            return found
        # Too few trades: either the result was deleted between the two reads, or it is damaged.
        is_there = await self._results.find_one({ID: document[ID]}, {ID: 1})
        return None if is_there is None else found

    def _result(self, document: Bson) -> BacktestResult:
        model = self._results.model
        count = count_elsewhere(model, document)
        if count and len(document[model.path("trades")]) != count:
            raise incomplete(document)
        return read_backtest(model, document)
