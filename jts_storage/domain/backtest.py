"""What a backtest was asked, what it found, and every trade it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from jts_storage.domain import checks
from jts_storage.domain.data_sets import DataSet
from jts_storage.domain.enums import TradeSide, member
from jts_storage.errors import InvalidData


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestConfig:
    """What was tested.

    :param data_fingerprint: of what it saw: `Storage.fingerprint` of the data set, or that of a
        series or a panel.
    :param data_set: what it saw, so that `verify` can tell what became of it.
    """

    start_date: datetime
    end_date: datetime
    symbols: tuple[str, ...]
    initial_capital: Decimal
    data_fingerprint: str | None = None
    data_set: DataSet | None = None

    def __post_init__(self) -> None:
        store = object.__setattr__
        store(self, "start_date", checks.utc(self.start_date, "start_date"))
        store(self, "end_date", checks.utc(self.end_date, "end_date"))
        if self.end_date < self.start_date:
            raise InvalidData(
                f"must not lie before start_date {self.start_date}",
                field="end_date",
                value=str(self.end_date),
            )
        store(self, "symbols", checks.names(self.symbols, "symbols"))
        capital = checks.decimal(self.initial_capital, "initial_capital")
        if capital <= 0:
            raise InvalidData("must be above 0", field="initial_capital", value=str(capital))
        store(self, "initial_capital", capital)
        checks.given(self, checks.name, "data_fingerprint")
        if self.data_set is not None:
            checks.instance(self.data_set, DataSet, "data_set")


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestMetrics:
    """Statistics of a run: floats, None where one is not defined.

    A drawdown is how much was lost, as a positive number: of two, the lower is the better.
    """

    total_return_pct: float | None = None
    sharpe_ratio: float | None = None
    max_drawdown_pct: float | None = None
    win_rate: float | None = None
    profit_factor: float | None = None
    total_trades: int = 0

    def __post_init__(self) -> None:
        ratios = ("total_return_pct", "sharpe_ratio", "max_drawdown_pct", "win_rate")
        checks.given(self, checks.finite, *ratios, "profit_factor")
        checks.whole(self.total_trades, "total_trades")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade, exact to the last digit. An open one has no exit yet."""

    symbol: str
    side: TradeSide
    entry_time: datetime
    entry_price: Decimal
    quantity: Decimal
    exit_time: datetime | None = None
    exit_price: Decimal | None = None
    pnl: Decimal | None = None
    exit_reason: str | None = None

    def __post_init__(self) -> None:
        store = object.__setattr__
        checks.name(self.symbol, "symbol")
        store(self, "side", member(TradeSide, self.side, "side"))
        store(self, "entry_time", checks.utc(self.entry_time, "entry_time"))
        store(self, "entry_price", checks.decimal(self.entry_price, "entry_price"))
        store(self, "quantity", checks.percentage(self.quantity, "quantity", above=0))
        checks.given(self, checks.utc, "exit_time")
        if self.exit_time is not None and self.exit_time < self.entry_time:
            raise InvalidData(
                f"must not lie before entry_time {self.entry_time}",
                field="exit_time",
                value=str(self.exit_time),
            )
        checks.given(self, checks.decimal, "exit_price", "pnl")
        checks.given(self, checks.text, "exit_reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestSummary:
    """One run of a strategy without its trades, as lists give it back.

    :param strategy_version: the version of the strategy that ran.
    :param formula_versions: the version that each of its formulas had, by the id of the formula.
    """

    strategy_id: str
    run_at: datetime
    config: BacktestConfig
    metrics: BacktestMetrics = field(default_factory=BacktestMetrics)
    id: str | None = None
    strategy_version: int | None = None
    formula_versions: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        store = object.__setattr__
        checks.given(self, checks.document_id, "id")
        store(self, "strategy_id", checks.document_id(self.strategy_id, "strategy_id"))
        store(self, "run_at", checks.utc(self.run_at, "run_at"))
        if not isinstance(self.config, BacktestConfig):
            raise InvalidData("must be a BacktestConfig", field="config", value=self.config)
        if not isinstance(self.metrics, BacktestMetrics):
            raise InvalidData("must be BacktestMetrics", field="metrics", value=self.metrics)
        if self.strategy_version is not None:
            checks.whole(self.strategy_version, "strategy_version", least=1)
        store(self, "formula_versions", _versions(self.formula_versions))

    @property
    def names_versions(self) -> bool:
        """Whether it says which versions of strategy or formulas ran."""
        return self.strategy_version is not None or bool(self.formula_versions)


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult(BacktestSummary):
    """One run of a strategy with its trades. Results are written once and not changed."""

    trades: tuple[Trade, ...] = ()

    def __post_init__(self) -> None:
        # No super() without arguments: a dataclass with slots is made anew.
        BacktestSummary.__post_init__(self)
        object.__setattr__(self, "trades", checks.several(self.trades, Trade, "trades"))

    def summary(self) -> BacktestSummary:
        """The same without the trades."""
        return BacktestSummary(
            strategy_id=self.strategy_id,
            run_at=self.run_at,
            config=self.config,
            metrics=self.metrics,
            id=self.id,
            strategy_version=self.strategy_version,
            formula_versions=self.formula_versions,
        )

    def with_versions(
        self, strategy_version: int | None, formula_versions: Mapping[str, int]
    ) -> BacktestResult:
        """The same with these versions, or as it is if it names versions itself."""
        if self.names_versions:
            return self
        return replace(self, strategy_version=strategy_version, formula_versions=formula_versions)


def _versions(given: object) -> dict[str, int]:
    if not isinstance(given, Mapping):
        raise InvalidData("must be a mapping", field="formula_versions", value=given)
    return {
        checks.document_id(formula_id, "formula_versions"): checks.whole(
            version, "formula_versions", least=1
        )
        for formula_id, version in given.items()
    }
