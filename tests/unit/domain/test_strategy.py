from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from jts_storage.domain.enums import StopLossType
from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.errors import InvalidData

A, B, C = "a" * 24, "b" * 24, "c" * 24


def test_a_stop_loss_is_a_formula_or_a_percentage() -> None:
    assert StopLossRule(formula_id=A).type is StopLossType.FORMULA
    assert StopLossRule(percentage=Decimal("2.5")).type is StopLossType.FIXED_PCT


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"formula_id": A, "percentage": Decimal(1)},
        {"formula_id": "x"},
        {"percentage": Decimal(0)},
        {"percentage": Decimal("100.1")},
        {"percentage": 2.5},
    ],
)
def test_a_stop_loss_of_both_neither_or_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidData):
        StopLossRule(**fields)


def test_a_whole_percentage_becomes_a_decimal() -> None:
    assert isinstance(StopLossRule(percentage=5).percentage, Decimal)  # type: ignore[arg-type]


def test_risk_has_defaults_and_no_limits() -> None:
    risk = RiskConfig()
    assert (risk.position_size_pct, risk.max_positions) == (Decimal(10), 10)
    assert (risk.take_profit_pct, risk.max_daily_loss_pct) == (None, None)


@pytest.mark.parametrize(
    ("field", "good"),
    [
        ("position_size_pct", [Decimal("0.1"), Decimal(100)]),
        ("max_positions", [1, 2**31 - 1]),
        ("take_profit_pct", [Decimal("0.1"), Decimal(250)]),
        ("max_daily_loss_pct", [Decimal("0.1"), Decimal(100)]),
    ],
)
def test_risk_within_its_ranges_is_taken(field: str, good: list[Any]) -> None:
    for value in good:
        assert getattr(RiskConfig(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("position_size_pct", [0, -1, Decimal("100.1"), 1.5, None]),
        ("max_positions", [0, 2**31, True, Decimal(1)]),
        ("take_profit_pct", [0, -1, 1.5]),
        ("max_daily_loss_pct", [0, -1, Decimal("100.1"), 1.5]),
    ],
)
def test_risk_outside_its_ranges_is_refused(field: str, bad: list[Any]) -> None:
    for value in bad:
        with pytest.raises(InvalidData) as caught:
            RiskConfig(**{field: value})
        assert caught.value.field == field


def test_whole_percentages_of_risk_become_decimals() -> None:
    risk = RiskConfig(position_size_pct=5, take_profit_pct=6, max_daily_loss_pct=7)  # type: ignore[arg-type]
    assert all(
        isinstance(value, Decimal)
        for value in (risk.position_size_pct, risk.take_profit_pct, risk.max_daily_loss_pct)
    )


def test_a_strategy_knows_every_formula_it_refers_to() -> None:
    strategy = Strategy(
        name="s",
        entry_formula_id=A.upper(),
        exit_formula_id=B,
        stop_loss_rule=StopLossRule(formula_id=C),
    )
    assert strategy.formula_ids == {A, B, C}
    assert strategy.entry_formula_id == A
    assert Strategy(name="s").formula_ids == frozenset()
    fixed = Strategy(name="s", stop_loss_rule=StopLossRule(percentage=Decimal(1)))
    assert fixed.formula_ids == frozenset()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "x"),
        ("name", ""),
        ("entry_formula_id", "x"),
        ("exit_formula_id", 5),
        ("stop_loss_rule", Decimal(5)),
        ("risk_config", None),
        ("risk_config", {}),
        ("description", 5),
        ("version", 0),
        ("created_at", datetime(2024, 1, 2)),
        ("updated_at", datetime(2024, 1, 2)),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    values: dict[str, Any] = {"name": "s"}
    with pytest.raises(InvalidData) as caught:
        Strategy(**values | {field: value})
    assert caught.value.field == field


def test_the_header_of_a_document_is_normalised() -> None:
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    strategy = Strategy(id=A.upper(), name="s", created_at=moment, updated_at=moment)
    assert (strategy.id, strategy.version) == (A, 1)
    assert (strategy.created_at, strategy.updated_at) == (moment, moment)
