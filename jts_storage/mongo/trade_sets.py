"""Trades that one document should not hold, in chunks under a common mark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bson import ObjectId

from jts_storage.domain.backtest import Trade
from jts_storage.errors import InvalidData
from jts_storage.mongo.documents import BACKTEST_TRADES
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.store import CollectionAccess
from jts_storage.mongo.transaction import Transaction

INLINE_BYTES: Final = 8 * 1024 * 1024
"""Trades up to this estimate lie in the result itself; a document may have twice as much."""
CHUNK_BYTES: Final = 1024 * 1024

_TRADE_BYTES: Final = 256
_BYTES_A_CHARACTER: Final = 4
_NO_LIMIT: Final = 2**31 - 1


class TradeSets(CollectionAccess):
    """The collection ``backtest_trades``."""

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None) -> None:
        super().__init__(manager, BACKTEST_TRADES, transaction)

    async def chunk(self, trade_set: ObjectId, number: int) -> Bson | None:
        return await self.find_one({"tradeSet": trade_set, "number": number})

    async def read(self, trade_sets: Sequence[ObjectId]) -> dict[ObjectId, list[Bson]]:
        """The trades of each set in their order, all read at once."""
        trades: dict[ObjectId, list[Bson]] = {each: [] for each in trade_sets}
        where = {"tradeSet": {"$in": list(trade_sets)}}
        order = (("tradeSet", 1), ("number", 1))
        for chunk in await self.find(where, sort=order, limit=_NO_LIMIT):
            trades[chunk["tradeSet"]] += chunk["trades"]
        return trades

    async def insert_set(self, trades: Sequence[Trade], documents: Sequence[Bson]) -> ObjectId:
        """Store the trades under a new mark: nobody else can have written anything there."""
        trade_set = ObjectId()
        chunks = [
            {"_id": ObjectId(), "tradeSet": trade_set, "number": number, "trades": chunk}
            for number, chunk in enumerate(_in_chunks(trades, documents))
        ]
        collection, session = self.collection, self.session

        async def insert() -> None:
            await collection.insert_many(chunks, session=session)

        async def insert_anew() -> None:
            await collection.delete_many({"tradeSet": trade_set})
            await insert()

        await self.repeat("saving trades", insert, again=insert_anew)
        return trade_set

    async def delete_set(self, trade_set: ObjectId) -> None:
        collection, session = self.collection, self.session
        await self.repeat(
            "deleting trades",
            lambda: collection.delete_many({"tradeSet": trade_set}, session=session),
        )


def fits_document(trades: Iterable[Trade]) -> bool:
    """Whether the trades may lie in the document of their result."""
    return sum(map(_bytes, trades)) <= INLINE_BYTES


def count_elsewhere(result: Mapping[str, Any]) -> int:
    """How many trades of a stored result lie in chunks.

    :raises InvalidData: the result does not say it in a way that can be read.
    """
    trade_set, count = result.get("tradeSet"), result.get("tradeCount")
    if trade_set is None or not count:
        return 0
    if not isinstance(trade_set, ObjectId) or isinstance(count, str | bool) or count != int(count):
        raise InvalidData(
            "has a tradeSet or a tradeCount of another type than expected",
            document=str(result["_id"]),
        )
    return int(count)


def incomplete(result: Mapping[str, Any]) -> InvalidData:
    return InvalidData(
        f"lacks trades that belong to it in {BACKTEST_TRADES}",
        document=str(result["_id"]),
        remedy="Restore that collection from a backup, or delete the result.",
    )


def _bytes(trade: Trade) -> int:
    """What a trade takes in BSON, estimated from above."""
    characters = len(trade.symbol) + len(trade.exit_reason or "")
    return _TRADE_BYTES + _BYTES_A_CHARACTER * characters


def _in_chunks(trades: Sequence[Trade], documents: Sequence[Bson]) -> list[list[Bson]]:
    chunks: list[list[Bson]] = [[]]
    size = 0
    for trade, document in zip(trades, documents, strict=True):
        more = _bytes(trade)
        if chunks[-1] and size + more > CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(document)
        size += more
    return chunks
