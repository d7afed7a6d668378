"""The contract of a store of strategies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

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
