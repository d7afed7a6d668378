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


def test_what_must_be_known_comes_before_the_command() -> None:
    found = Difference("clickhouse", "t.c", "column", "x", "y", "ALTER ...", "Values are lost.")
    said = str(found)
    assert said == (
        "clickhouse t.c: column should be x, is y; first know: Values are lost."
        " Then mend it with: ALTER ..."
    )


def test_a_note_says_that_it_is_one() -> None:
    found = Difference("clickhouse", "t.d", "reader", NOTHING, "there", "DETACH ...", is_note=True)
    assert str(found).startswith("note: clickhouse t.d: reader should be nothing")
    assert str(found).endswith("; to change it: DETACH ...")
