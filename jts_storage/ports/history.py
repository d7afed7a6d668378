"""The contract of a view of what was."""

from __future__ import annotations

from typing import Protocol

from jts_storage.domain.moments import Commit
from jts_storage.ports.candles import CandleReader
from jts_storage.ports.formulas import FormulaReader
from jts_storage.ports.strategies import StrategyReader


class View(Protocol):
    """All that was committed up to a moment, and nothing later: it never changes.

    Symbols, backtest results and bookkeeping keep no history; read them of the storage. A search
    for formulas reads all of them, since only those of now have an index.
    """

    @property
    def commit(self) -> Commit:
        """The moment, as a place in the order of commits."""
        ...

    @property
    def candles(self) -> CandleReader: ...
    @property
    def formulas(self) -> FormulaReader: ...
    @property
    def strategies(self) -> StrategyReader: ...
