from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, FloatOperation, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain.enums import FormulaCategory, ParameterType
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.errors import InvalidData

INT, FLOAT, DECIMAL = ParameterType.INT, ParameterType.FLOAT, ParameterType.DECIMAL
STRING, BOOL = ParameterType.STRING, ParameterType.BOOL


def formula(expression: str, *parameters: FormulaParameter) -> Formula:
    return Formula(name="f", expression=expression, parameters=parameters)


def test_a_longer_name_keeps_its_head() -> None:
    made = formula(
        "a(:n) + b(:nn) + c(:n2)", *(FormulaParameter(n, INT) for n in ("n", "nn", "n2"))
    )
    assert made.with_parameters(n=1, nn=2, n2=3) == "a(1) + b(2) + c(3)"


def test_a_value_that_looks_like_a_token_is_not_replaced_again() -> None:
    made = formula("x = :a and y = :b", FormulaParameter("a", STRING), FormulaParameter("b", INT))
    assert made.with_parameters(a=":b", b=1) == "x = :b and y = 1"


@pytest.mark.parametrize(
    ("expression", "replaced"),
    [
        (":n", "7"),
        ("(:n)", "(7)"),
        (":n:n", "7:n"),
        ("x>:n;", "x>7;"),
        ("x::n", "x::n"),
        ("12:n", "12:n"),
        ("word:n", "word:n"),
        (": n", ": n"),
        ("12:30", "12:30"),
        ("-:n", "-7"),
        (":n.:n", "7.7"),
    ],
)
def test_only_whole_tokens_are_replaced(expression: str, replaced: str) -> None:
    assert formula(expression, FormulaParameter("n", INT)).with_parameters(n=7) == replaced


def test_names_may_be_korean_and_one_may_be_self() -> None:
    made = formula(":기간+:self", FormulaParameter("기간", INT), FormulaParameter("self", INT))
    assert made.with_parameters(기간=5, self=6) == "5+6"


@pytest.mark.parametrize("name", ["", "a b", "1a", "a-b", "a:b", " a", "e\u0301", "a·b", None])
def test_a_name_that_no_token_matches_is_refused(name: Any) -> None:
    with pytest.raises(InvalidData) as caught:
        FormulaParameter(name)
    assert caught.value.field == "name"


def test_defaults_fill_in_and_give_way() -> None:
    made = formula("(:a, :b)", FormulaParameter("a", INT, 1), FormulaParameter("b", INT, 0))
    assert made.with_parameters(a=5) == "(5, 0)"


def test_a_missing_value_is_refused_even_where_it_is_not_used() -> None:
    for expression in (":a", "1"):
        with pytest.raises(InvalidData, match="field 'a': needs a value"):
            formula(expression, FormulaParameter("a", INT)).with_parameters()


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidData, match=r"field 'b'.*it has a\)"):
        formula(":a", FormulaParameter("a", INT, 1)).with_parameters(b=1)
    with pytest.raises(InvalidData, match="it has none"):
        formula("1").with_parameters(b=1)


def test_an_undeclared_token_is_refused() -> None:
    with pytest.raises(InvalidData, match=r"field 'b'.*not declared"):
        formula(":a + :b", FormulaParameter("a", INT, 1)).with_parameters()


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (INT, -5, "-5"),
        (FLOAT, 0.1, "0.1"),
        (FLOAT, 1e-7, "0.0000001"),
        (FLOAT, 1e22, "10000000000000000000000"),
        (FLOAT, 3, "3"),
        (FLOAT, Decimal("0.10"), "0.10"),
        (DECIMAL, Decimal("1.50"), "1.50"),
        (DECIMAL, Decimal("1E+3"), "1000"),
        (DECIMAL, 2, "2"),
        (STRING, "abc", "abc"),
        (BOOL, True, "True"),
        (BOOL, False, "False"),
    ],
)
def test_values_are_written_plainly(kind: ParameterType, value: Any, text: str) -> None:
    assert formula(":p", FormulaParameter("p", kind)).with_parameters(p=value) == text


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=10, min_value=-(10**20), max_value=10**20
    )
)
def test_decimals_are_written_exactly_whatever_the_context(value: Decimal) -> None:
    with localcontext() as context:
        context.prec = 2
        text = formula(":p", FormulaParameter("p", DECIMAL)).with_parameters(p=value)
    assert Decimal(text) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (INT, 1.0),
        (INT, True),
        (INT, "1"),
        (INT, 2**63),
        (FLOAT, float("nan")),
        (FLOAT, float("inf")),
        (FLOAT, "1"),
        (FLOAT, False),
        (DECIMAL, 1.5),
        (DECIMAL, Decimal("NaN")),
        (STRING, 5),
        (STRING, "a\0"),
        (BOOL, 1),
        (BOOL, "True"),
        (BOOL, None),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(kind: ParameterType, value: Any) -> None:
    with pytest.raises(InvalidData) as caught:
        formula(":p", FormulaParameter("p", kind)).with_parameters(p=value)
    assert caught.value.field == "p"


