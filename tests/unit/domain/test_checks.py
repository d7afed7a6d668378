from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_UP, Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain import checks
from jts_storage.errors import InvalidData

MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
SEOUL = ZoneInfo("Asia/Seoul")
HUGE = pytest.param(10**5000, id="huge")
LAST = datetime(2299, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


class Vague(tzinfo):
    """A zone that does not know its offset: its datetimes are naive."""

    def utcoffset(self, _: datetime | None) -> timedelta | None:
        return None

    def dst(self, _: datetime | None) -> timedelta | None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "somewhere"


def test_a_moment_of_another_zone_becomes_utc() -> None:
    moment = checks.utc(MOMENT.astimezone(SEOUL), "t")
    assert (moment, moment.tzinfo) == (MOMENT, UTC)


@pytest.mark.parametrize("moment", [datetime(1900, 1, 1, tzinfo=UTC), LAST])
def test_both_ends_of_what_stores_hold_are_taken(moment: datetime) -> None:
    assert checks.utc(moment, "t") == moment


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (datetime(2024, 1, 2), "must carry a time zone"),
        (datetime(2024, 1, 2, tzinfo=Vague()), "must carry a time zone"),
        (pd.NaT, "must carry a time zone"),
        (MOMENT + timedelta(microseconds=1), "must be whole milliseconds"),
        (pd.Timestamp(1, unit="ns", tz="UTC"), "must be whole milliseconds"),
        (datetime(1900, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1), "between 1900 and 2299"),
        (LAST + timedelta(milliseconds=1), "between 1900 and 2299"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=9))), "is out of range"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=9))), "is out of range"),
        ("2024-01-02T00:00:00Z", "must be a datetime"),
        (1_704_164_645_678, "must be a datetime"),
        (date(2024, 1, 2), "must be a datetime"),
        (None, "must be a datetime"),
    ],
)
def test_a_moment_that_stores_would_change_is_refused(value: object, rule: str) -> None:
    with pytest.raises(InvalidData, match=rule) as caught:
        checks.utc(value, "t", row=7)
    assert (caught.value.field, caught.value.row) == ("t", 7)


@pytest.mark.parametrize(
    "mended",
    [datetime.now(UTC).replace(microsecond=0), pd.Timestamp(1, unit="ns", tz="UTC").floor("ms")],
)
def test_what_the_error_of_a_finer_moment_proposes_is_taken(mended: datetime) -> None:
    assert checks.utc(mended, "t") == mended
    with pytest.raises(InvalidData, match=r"replace\(microsecond=0\).*floor\('ms'\)"):
        checks.utc(MOMENT + timedelta(microseconds=1), "t")


def test_a_pandas_timestamp_becomes_a_plain_datetime() -> None:
    moment = checks.utc(pd.Timestamp(MOMENT), "t")
    assert (moment, type(moment)) == (MOMENT, datetime)


@given(st.integers(checks.to_ms(checks.FIRST_TIMESTAMP), checks.to_ms(LAST)))
def test_milliseconds_go_to_datetimes_and_back(ms: int) -> None:
    assert checks.to_ms(checks.from_ms(ms)) == ms
    assert checks.utc(checks.from_ms(ms), "t") == checks.from_ms(ms)


def test_a_range_includes_both_ends_and_may_be_one_moment() -> None:
    assert checks.range_ms(MOMENT, MOMENT) == (checks.to_ms(MOMENT), checks.to_ms(MOMENT))


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (MOMENT, MOMENT - timedelta(milliseconds=1), "end"),
        (datetime(2024, 1, 2), MOMENT, "start"),
        (MOMENT, datetime(2024, 1, 2), "end"),
    ],
)
def test_a_range_backwards_or_naive_is_refused(start: datetime, end: datetime, field: str) -> None:
    with pytest.raises(InvalidData) as caught:
        checks.range_ms(start, end)
    assert caught.value.field == field


def test_the_present_is_one_that_stores_keep() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    present = checks.now()
    assert before <= present <= datetime.now(UTC)
    assert checks.utc(present, "t") == present


