from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from jts_storage.domain.enums import Market
from jts_storage.domain.results import SaveResult
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import InvalidData

MOMENT = datetime(2024, 1, 2, tzinfo=UTC)


def symbol(**fields: Any) -> Symbol:
    values: dict[str, Any] = {"code": "005930", "name": "삼성전자", "market": Market.KOSPI}
    return Symbol(**values | fields)


def test_a_symbol_keeps_what_it_was_given() -> None:
    given = symbol(sector="전기전자", updated_at=MOMENT)
    assert (given.code, given.name, given.market) == ("005930", "삼성전자", Market.KOSPI)
    assert (given.sector, given.is_active, given.updated_at) == ("전기전자", True, MOMENT)


def test_market_and_moment_are_normalised() -> None:
    given = symbol(market="ETF", updated_at=MOMENT.astimezone(timezone(timedelta(hours=9))))
    assert given.market is Market.ETF
    assert given.updated_at is not None
    assert given.updated_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", ""),
        ("code", "a\0"),
        ("name", ""),
        ("name", None),
        ("market", "MARS"),
        ("sector", ""),
        ("is_active", 1),
        ("is_active", None),
        ("updated_at", datetime(2024, 1, 2)),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        symbol(**{field: value})
    assert caught.value.field == field


def test_a_save_counts_the_rest_only_when_asked() -> None:
    result = SaveResult(3)
    assert (result.duplicates, result.inserted, result.replaced) == (0, None, None)
    assert result.unchanged is None


@pytest.mark.parametrize(
    ("query", "found"),
    [("0059", True), ("성전", True), ("", False), ("%", False), ("_", False), ("000", False)],
)
def test_a_symbol_is_found_by_part_of_its_code_or_name(query: str, found: bool) -> None:
    assert symbol().matches(query) is found


def test_finding_a_symbol_ignores_case() -> None:
    assert symbol(code="AAPL", name="Apple").matches("aapL")
    assert symbol(code="AAPL", name="Apple").matches("PPLE")
