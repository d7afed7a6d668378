"""Backtest results in MongoDB. The port says what the methods promise.

A result whose trades are too many for one document carries a `tradeSet`; its trades lie in chunks
under that mark. The chunks are written first and the result last: without it nobody sees them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
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
from jts_storage.mongo.store import CollectionAccess
from jts_storage.mongo.trade_sets import TradeSets, count_elsewhere, fits_document, incomplete

_NEWEST_FIRST: Final = (("runAt", -1), ("_id", -1))


class MongoDBBacktestResultRepository:
    """The collections ``backtest_results`` and ``backtest_trades``.

    :param session: run every operation in the transaction of this session.
    """

    def __init__(self, manager: MongoDBManager, session: AsyncClientSession | None = None) -> None:
        self._results = CollectionAccess(manager, BACKTEST_RESULTS, session)
        self._trade_sets = TradeSets(manager, session)

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        identity = queries.object_id(result_id)
        document = None if identity is None else await self._results.find_one({"_id": identity})
        found = await self._joined([document]) if document else []
        return found[0] if found else None

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestResult]:
        queries.count(limit)
        identity = queries.object_id(strategy_id)
        if identity is None:
            return []
        where: Bson = {"strategyId": identity}
        if after is not None:
            last = queries.object_id(after)
            before = last and await self._results.find_one({"_id": last}, {"runAt": 1})
            if not (last and before):
                return []
            where |= queries.older_than(before["runAt"], last)
        return await self._joined(await self._results.find(where, sort=_NEWEST_FIRST, limit=limit))

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        found = await self.get_by_strategy(strategy_id, limit=1)
        return found[0] if found else None

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestResult]:
        metric = member(Metric, metric, "metric")
        identity = None if strategy_id is None else queries.object_id(strategy_id)
        if not queries.count(limit) or (strategy_id is not None and identity is None):
            return []
        pipeline = queries.best_ids(metric, identity, limit)
        collection, session = self._results.collection, self._results.session

        async def rank() -> Sequence[ObjectId]:
            async with await collection.aggregate(pipeline, session=session) as cursor:
                return [document["_id"] for document in await cursor.to_list()]

        ranked = await self._results.repeat("ranking", rank)
        found = await self._results.find({"_id": {"$in": ranked}}, limit=len(ranked))
        by_id = {document["_id"]: document for document in found}
        return await self._joined([by_id[each] for each in ranked if each in by_id])

    async def list(self, *, limit: int = 100, after: str | None = None) -> Sequence[BacktestResult]:
        return await self._joined(await self._results.page({}, limit, after))

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
        # A duplicate key would end the transaction, so within one it is asked before.
        if result.id and self._results.session is not None and await self._is_stored(saved):
            return saved
        trades = trades_to_documents(saved.trades)
        if fits_document(saved.trades):
            await self._insert(saved, backtest_to_document(saved, trades), is_new=not result.id)
            return saved
        trade_set = await self._trade_sets.insert_set(saved.trades, trades)
        elsewhere = {"tradeSet": trade_set, "tradeCount": len(trades)}
        document = backtest_to_document(saved, ()) | elsewhere
        try:
            is_ours = await self._insert(saved, document, is_new=not result.id)
        except (Conflict, InvalidData):
            if self._results.session is None:
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

    async def _joined(self, documents: Sequence[Bson]) -> Sequence[BacktestResult]:
        """The results with the trades that lie elsewhere, all of them read at once."""
        sets = [document["tradeSet"] for document in documents if count_elsewhere(document)]
        if not sets:
            return [backtest_from_document(document) for document in documents]
        trades = await self._trade_sets.read(sets)
        complete = [await self._complete(document, trades) for document in documents]
        return [backtest_from_document(document) for document in complete if document is not None]

    async def _complete(
        self, document: Bson, trades: Mapping[ObjectId, Sequence[Bson]]
    ) -> Mapping[str, Any] | None:
        """The document with all its trades, None if it was deleted while they were read."""
        count = count_elsewhere(document)
        if not count:
            return document
        found = trades[document["tradeSet"]]
        if len(found) == count:
            return document | {"trades": found}
        if await self._results.find_one({"_id": document["_id"]}, {"_id": 1}) is None:
            return None
        raise incomplete(document)
