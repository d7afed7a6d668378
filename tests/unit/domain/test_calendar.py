from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import exchange_calendars
import numpy as np
import pytest

from jts_storage.domain import checks
from jts_storage.domain.calendar import ExchangeCalendar, exchange_calendar, resolve
from jts_storage.errors import InvalidConfiguration, InvalidData

# exchange_calendars calls what the newest pandas deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:exchange_calendars")


def ms(*parts: int) -> int:
    return checks.to_ms(datetime(*parts, tzinfo=UTC))  # type: ignore[misc, arg-type]


def test_a_name_is_one_calendar() -> None:
    assert exchange_calendar("XNYS") is exchange_calendar("XNYS")
    assert resolve("XNYS") is exchange_calendar("XNYS")
    assert resolve(None) is None
    for alias in ("NASDAQ", "xnas", "NYSE"):
        assert resolve(alias) is exchange_calendar("XNYS")
    for alias in ("24/7", "CRYPTO", "upbit"):
        assert resolve(alias) is None, "it never closes"
    mine = ExchangeCalendar("XNYS")
    assert resolve(mine) is mine
    assert repr(mine) == "ExchangeCalendar('XNYS')"


def test_sessions_hold_opening_close_and_date() -> None:
    sessions = exchange_calendar("XKRX").sessions(ms(2024, 1, 2), ms(2024, 1, 3))
    row = sessions.dates.tolist().index(ms(2024, 1, 2))
    # The first session of a year opens an hour late.
    assert sessions.opens[row : row + 2].tolist() == [ms(2024, 1, 2, 1), ms(2024, 1, 3, 0)]
    assert sessions.closes[row] == ms(2024, 1, 2, 6, 30)
    assert sessions.break_starts[row] == sessions.break_ends[row] == -1
    assert {column.dtype for column in (sessions.dates, sessions.opens)} == {np.dtype(np.int64)}


def test_sessions_hold_the_break_at_noon() -> None:
    sessions = exchange_calendar("XHKG").sessions(ms(2024, 1, 2), ms(2024, 1, 2, 8))
    row = sessions.dates.tolist().index(ms(2024, 1, 2))
    assert sessions.break_starts[row] == ms(2024, 1, 2, 4)
    assert sessions.break_ends[row] == ms(2024, 1, 2, 5)


@pytest.mark.parametrize("hours", [0, 13, 14, 15, 20, 21, 22, 24, 48, 72])
def test_sessions_cover_the_range_and_one_on_either_side(hours: int) -> None:
    first = ms(2024, 1, 3) + hours * 3_600_000
    sessions = exchange_calendar("XNYS").sessions(first, first + 3_600_000)
    assert sessions.closes[0] < first
    assert sessions.opens[-1] > first + 3_600_000
    assert 2 <= len(sessions) <= 4


def test_the_first_session_of_all_has_none_before() -> None:
    sessions = exchange_calendar("XNYS").sessions(ms(1990, 1, 1), ms(1990, 1, 2))
    assert sessions.dates[0] == ms(1990, 1, 2)


def test_a_range_beyond_what_is_known_is_refused() -> None:
    calendar = exchange_calendar("XNYS")
    for first, last in ((ms(1985, 1, 1), ms(2024, 1, 1)), (ms(2024, 1, 1), ms(2200, 1, 1))):
        with pytest.raises(InvalidData, match=r"XNYS knows only 1990-01-02 to 20"):
            calendar.sessions(first, last)
    tomorrow = checks.to_ms(datetime.now(UTC) + timedelta(days=1))
    assert len(calendar.sessions(tomorrow, tomorrow)) >= 2


def test_a_calendar_that_begins_after_1990_is_taken_from_there() -> None:
    sessions = exchange_calendar("XTKS").sessions(ms(1997, 1, 6), ms(1997, 1, 7))
    assert sessions.dates[0] == ms(1997, 1, 6)
    with pytest.raises(InvalidData, match="XTKS knows only 1997-01-06"):
        exchange_calendar("XTKS").sessions(ms(1995, 1, 6), ms(1997, 1, 7))


@pytest.mark.parametrize("name", ["XXXX", "", "xkrx"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidData, match="is no calendar of exchange_calendars"):
        ExchangeCalendar(name).sessions(0, 1)


def test_without_the_package_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(InvalidConfiguration, match=r"pip install 'jts-storage\[calendars\]'"):
        ExchangeCalendar("XKRX").sessions(0, 1)


@pytest.mark.parametrize("error", [ValueError("no"), NotImplementedError("no")])
def test_a_calendar_that_the_package_cannot_build_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(exchange_calendars, "get_calendar", broken)
    with pytest.raises(InvalidConfiguration, match="cannot build calendar 'XTAE': no"):
        ExchangeCalendar("XTAE").sessions(0, 1)


# Holidays that go by the moon take half a minute of computing.
@pytest.mark.parametrize("name", ["XNYS", pytest.param("XKRX", marks=pytest.mark.slow)])
def test_recent_ranges_need_no_schedule_from_long_ago(name: str) -> None:
    first, last = (checks.to_ms(datetime(year, 3, 1, tzinfo=UTC)) for year in (2015, 2016))
    recent, full = ExchangeCalendar(name), ExchangeCalendar(name)
    begins = full.sessions(checks.to_ms(datetime(2010, 1, 4, tzinfo=UTC)), last)
    assert str(begins.dates[0].astype("datetime64[ms]")).startswith(("2009", "2010"))
    found, wanted = recent.sessions(first, last), full.sessions(first, last)
    assert "_all" not in vars(recent)
    for name in ("dates", "opens", "closes", "break_starts", "break_ends"):
        assert getattr(found, name).tolist() == getattr(wanted, name).tolist()
    with pytest.raises(InvalidData, match=r"knows only 19\d\d"):
        recent.sessions(first, checks.to_ms(datetime(2200, 1, 1, tzinfo=UTC)))
