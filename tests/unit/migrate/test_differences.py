"""How a difference reads."""

from __future__ import annotations

import pytest

from jts_storage.ports.schema import NOTHING, THERE, Difference


@pytest.mark.parametrize(
    ("expected", "actual", "said"),
    [
        (THERE, NOTHING, "table is missing"),
        ("Int64", "Int32", "table should be Int64, is Int32"),
        (NOTHING, "Int32", "table should be nothing, is Int32"),
    ],
)
def test_a_difference_is_a_sentence(expected: str, actual: str, said: str) -> None:
    found = Difference("relational", "balances", "table", expected, actual, "CREATE TABLE ...")
    assert str(found) == f"relational balances: {said}; mend it with: CREATE TABLE ..."
