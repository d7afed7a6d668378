"""Which backups are kept, and when the next one is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.backup.retention import Retention
from jts_storage.backup.schedule import Schedule
from jts_storage.errors import InvalidData

NOW = datetime(2026, 11, 30, 3, tzinfo=UTC)


def every_day(count: int) -> dict[str, datetime]:
    return {f"{number:04}": NOW - timedelta(days=number, minutes=1) for number in range(count)}


def test_those_of_thirty_days_and_the_last_two_are_kept_by_default() -> None:
    assert len(Retention().kept(every_day(100), NOW)) == 30
    old = {"a": NOW - timedelta(days=400), "b": NOW - timedelta(days=300)}
    assert Retention().kept(old | {"c": NOW - timedelta(days=200)}, NOW) == {
        "c": ("last",),
        "b": ("last",),
    }


def test_one_of_each_day_week_month_and_year_is_kept() -> None:
    backups = {
        f"{number:05}": NOW - timedelta(hours=6 * number, minutes=1) for number in range(4 * 800)
    }
    rules = Retention(last=1, days=0, daily=7, weekly=4, monthly=12, yearly=3)
    kept = rules.kept(backups, NOW)
    by_rule = {
        name: [each for each in kept if name in kept[each]]
        for name in ("last", "daily", "weekly", "monthly", "yearly")
    }
    assert {name: len(found) for name, found in by_rule.items()} == {
        "last": 1,
        "daily": 7,
        "weekly": 4,
        "monthly": 12,
        "yearly": 3,
    }
    # The newest of each period, and never two of one.
    days = [backups[each].date() for each in by_rule["daily"]]
    assert days == [NOW.date() - timedelta(days=number) for number in range(7)]
    months = [(backups[each].year, backups[each].month) for each in by_rule["monthly"]]
    assert len(set(months)) == 12
    assert all(backups[each].day >= 27 for each in by_rule["monthly"])


@given(
    ages=st.lists(st.integers(0, 2_000), max_size=40),
    last=st.integers(0, 5),
    days=st.integers(0, 50),
    daily=st.integers(0, 5),
)
def test_more_rules_keep_no_less(ages: list[int], last: int, days: int, daily: int) -> None:
    backups = {f"{n}-{age}": NOW - timedelta(days=age) for n, age in enumerate(ages)}
    few = Retention(last=last, days=days).kept(backups, NOW)
    more = Retention(last=last, days=days, daily=daily, yearly=1).kept(backups, NOW)
    assert few.keys() <= more.keys() <= backups.keys()
    assert len(few) >= min(last, len(backups))


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("0 2 * * *", "2026-11-30T03:00", "2026-12-01T02:00"),
        ("0 2 * * *", "2026-11-30T01:59:59", "2026-11-30T02:00"),
        ("0 2 * * *", "2026-11-30T02:00", "2026-12-01T02:00"),
        ("*/15 8-10 * * mon-fri", "2026-11-28T00:00", "2026-11-30T08:00"),
        ("30 4 1,15 * 5", "2026-11-30T05:00", "2026-12-01T04:30"),
        ("30 4 1,15 * 5", "2026-12-01T05:00", "2026-12-04T04:30"),
        ("0 0 29 2 *", "2026-11-30T00:00", "2028-02-29T00:00"),
        ("0 0 * * 7", "2026-11-30T00:00", "2026-12-06T00:00"),
        ("5/20 * * * *", "2026-11-30T00:06", "2026-11-30T00:25"),
        ("0 0 1 jan *", "2026-11-30T00:00", "2027-01-01T00:00"),
    ],
)
def test_the_next_moment_of_a_line_of_cron(line: str, after: str, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = Schedule(line).next_after(moment)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0 2 * *",
        "60 2 * * *",
        "0 24 * * *",
        "a * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "0 2 0 * *",
        "0 2 * 13 *",
        "0 2 * * 8",
    ],
)
def test_what_is_no_line_of_cron_is_refused(line: str) -> None:
    with pytest.raises(InvalidData):
        Schedule(line)


def test_a_day_that_never_comes_is_told() -> None:
    with pytest.raises(InvalidData, match="ever comes"):
        Schedule("0 0 30 2 *").next_after(NOW)


@pytest.mark.parametrize(
    ("line", "calendar"),
    [
        ("0 2 * * *", ["*-*-* 02:00:00 UTC"]),
        ("0 2 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 02:00:00 UTC"]),
        ("0 2 1 * 0", ["*-*-01 02:00:00 UTC", "Sun *-*-* 02:00:00 UTC"]),
        ("*/30 * * 6 *", ["*-06-* *:00,30:00 UTC"]),
    ],
)
def test_a_timer_of_systemd_says_the_same(line: str, calendar: list[str]) -> None:
    service, timer = Schedule(line).systemd_units(["jts-storage", "backup", "create"])
    assert [each for each in timer.splitlines() if each.startswith("OnCalendar=")] == [
        f"OnCalendar={each}" for each in calendar
    ]
    assert "ExecStart=jts-storage backup create" in service
    assert "WorkingDirectory" not in service
    assert Schedule(line).cron_line(["a b", "%"]) == f"{line} 'a b' \\%"


def test_what_is_scheduled_runs_where_and_as_whom_it_was_said() -> None:
    schedule, folder = Schedule("0 2 * * *"), Path("/srv/50% of it")
    service, _ = schedule.systemd_units(["jts-storage"], folder, "jts")
    assert "\nUser=jts\nWorkingDirectory=/srv/50%% of it\nExecStart=jts-storage\n" in service
    assert schedule.cron_line(["jts-storage"], folder) == (
        "0 2 * * * cd '/srv/50\\% of it' && jts-storage"
    )


def test_weeks_of_two_years_are_two() -> None:
    made = {
        "last year": datetime(2025, 11, 26, tzinfo=UTC),
        "this year": datetime(2026, 11, 25, tzinfo=UTC),
    }
    assert {at.isocalendar().week for at in made.values()} == {48}
    rules = Retention(last=0, days=0, weekly=100)
    assert set(rules.kept(made, datetime(2026, 11, 28, tzinfo=UTC))) == made.keys()