@pytest.mark.parametrize("kind", [INT, FLOAT, DECIMAL])
def test_bounds_are_included(kind: ParameterType) -> None:
    parameter = FormulaParameter("p", kind, min_value=1, max_value=3)
    assert [parameter.check(value) for value in (1, 3)] == [1, 3]
    for value, rule in ((0, "must be at least 1"), (4, "must be at most 3")):
        with pytest.raises(InvalidData, match=rule):
            parameter.check(value)


def test_a_float_is_compared_as_it_is_written() -> None:
    tenth = FormulaParameter("p", FLOAT, min_value=Decimal("0.1"), max_value=Decimal("0.1"))
    assert tenth.check(0.1) == 0.1
    assert FormulaParameter("p", FLOAT, 0.3, 0.3, Decimal("0.3")).max_value == Decimal("0.3")


def test_comparing_ignores_the_decimal_context_of_the_caller() -> None:
    with localcontext() as context:
        context.traps[FloatOperation] = True
        assert FormulaParameter("p", FLOAT, max_value=Decimal(1)).check(0.5) == 0.5


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"data_type": "date"}, "data_type"),
        ({"min_value": 3, "max_value": 2}, "max_value"),
        ({"min_value": 0.2, "max_value": Decimal("0.1")}, "max_value"),
        ({"min_value": float("nan")}, "min_value"),
        ({"max_value": "5"}, "max_value"),
        ({"max_value": True}, "max_value"),
        ({"data_type": STRING, "min_value": 1}, "min_value"),
        ({"data_type": BOOL, "max_value": 1}, "max_value"),
        ({"default_value": 5, "max_value": 4}, "default_value"),
        ({"data_type": INT, "default_value": 1.5}, "default_value"),
    ],
)
def test_a_parameter_that_contradicts_itself_is_refused(fields: Any, field: str) -> None:
    with pytest.raises(InvalidData) as caught:
        FormulaParameter("p", **fields)
    assert caught.value.field == field


def test_a_parameter_may_have_equal_bounds() -> None:
    assert FormulaParameter("p", "int", 2, 2, 2).data_type is INT  # type: ignore[arg-type]


def test_a_formula_keeps_what_it_was_given() -> None:
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    made = Formula(
        id="A" * 24,
        name="골든크로스",
        expression="x",
        category="entry",  # type: ignore[arg-type]
        tags=["b", "a", "b"],  # type: ignore[arg-type]
        created_at=moment,
        updated_at=moment,
    )
    assert (made.id, made.category) == ("a" * 24, FormulaCategory.ENTRY)
    assert (made.tags, made.parameters, made.version) == (("b", "a"), (), 1)
    assert made.description is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "x"),
        ("name", ""),
        ("name", None),
        ("name", "x" * 100_001),
        ("expression", ""),
        ("expression", " \n"),
        ("expression", "a\0"),
        ("category", "buy"),
        ("description", 5),
        ("tags", "abc"),
        ("parameters", None),
        ("parameters", ["p"]),
        ("parameters", [FormulaParameter("p"), FormulaParameter("p")]),
        ("version", 0),
        ("created_at", datetime(2024, 1, 2)),
        ("updated_at", datetime(2024, 1, 2)),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    values: dict[str, Any] = {"name": "f", "expression": "x"}
    with pytest.raises(InvalidData) as caught:
        Formula(**values | {field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("query", "rank"),
    [
        ("golden", 0),
        ("GOLD cr", 0),
        ("cross golden", 0),
        ("trend", 1),
        ("gold rises", 1),
        ("골든", 1),
        ("크로스", 3),
        ("rises 크로스", 3),
        ("olden", None),
        ("golden sell", None),
        ("", None),
        (" -%", None),
    ],
)
def test_a_match_by_name_ranks_before_one_elsewhere(query: str, rank: int | None) -> None:
    made = Formula(
        name="Golden Cross", expression="x", description="It rises", tags=("trend", "골든크로스")
    )
    assert made.rank(query) == rank
    assert Formula(name="Golden Cross", expression="x").rank("trend") is None


@pytest.mark.parametrize(
    ("name", "query", "rank"),
    [
        ("골든크로스", "크로스", 2),
        ("골든크로스", "골든 크로스", 2),
        ("골든크로스", "골든", 0),
        ("移動平均線", "平均", 2),
        ("ゴールデンクロス", "クロス", 2),
        ("RSI다이버전스", "다이버전스", 2),
        ("골든CROSS", "cross", 2),
        ("종가5일선", "5일선", 2),
        ("종가15일선", "5일선", None),
        ("골든across", "cross", None),
        ("ab크로스cross", "cross", 2),
        ("크로스", "로크", None),
    ],
)
def test_scripts_that_join_words_are_searched_within_them(
    name: str, query: str, rank: int | None
) -> None:
    assert Formula(name=name, expression="x").rank(query) == rank