def test_a_day_has_no_time() -> None:
    assert checks.day(date(2024, 1, 2), "d") == date(2024, 1, 2)
    for value in (MOMENT, "2024-01-02", None):
        with pytest.raises(InvalidData, match="date without a time"):
            checks.day(value, "d")


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-0",
        "1",
        "0.0001",
        "-0.0001",
        "99999999999999.9999",
        "-99999999999999.9999",
        "1.00000000",
        "1E+13",
        "0E+5000",
        "0E-5000",
        "12.34",
    ],
)
def test_a_price_of_four_decimals_is_kept_as_it_is(text: str) -> None:
    assert checks.price(Decimal(text), "open") == Decimal(text)
    scaled = checks.scaled_price(Decimal(text), "open")
    assert checks.unscaled_price(scaled) == Decimal(text)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (Decimal("0.00001"), "at most four decimals"),
        (Decimal("1.23456"), "at most four decimals"),
        (Decimal("1E-5999"), "at most four decimals"),
        (Decimal("100000000000000"), r"must fit Decimal\(18, 4\)"),
        (Decimal("-1E+14"), r"must fit Decimal\(18, 4\)"),
        (Decimal("1E+5000"), r"must fit Decimal\(18, 4\)"),
        (Decimal("1E+6000"), "at most 34 digits"),
        (Decimal("1E-6000"), "at most 34 digits"),
        (Decimal("1" * 35), "at most 34 digits"),
        (Decimal("NaN"), "must be finite"),
        (Decimal("sNaN"), "must be finite"),
        (Decimal("-Infinity"), "must be finite"),
        (1.5, "must be a Decimal"),
        (True, "must be a Decimal"),
        ("1.5", "must be a Decimal"),
        (None, "must be a Decimal"),
    ],
)
def test_a_price_that_would_not_come_back_is_refused(value: object, rule: str) -> None:
    with pytest.raises(InvalidData, match=rule) as caught:
        checks.price(value, "open", row=2)
    assert (caught.value.field, caught.value.row) == ("open", 2)


def test_a_float_price_is_told_why() -> None:
    with pytest.raises(InvalidData, match="already lost digits"):
        checks.price(1.5, "open")


@given(st.integers(1 - 10**18, 10**18 - 1))
def test_scaled_prices_ignore_the_decimal_context_of_the_caller(scaled: int) -> None:
    with localcontext() as context:
        context.prec, context.rounding = 2, ROUND_UP
        price = checks.unscaled_price(scaled)
        assert checks.scaled_price(checks.price(price, "open"), "open") == scaled


def test_digits_are_counted_as_written() -> None:
    assert checks.decimal(Decimal("1." + "0" * 33), "x") == 1
    assert checks.decimal(10**33, "x") == Decimal(10) ** 33
    for value in (Decimal("1." + "0" * 34), 10**34, 10**5000):
        with pytest.raises(InvalidData, match="at most 34 digits"):
            checks.decimal(value, "x")
    with pytest.raises(InvalidData, match="at most 3 digits"):
        checks.decimal(1234, "x", digits=3)


def test_a_percentage_survives_a_double() -> None:
    value = checks.percentage(Decimal("12.3456789012345"), "p")
    assert Decimal(repr(float(value))) == value
    assert checks.percentage(Decimal(0), "p") == 0


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("1.234567890123456", "at most 15 digits"),
        ("1E+301", "is out of range"),
        ("1E-301", "is out of range"),
        ("0", "must be above 0"),
        ("-1", "must be above 0"),
        ("100.01", "must be at most 100"),
    ],
)
def test_a_percentage_outside_its_bounds_is_refused(value: str, rule: str) -> None:
    with pytest.raises(InvalidData, match=rule):
        checks.percentage(Decimal(value), "p", above=0, at_most=100)


def test_the_bounds_of_a_percentage_are_as_named() -> None:
    assert checks.percentage(Decimal(100), "p", above=0, at_most=100) == 100
    assert checks.percentage(Decimal("1E+300"), "p") == Decimal("1E+300")


def test_finite_numbers_become_floats() -> None:
    assert checks.finite(2, "x") == 2.0
    assert isinstance(checks.finite(2, "x"), float)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 10**400, HUGE, True, "1", None, Decimal(1)]
)
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        checks.finite(value, "x")
    assert caught.value.field == "x"


def test_whole_numbers_lie_from_the_least_to_below_the_limit() -> None:
    assert checks.whole(0, "x") == 0
    assert checks.whole(2**63 - 1, "x") == 2**63 - 1
    assert checks.whole(-5, "x", least=-5) == -5


