"""The contract of a store of strategies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from jts_storage.domain.moments import AsOf
from jts_storage.domain.results import Page
from jts_storage.domain.revision import Revision
from jts_storage.domain.strategy import Strategy


class StrategyReader(Protocol):
    """Reads strategies. Lists are ordered by id; `after` is the last id of the page before.

    What is stored and cannot be read is left out of lists, with a line in the log.
    """

    async def get_by_id(self, strategy_id: str) -> Strategy | None:
        """The strategy of that id, None if there is none or it is no document id."""
        ...

    async def get_by_formula(
        self, formula_id: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Strategy]:
        """The strategies that use the formula to enter, to leave or to stop a loss."""
        ...

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Strategy]:
        """All strategies.

        :param strict: raise `InvalidData` for one that cannot be read, in place of leaving it out.
        """
        ...


class StrategyStore(StrategyReader, Protocol):
    """Reads strategies as they are, and as they were.

    The history is what the commits of units of work made of them: what another program writes
    straight into MongoDB is in the history once a unit of work saves it. Lists as of a moment are
    those of `Storage.as_of`.
    """

    async def get_by_id(
        self, strategy_id: str, *, version: int | None = None, as_of: AsOf | None = None
    ) -> Strategy | None:
        """The strategy of that id as it is, None if there is none.

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
        self, strategy_id: str, *, limit: int = 1_000, after: Revision[Strategy] | None = None
    ) -> Page[Revision[Strategy]]:
        """What is kept of what commits made of the strategy, oldest first; deletions, too.

        The first may be what it was when history began, or at the beginning of what is kept of it.
        One that cannot be read is left out, with a line in the log; one that was purged without.

        :param after: the last one of the page before.
        """
        ...

    async def purge_history(
        self,
        strategy_id: str | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        """Erase for good what the strategy was, as far as that was over by a moment.

        What it was at the moment, and later, stays; so do deletions. Reads as of a moment of which
        something was erased are refused: of the strategy, and of lists that it may belong to.

        :param strategy_id: None stands for all.
        :param before: up to this moment; up to now if None.
        :param despite_snapshots: although snapshots show some of it: they stay, and reads of them
            are refused for what was purged.
        :return: how many revisions were erased.
        :raises InUse: a snapshot shows one of them. Nothing is erased.
        :raises InvalidData: the moment is in the future.
        :raises NotFound: there neither is nor was such a strategy, or there is no such snapshot.
        """
        ...


class StrategyRepository(StrategyReader, Protocol):
    """Reads and writes strategies."""

    async def save(self, strategy: Strategy) -> Strategy:
        """Insert a strategy without an id, or update the one of that id; as formulas are saved.

        The formulas that it names are not looked up: a reference may point to nothing.

        :raises Conflict: as for formulas; or a formula that it begins to use is deleted, or put to
            use, by somebody else at the same time.
        """
        ...

    async def save_many(self, strategies: Iterable[Strategy]) -> Sequence[Strategy]:
        """`save` for several in few round trips, in their order.

        :raises Conflict: as for formulas.
        """
        ...

    async def delete(self, strategy_id: str) -> bool:
        """Remove a strategy; whether there was one. Its backtest results stay."""
        ...
