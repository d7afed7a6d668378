"""Searching formulas: the text index ranks whole words, a filter finds what begins with them.

`Formula.rank` decides what is a match, and how good a one; the server only narrows down. The order
is: that rank, then the score of the text index (0 for what only begins with a word), then id.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from pymongo import ASCENDING

from jts_storage.domain.formula import Formula
from jts_storage.errors import SchemaDrift
from jts_storage.mongo import queries
from jts_storage.mongo.access import as_stored
from jts_storage.mongo.documents import FormulaDocument
from jts_storage.mongo.manager import Bson
from jts_storage.mongo.store import VersionedStore
from jts_storage.mongo.stored import ID

_SCORE: Final = "_searchScore"
_BY_SCORE: Final = {"$meta": "textScore"}
_WITH_SCORE: Final = as_stored({_SCORE: _BY_SCORE})
_INDEX_NOT_FOUND: Final = 27
_IN_NAME: Final = 0


class _Hit(NamedTuple):
    """A formula that matches; sorts as the results shall be ordered."""

    rank: int
    minus_score: float
    id: str
    formula: Formula


class FormulaSearch:
    """`find` of the formula repository."""

    def __init__(self, store: VersionedStore[FormulaDocument, Formula]) -> None:
        self._store = store

    async def find(self, query: str, limit: int) -> list[Formula]:
        wanted = queries.words(query)
        if not wanted or not limit:
            return []
        hits = await self._by_words(query, wanted, limit)
        # Whole words in names come first in any case; with a page full of them the scan is spared.
        if not _suffices(hits, limit):
            hits += await self._by_beginnings(query, wanted, limit, hits)
        return [hit.formula for hit in sorted(hits, key=lambda hit: hit[:3])[:limit]]

    async def _by_words(self, query: str, wanted: list[str], limit: int) -> list[_Hit]:
        text = queries.whole_words(wanted)
        if text is None:
            return []
        bound, session = await self._store.bound(), self._store.session
        search = bound.find(
            {"$text": {"$search": text}},
            projection_model=_WITH_SCORE,
            sort=[(_SCORE, _BY_SCORE), (ID, ASCENDING)],
            limit=limit,
            batch_size=limit,
            session=session,
        )
        try:
            found: list[Bson] = await self._store.repeat("searching", search.to_list)
        except SchemaDrift as exc:
            # A database of JTS before its migration has no text index. A transaction has ended
            # with the error, so there it is raised.
            if exc.code != _INDEX_NOT_FOUND or session is not None:
                raise
            return []
        hits = (self._hit(query, document) for document in found)
        return [hit for hit in hits if hit is not None]

    async def _by_beginnings(
        self, query: str, wanted: list[str], limit: int, known: list[_Hit]
    ) -> list[_Hit]:
        """Further matches: all of the page, and not more than that in memory."""
        bound = await self._store.bound()
        where = queries.beginnings(self._store.model, wanted)
        seen = {hit.id for hit in known}
        in_name_before = sum(hit.rank == _IN_NAME for hit in known)

        async def read() -> list[_Hit]:
            by_rank: defaultdict[int, list[_Hit]] = defaultdict(list)
            # Every document is looked at anyway, so in the order of the disk: an index would only
            # add a jump for each.
            candidates = bound.find(
                where,
                projection_model=as_stored(),
                sort=[(ID, ASCENDING)],
                hint=[("$natural", ASCENDING)],
                allow_disk_use=True,
                session=self._store.session,
            )
            async with await candidates.get_cursor() as cursor:
                async for document in cursor:
                    if str(document[ID]) in seen:
                        continue
                    hit = self._hit(query, document)
                    if hit is None:
                        continue
                    if len(by_rank[hit.rank]) < limit:
                        by_rank[hit.rank].append(hit)
                    if in_name_before + len(by_rank[_IN_NAME]) >= limit:
                        break
            return [hit for hits in by_rank.values() for hit in hits]

        return await self._store.repeat("searching", read)

    def _hit(self, query: str, document: Bson) -> _Hit | None:
        formula = self._store.read_or_skip(document, self._store.read)
        rank = None if formula is None else formula.rank(query)
        if formula is None or rank is None:
            return None
        return _Hit(rank, -document.get(_SCORE, 0.0), str(formula.id), formula)


def _suffices(hits: list[_Hit], limit: int) -> bool:
    return len(hits) == limit and all(hit.rank == _IN_NAME for hit in hits)
