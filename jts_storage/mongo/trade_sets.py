"""Trades that one document should not hold, in chunks under a common mark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from bson import ObjectId
from pymongo import ASCENDING

from jts_storage.domain.backtest import Trade
from jts_storage.errors import InvalidData
from jts_storage.mongo.access import DocumentAccess
from jts_storage.mongo.documents import (
    BACKTEST_TRADES,
    BacktestDocument,
    TradeChunkDocument,
)
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.mappers import trades_to_stored
from jts_storage.mongo.stored import ID
from jts_storage.mongo.trades import read_trades
from jts_storage.mongo.transaction import Transaction

INLINE_BYTES: Final = 8 * 1024 * 1024
"""Trades up to this estimate lie in the result itself; a document may have twice as much."""
CHUNK_BYTES: Final = 1024 * 1024

_TRADE_BYTES: Final = 256  # names and numbers, rounded up
_BYTES_A_CHARACTER: Final = 4  # the most that UTF-8 takes
_NO_LIMIT: Final = 2**31 - 1


class TradeSets(DocumentAccess[TradeChunkDocument]):
    """The collection ``backtest_trades``."""

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None) -> None:
        super().__init__(manager, BACKTEST_TRADES, transaction)

    async def chunk(self, trade_set: ObjectId, number: int) -> tuple[Trade, ...] | None:
        """The trades of a chunk, None if it is not there."""
        path = self.model.path
        stored = await self.find_one({path("trade_set"): trade_set, path("number"): number})
        return None if stored is None else read_trades(self.model, stored)

    async def read(self, trade_sets: Sequence[ObjectId]) -> dict[ObjectId, list[Bson]]:
        """The trades of each set in their order, all read at once."""
        path = self.model.path
        mark, trades = path("trade_set"), path("trades")
        found: dict[ObjectId, list[Bson]] = {each: [] for each in trade_sets}
        where = {mark: {"$in": list(trade_sets)}}
        order = ((mark, ASCENDING), (path("number"), ASCENDING))
        for chunk in await self.find(where, sort=order, limit=_NO_LIMIT):
            found[chunk[mark]] += chunk[trades]
        return found

    async def insert_set(self, trades: Sequence[Trade]) -> ObjectId:
        """Store the trades under a new mark: nobody else can have written anything there."""
        trade_set = ObjectId()
        fields = trades_to_stored(trades, self.model.nested("trades"))
        chunks = [
            self.model.stored_of(id=ObjectId(), trade_set=trade_set, number=number, trades=chunk)
            for number, chunk in enumerate(_in_chunks(trades, fields))
        ]
        bound = await self.bound()
        collection = bound.get_pymongo_collection()

        async def insert() -> None:
            await collection.insert_many(chunks, session=self.session)

        async def insert_anew() -> None:
            # The attempt before may have stored some of the chunks.
            await bound.find(self._of_set(trade_set)).delete()
            await insert()

        await self.repeat("saving trades", insert, again=insert_anew)
        return trade_set

    async def delete_set(self, trade_set: ObjectId) -> None:
        bound = await self.bound()

        async def delete() -> None:
            await bound.find(self._of_set(trade_set)).delete(session=self.session)

        await self.repeat("deleting trades", delete)

    def _of_set(self, trade_set: ObjectId) -> Bson:
        return {self.model.path("trade_set"): trade_set}


def fits_document(trades: Iterable[Trade]) -> bool:
    """Return whether the trades may lie in the document of their result."""
    return sum(map(_bytes, trades)) <= INLINE_BYTES


def count_elsewhere(model: type[BacktestDocument], result: Mapping[str, Any]) -> int:
    """Return how many trades of a stored result lie in chunks.

    :raises InvalidData: the result does not say it in a way that can be read.
    """
    trade_set, count = result.get(model.path("trade_set")), result.get(model.path("trade_count"))
    if trade_set is None or not count:
        return 0
    if not isinstance(trade_set, ObjectId) or isinstance(count, str | bool) or count != int(count):
        raise InvalidData(
            f"has a {model.path('trade_set')} or a {model.path('trade_count')} of another type than"
            " expected",
            document=str(result[ID]),
        )
    return int(count)


def incomplete(result: Mapping[str, Any]) -> InvalidData:
    return InvalidData(
        f"lacks trades that belong to it in {BACKTEST_TRADES}",
        document=str(result[ID]),
        remedy="Restore that collection from a backup, or delete the result.",
    )


def _bytes(trade: Trade) -> int:
    """Estimate, from above, how many bytes a trade takes in BSON."""
    characters = len(trade.symbol) + len(trade.exit_reason or "")
    return _TRADE_BYTES + _BYTES_A_CHARACTER * characters


def _in_chunks(trades: Sequence[Trade], fields: Sequence[Bson]) -> list[list[Bson]]:
    chunks: list[list[Bson]] = [[]]
    size = 0
    for trade, its_fields in zip(trades, fields, strict=True):
        more = _bytes(trade)
        if chunks[-1] and size + more > CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(its_fields)
        size += more
    return chunks