@pytest.mark.parametrize("value", [-1, 2**63, HUGE, True, 1.0, "1", None, Decimal(1)])
def test_what_is_no_whole_number_in_range_is_refused(value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        checks.whole(value, "x", row=1)
    assert (caught.value.field, caught.value.row) == ("x", 1)


@pytest.mark.parametrize("value", ["005930", "삼성전자", "O'Brien; DROP", "50%\\_", "a b", "💹"])
def test_names_may_hold_whatever_can_be_printed(value: str) -> None:
    assert checks.name(value, "code") == value


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "must not be empty"),
        (" a", "blanks"),
        ("a ", "blanks"),
        ("a\tb", "control characters"),
        ("a\nb", "control characters"),
        ("a\x00b", "NUL"),
        ("a\ud800", "lone surrogates"),
        ("x" * 257, "at most 256 characters"),
        (5, "must be a string"),
        (b"a", "must be a string"),
        (None, "must be a string"),
    ],
)
def test_names_that_some_store_would_garble_are_refused(value: object, rule: str) -> None:
    with pytest.raises(InvalidData, match=rule) as caught:
        checks.name(value, "code")
    assert caught.value.field == "code"


def test_a_name_may_be_as_long_as_allowed() -> None:
    assert checks.name("x" * 256, "code") == "x" * 256


def test_text_may_be_empty_and_hold_line_breaks() -> None:
    assert checks.text("", "t") == ""
    assert checks.text("a\n\tb ", "t") == "a\n\tb "
    assert checks.text("x" * checks.LONGEST_TEXT, "t")
    with pytest.raises(InvalidData, match="at most 1000000 characters"):
        checks.text("x" * (checks.LONGEST_TEXT + 1), "t")


def test_names_are_kept_once_and_in_order() -> None:
    assert checks.names(["b", "a", "b"], "tags") == ("b", "a")
    assert checks.names((), "tags") == ()


@pytest.mark.parametrize("value", ["ab", None, 5, [1], ["a", ""], b"ab"])
def test_what_is_not_several_names_is_refused(value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        checks.names(value, "tags")
    assert caught.value.field == "tags"


def test_several_objects_are_of_one_kind() -> None:
    assert checks.several(iter([1, 2]), int, "x") == (1, 2)
    with pytest.raises(InvalidData, match="row 1, field 'x': must be a int"):
        checks.several([1, "2"], int, "x")
    with pytest.raises(InvalidData, match="must be several int objects"):
        checks.several(None, int, "x")


def test_a_document_id_is_kept_in_lower_case() -> None:
    assert checks.document_id("ABCDEF" * 4, "id") == "abcdef" * 4


@pytest.mark.parametrize("value", ["", "a" * 23, "a" * 25, "g" * 24, "٠" * 24, None, 5, b"a" * 24])
def test_what_is_no_document_id_is_refused(value: object) -> None:
    with pytest.raises(InvalidData, match="24 hexadecimal digits"):
        checks.document_id(value, "id")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_json_values_are_kept(value: Any) -> None:
    assert checks.json_value(value, "data") == value


def test_json_values_are_copied_to_the_bottom() -> None:
    inner: list[int] = [1]
    copied = checks.json_value({"a": (inner,)}, "data")
    inner.append(2)
    assert copied == {"a": [[1]]}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": [float("nan")]}, "data.a[0]"),
        ({"a": {"b": 2**63}}, "data.a.b"),
        ({"a": -(2**63) - 1}, "data.a"),
        ({1: "a"}, "data"),
        ({"a\0": 1}, "data"),
        (["a\0"], "data[0]"),
        ({"a": {1, 2}}, "data.a"),
        (Decimal(1), "data"),
        (b"a", "data"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(value: Any, field: str) -> None:
    with pytest.raises(InvalidData) as caught:
        checks.json_value(value, "data")
    assert caught.value.field == field


def test_json_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidData, match="nests too deeply"):
        checks.json_value(value, "data")


def test_json_may_nest_a_hundred_levels() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    assert checks.json_value(value, "data") == value
    with pytest.raises(InvalidData, match="nests too deeply"):
        checks.json_value([value], "data")
