"""Strategies: which formulas enter and leave, what stops a loss, how much is risked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from jts_storage.domain import checks
from jts_storage.domain.enums import StopLossType
from jts_storage.domain.formula import check_document_header
from jts_storage.errors import InvalidData


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLossRule:
    """Leave by a formula or at a fixed percentage: one of the two, never both or neither."""

    formula_id: str | None = None
    percentage: Decimal | None = None

    def __post_init__(self) -> None:
        if (self.formula_id is None) == (self.percentage is None):
            raise InvalidData("needs either a formula_id or a percentage", field="stop_loss_rule")
        checks.given(self, checks.document_id, "formula_id")
        if self.percentage is not None:
            pct = checks.percentage(self.percentage, "percentage", above=0, at_most=100)
            object.__setattr__(self, "percentage", pct)

    @property
    def type(self) -> StopLossType:
        return StopLossType.FORMULA if self.formula_id is not None else StopLossType.FIXED_PCT


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskConfig:
    """Limits in percent of the capital. None means no limit."""

    position_size_pct: Decimal = Decimal(10)
    max_positions: int = 10
    take_profit_pct: Decimal | None = None
    max_daily_loss_pct: Decimal | None = None

    def __post_init__(self) -> None:
        store = object.__setattr__
        size = checks.percentage(self.position_size_pct, "position_size_pct", above=0, at_most=100)
        store(self, "position_size_pct", size)
        checks.whole(self.max_positions, "max_positions", least=1, below=2**31)
        if self.take_profit_pct is not None:
            take = checks.percentage(self.take_profit_pct, "take_profit_pct", above=0)
            store(self, "take_profit_pct", take)
        if self.max_daily_loss_pct is not None:
            loss = checks.percentage(
                self.max_daily_loss_pct, "max_daily_loss_pct", above=0, at_most=100
            )
            store(self, "max_daily_loss_pct", loss)


@dataclass(frozen=True, slots=True)
class Strategy:
    """A trading strategy; `id` and `version` as in `Formula`."""

    id: str | None = None
    name: str = ""
    entry_formula_id: str | None = None
    exit_formula_id: str | None = None
    stop_loss_rule: StopLossRule | None = None
    risk_config: RiskConfig = field(default_factory=RiskConfig)
    description: str | None = None
    version: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        check_document_header(self)
        checks.given(self, checks.document_id, "entry_formula_id", "exit_formula_id")
        if self.stop_loss_rule is not None and not isinstance(self.stop_loss_rule, StopLossRule):
            raise InvalidData(
                "must be a StopLossRule", field="stop_loss_rule", value=self.stop_loss_rule
            )
        if not isinstance(self.risk_config, RiskConfig):
            raise InvalidData("must be a RiskConfig", field="risk_config", value=self.risk_config)

    @property
    def formula_ids(self) -> frozenset[str]:
        """Every formula that the strategy refers to."""
        stop = self.stop_loss_rule.formula_id if self.stop_loss_rule else None
        return frozenset(
            reference
            for reference in (self.entry_formula_id, self.exit_formula_id, stop)
            if reference is not None
        )
