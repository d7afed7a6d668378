"""The contract of a store of formulas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from jts_storage.domain.enums import FormulaCategory
from jts_storage.domain.formula import Formula
from jts_storage.domain.moments import AsOf
from jts_storage.domain.results import Page
from jts_storage.domain.revision import Revision


class FormulaReader(Protocol):
    """Reads formulas. Lists are ordered by id; `after` is the last id of the page before.

    An id that is no document id is simply not found. What is stored and cannot be read is left out
    of lists, with a line in the log; `get_by_id` raises `InvalidData` for it.
    """

    async def get_by_id(self, formula_id: str) -> Formula | None:
        """The formula of that id, None if there is none."""
        ...

    async def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        """The formulas of a category."""
        ...

    async def get_by_tag(
        self, tag: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        """The formulas that carry the tag, spelled exactly so."""
        ...

    async def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        """The formulas that carry every one of the tags; no tags find nothing."""
        ...

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        """The formulas that have every word of `query`, or words that begin with it, in name,
        description or tags, whatever the case.

        Those that match in the name come before those that match in tags or description only. In
        Korean, Chinese and Japanese, which join words, the query may also begin within a word:
        "크로스" finds "골든크로스", behind all that begins with it. An empty query finds nothing,
        and punctuation is no operator.
        """
        ...

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Formula]:
        """All formulas.

        :param strict: raise `InvalidData` for one that cannot be read, in place of leaving it out.
        """
        ...


class FormulaStore(FormulaReader, Protocol):
    """Reads formulas as they are, and as they were.

    The history is what the commits of units of work made of them: what another program writes
    straight into MongoDB is in the history once a unit of work saves it. Lists as of a moment are
    those of `Storage.as_of`.
    """

    async def get_by_id(
        self, formula_id: str, *, version: int | None = None, as_of: AsOf | None = None
    ) -> Formula | None:
        """The formula of that id as it is, None if there is none.

        :param version: give it as it was under this version of its own, also if it is deleted by
            now; None if it has not come so far, and where nothing is known of it any more.
        :param as_of: give it as it was then, after every commit up to that moment; None if there
            was none.
        :raises NotFound: the version is not kept: it is older than the history, or was purged, or
            no backtest result names it and `history_days` are over; or there is no such snapshot.
        :raises InvalidData: both are given; or the moment is in the future, or no history of it is
            kept, or what it was then was purged.
        """
        ...

    async def history(
        self, formula_id: str, *, limit: int = 1_000, after: Revision[Formula] | None = None
    ) -> Page[Revision[Formula]]:
        """What is kept of what commits made of the formula, oldest first; deletions, too.

        The first may be what it was when history began, or at the beginning of what is kept of it.
        One that cannot be read is left out, with a line in the log; one that was purged without.

        :param after: the last one of the page before.
        """
        ...

    async def purge_history(
        self,
        formula_id: str | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        """Erase for good what the formula was, as far as that was over by a moment.

        What it was at the moment, and later, stays; so do deletions. Reads as of a moment of which
        something was erased are refused: of the formula, and of lists that it may belong to.

        :param formula_id: None stands for all.
        :param before: up to this moment; up to now if None.
        :param despite_snapshots: although snapshots show some of it: they stay, and reads of them
            are refused for what was purged.
        :return: how many revisions were erased.
        :raises InUse: a snapshot shows one of them. Nothing is erased.
        :raises InvalidData: the moment is in the future.
        :raises NotFound: there neither is nor was such a formula, or there is no such snapshot.
        """
        ...


class FormulaRepository(FormulaReader, Protocol):
    """Reads and writes formulas."""

    async def save(self, formula: Formula) -> Formula:
        """Insert a formula without an id, or update the one of that id; the stored one returns.

        What returns carries its id, its version (counted up by an update) and its times.

        :raises Conflict: the stored version is not the formula's, or its `created_at` or
            `updated_at`, as far as the formula has them; or it was deleted meanwhile.
        :raises InvalidData: it is larger than could be updated later.
        """
        ...

    async def save_many(self, formulas: Iterable[Formula]) -> Sequence[Formula]:
        """`save` for several in few round trips, in their order.

        :raises Conflict: for the first at fault; those before it may be stored, outside a unit of
            work, which stores all or none.
        """
        ...

    async def delete(self, formula_id: str, *, force: bool = False) -> bool:
        """Remove a formula; whether there was one.

        :param force: remove it although strategies use it, or somebody begins to.
        :raises Conflict: strategies use it; the message has their names. Or somebody saves one that
            begins to use it at the same time: of the two, the first to commit wins.
        """
        ...
