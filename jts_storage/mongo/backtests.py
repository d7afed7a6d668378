"""Backtest results in MongoDB. The port says what the methods promise.

A result whose trades are too many for one document carries a `tradeSet`; its trades lie in chunks
under that mark. The chunks are written first and the result last: without it nobody sees them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from jts_storage.domain import checks
from jts_storage.domain.backtest import BacktestResult, Trade
from jts_storage.domain.enums import Metric, member
from jts_storage.domain.ids import new_document_id
from jts_storage.errors import Conflict, InvalidData
from jts_storage.mongo import queries
from jts_storage.mongo.documents import BACKTEST_RESULTS
from jts_storage.mongo.errors import duplicate_of_id
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.mappers import (
    backtest_from_document,
    backtest_to_document,
    trades_from_document,
    trades_to_documents,
)
from jts_storage.mongo.store import CollectionAccess, Pages, no_pages
from jts_storage.mongo.trade_sets import TradeSets, count_elsewhere, fits_document, incomplete
from jts_storage.mongo.transaction import Transaction

_NEWEST_FIRST: Final = (("runAt", -1), ("_id", -1))


class MongoDBBacktestResultRepository:
    """The collections ``backtest_results`` and ``backtest_trades``.

    :param transaction: that of a unit of work, which every operation is to be part of.
    """

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None = None) -> None:
        self._results = CollectionAccess(manager, BACKTEST_RESULTS, transaction)
        self._trade_sets = TradeSets(manager, transaction)

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        identity = queries.object_id(result_id)
        document = None if identity is None else await self._results.find_one({"_id": identity})
        found = await self._with_trades([document]) if document else [None]
        return None if found[0] is None else _result(found[0])

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestResult]:
        identity = queries.object_id(strategy_id)
        pages = no_pages if identity is None else await self._newest_first(identity, after)
        return await self._read(pages, limit)

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        found = await self.get_by_strategy(strategy_id, limit=1)
        return found[0] if found else None

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestResult]:
        metric = member(Metric, metric, "metric")
        identity = None if strategy_id is None else queries.object_id(strategy_id)
        if strategy_id is not None and identity is None:
            return await self._read(no_pages, limit)
        collection, session = self._results.collection, self._results.session

        async def ranked(skip: int, limit: int) -> Sequence[Bson | None]:
            pipeline = queries.best_ids(metric, identity, skip, limit)

            async def rank() -> Sequence[ObjectId]:
                async with await collection.aggregate(pipeline, session=session) as cursor:
                    return [document["_id"] for document in await cursor.to_list()]

            ids = await self._results.repeat("ranking", rank)
            found = await self._results.find({"_id": {"$in": ids}}, limit=len(ids))
            by_id = {document["_id"]: document for document in found}
            return [by_id.get(each) for each in ids]

        return await self._read(ranked, limit)

    async def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestResult]:
        return await self._read(self._results.pages({}, after), limit, strict=strict)

    async def trades(self, result_id: str) -> AsyncIterator[Trade]:
        identity = queries.object_id(result_id)
        where = {"_id": identity}
        fields = {"trades": 1, "tradeSet": 1, "tradeCount": 1}
        document = None if identity is None else await self._results.find_one(where, fields)
        if document is None:
            return
        for trade in trades_from_document(document):
            yield trade
        number, missing = 0, count_elsewhere(document)
        while missing > 0:
            chunk = await self._trade_sets.chunk(document["tradeSet"], number)
            if chunk is None:
                raise incomplete(document)
            for trade in trades_from_document(chunk):
                yield trade
            number, missing = number + 1, missing - len(chunk["trades"])

    async def save(self, result: BacktestResult) -> BacktestResult:
        checks.instance(result, BacktestResult, "result")
        saved = result if result.id else replace(result, id=new_document_id())
        self._results.check_size(backtest_to_document(saved, ()), f"backtest result {saved.id}")
        async with self._results.turn():
            return await self._save(saved, is_new=not result.id)

    async def _save(self, saved: BacktestResult, *, is_new: bool) -> BacktestResult:
        # A duplicate key would end the transaction, so within one it is asked before.
        if not is_new and self._results.transaction is not None and await self._is_stored(saved):
            return saved
        trades = trades_to_documents(saved.trades)
        if fits_document(saved.trades):
            await self._insert(saved, backtest_to_document(saved, trades), is_new=is_new)
            return saved
        trade_set = await self._trade_sets.insert_set(saved.trades, trades)
        elsewhere = {"tradeSet": trade_set, "tradeCount": len(trades)}
        document = backtest_to_document(saved, ()) | elsewhere
        try:
            is_ours = await self._insert(saved, document, is_new=is_new)
        except (Conflict, InvalidData):
            if self._results.transaction is None:
                await self._trade_sets.delete_set(trade_set)
            raise
        if not is_ours:
            await self._trade_sets.delete_set(trade_set)
        return saved

    async def delete(self, result_id: str) -> bool:
        identity = queries.object_id(result_id)
        if identity is None:
            return False
        collection, session = self._results.collection, self._results.session
        async with self._results.turn():
            deleted: Bson | None = await self._results.once(
                "deleting",
                lambda: collection.find_one_and_delete(
                    {"_id": identity}, projection={"tradeSet": 1}, session=session
                ),
            )
            if deleted is not None and deleted.get("tradeSet") is not None:
                await self._trade_sets.delete_set(deleted["tradeSet"])
        return deleted is not None

    async def _insert(self, result: BacktestResult, document: Bson, *, is_new: bool) -> bool:
        """Whether the document stored is this one, and not an equal one of before."""
        collection, session = self._results.collection, self._results.session

        async def insert() -> bool:
            try:
                await collection.insert_one(document, session=session)
            except DuplicateKeyError as exc:
                if is_new or not duplicate_of_id(exc) or session is not None:
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

        if await self._results.repeat("saving", insert, again=insert_unless_done):
            return True
        mark = await self._results.find_one({"_id": document["_id"]}, {"tradeSet": 1}) or {}
        if mark.get("tradeSet") is not None and mark.get("tradeSet") == document.get("tradeSet"):
            return True
        if not await self._is_stored(result):
            # It was there a moment ago and is gone: as if it had never been.
            return await self._insert(result, document, is_new=is_new)
        return False

    async def _is_stored(self, result: BacktestResult) -> bool:
        """:raises Conflict: a different result is stored under that id."""
        assert result.id is not None
        stored = await self.get_by_id(result.id)
        if stored is not None and stored != result:
            raise Conflict(
                f"a different backtest result is stored under {result.id}.",
                remedy="Results are not changed: save it without an id.",
            )
        return stored is not None

    async def _newest_first(self, strategy_id: ObjectId, after: str | None) -> Pages:
        where: Bson = {"strategyId": queries.refers_to(strategy_id)}
        if after is not None:
            last = queries.object_id(after)
            before = last and await self._results.find_one({"_id": last}, {"runAt": 1})
            if not (last and before):
                return no_pages
            where |= queries.older_than(before["runAt"], last)
        return lambda skip, limit: self._results.find(
            where, sort=_NEWEST_FIRST, limit=limit, skip=skip
        )

    async def _read(
        self, pages: Pages, limit: int, *, strict: bool = False
    ) -> Sequence[BacktestResult]:
        async def complete(skip: int, limit: int) -> Sequence[Bson | None]:
            return await self._with_trades(await pages(skip, limit))

        return await self._results.readable(complete, _result, limit, strict=strict)

    async def _with_trades(self, documents: Sequence[Bson | None]) -> Sequence[Bson | None]:
        """The results with the trades that lie elsewhere, all of them read at once.

        None stands for what was deleted while they were read.
        """
        sets = [document["tradeSet"] for document in documents if document and _is_split(document)]
        if not sets:
            return documents
        trades = await self._trade_sets.read(sets)
        return [
            await self._completed(document, trades)
            if document and _is_split(document)
            else document
            for document in documents
        ]

    async def _completed(
        self, document: Bson, trades: Mapping[ObjectId, Sequence[Bson]]
    ) -> Bson | None:
        found = document | {"trades": trades[document["tradeSet"]]}
        if len(found["trades"]) == document.get("tradeCount"):
            return found
        is_there = await self._results.find_one({"_id": document["_id"]}, {"_id": 1})
        return None if is_there is None else found


def _is_split(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("tradeSet"), ObjectId)


def _result(document: Mapping[str, Any]) -> BacktestResult:
    count = count_elsewhere(document)
    if count and len(document["trades"]) != count:
        raise incomplete(document)
    return backtest_from_document(document)
