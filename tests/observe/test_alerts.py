"""Alerts within a process: told once, again after a while, and when they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage import InvalidData, Storage
from jts_storage.observe import ALERTS, Alert, Judge, Metrics, MonitoringService, Notice
from jts_storage.observe.catalogue import COMMITS, LATE, OUTBOX_PARKED, PARTS, UP, Sample

NOW = datetime(2026, 3, 2, tzinfo=UTC)
DOWN = Alert(name="Down", metric=UP, below=1, lasting=10, summary="{store} is down.", section="s")
PARKED = Alert(name="P", metric=OUTBOX_PARKED, above=0, summary="{value:.0f} parked.", section="s")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def up(value: float, store: str = "mongo") -> Sample:
    return Sample(UP, value, (store,))


def test_it_is_told_once_it_has_lasted_and_again_after_the_cooldown_and_when_it_is_over() -> None:
    """UT-INFRA-04.2, ET-INFRA-04.2"""
    judge = Judge([DOWN], cooldown=100)
    told = {
        second: [(notice.text, notice.is_over) for notice in judge.judge(at(second), [up(value)])]
        for second, value in [
            (0, 1),
            (5, 0),
            (14, 0),
            (15, 0),
            (60, 0),
            (114, 0),
            (115, 0),
            (120, 1),
            (125, 1),
        ]
    }
    assert {second: notices for second, notices in told.items() if notices} == {
        15: [("mongo is down.", False)],
        115: [("mongo is down.", False)],
        120: [("Over: mongo is down.", True)],
    }


def test_one_that_comes_back_is_told_at_once() -> None:
    judge = Judge([PARKED], cooldown=1_000)
    values = [1, 0, 2]
    told = [judge.judge(at(n), [Sample(OUTBOX_PARKED, value)]) for n, value in enumerate(values)]
    assert [[notice.text for notice in each] for each in told] == [
        ["1 parked."],
        ["Over: 0 parked."],
        ["2 parked."],
    ]


def test_one_that_ended_before_it_lasted_is_never_told() -> None:
    judge = Judge([DOWN])
    assert [judge.judge(at(n), [up(n % 2)]) for n in range(0, 60, 5)] == [[]] * 12


def test_each_store_is_an_alert_of_its_own() -> None:
    judge = Judge([DOWN])
    judge.judge(at(0), [up(0), up(0, "clickhouse")])
    notices = judge.judge(at(10), [up(0), up(0, "clickhouse")])
    assert [dict(notice.labels)["store"] for notice in notices] == ["mongo", "clickhouse"]


def test_what_is_no_longer_there_is_over_unless_nothing_could_be_read() -> None:
    alert = Alert(name="Parts", metric=PARTS, above=3, summary="{table}", section="s")
    judge = Judge([alert])
    assert judge.judge(at(0), [Sample(PARTS, 9, ("dropped",)), Sample(PARTS, 1, ("kept",))])
    assert judge.judge(at(1), []) == []
    (notice,) = judge.judge(at(2), [Sample(PARTS, 1, ("kept",))])
    assert (notice.is_over, notice.text) == (True, "Over: dropped")


def test_how_fast_a_counter_grows_is_judged_over_the_time_between_looks() -> None:
    storm = next(alert for alert in ALERTS if alert.name == "ConflictStorm")
    judge = Judge([storm.with_threshold(5, lasting=0)])
    conflicts = [Sample(COMMITS, n, ("direct", "conflict")) for n in (0, 40, 100, 101)]
    others = Sample(COMMITS, 10_000, ("direct", "committed"))
    told = [judge.judge(at(10 * n), [each, others]) for n, each in enumerate(conflicts)]
    assert [[notice.value for notice in each] for each in told] == [[], [], [6.0], [0.1]]


@given(st.lists(st.sampled_from([0.0, 1.0]), max_size=60), st.sampled_from([0.0, 10.0, 25.0]))
def test_firings_and_ends_alternate(values: list[float], lasting: float) -> None:
    judge = Judge([DOWN.with_threshold(1, lasting=lasting)], cooldown=10_000)
    told = [
        notice.is_over
        for n, value in enumerate(values)
        for notice in judge.judge(at(5 * n), [up(value)])
    ]
    assert told == [bool(n % 2) for n in range(len(told))]


def test_an_alert_has_one_threshold() -> None:
    with pytest.raises(InvalidData, match="above and below"):
        Alert(name="A", metric=UP, summary="", section="s")
    with pytest.raises(InvalidData, match="above and below"):
        Alert(name="A", metric=UP, summary="", section="s", above=1.0, below=1.0)


def test_a_second_threshold_has_a_name_of_its_own() -> None:
    """With one name for both, the end of the higher one was taken for that of the lower one."""
    late = next(alert for alert in ALERTS if alert.name == "CandlesLate")
    later = late.with_threshold(3_600)
    with pytest.raises(InvalidData, match=r"CandlesLate.*replace"):
        Judge([late, later])
    judge = Judge([late, replace(later, name="CandlesVeryLate")])
    sample = Sample(LATE, 600.0, ("KRX", "1m"))
    told = [notice.alert.name for n in range(3) for notice in judge.judge(at(60 * n), [sample])]
    assert told == ["CandlesLate"]


def test_an_end_that_was_refused_is_told_though_it_is_crossed_for_a_moment() -> None:
    """Or its receiver keeps an alert that fires for good."""
    late = next(alert for alert in ALERTS if alert.name == "CandlesLate")
    judge, told = Judge([late]), []
    for minute, value in enumerate((600.0, 600.0, 0.0, 600.0, 0.0, 0.0, 0.0, 0.0, 0.0)):
        for notice in judge.judge(at(60 * minute), [Sample(LATE, value, ("KRX", "1m"))]):
            if minute == 2:
                judge.untold(notice)
            else:
                told.append(notice.is_over)
    assert told == [False, True]


def heard(
    judge: Judge, looks: Sequence[tuple[float, float]], refused: int
) -> list[tuple[float, str]]:
    """What a handler hears, and when, that fails so many times before it hears anything.

    :param looks: the second of each look, and whether the store was up.
    """
    found: list[tuple[float, str]] = []
    for second, value in looks:
        for notice in judge.judge(at(second), [up(value)]):
            found.append((second, f"{'refused ' if refused else ''}{notice.text}"))
            if refused:
                judge.untold(notice)
                refused -= 1
    return found


def test_what_nobody_heard_is_told_at_the_next_look_and_then_less_and_less_often() -> None:
    at_once = DOWN.with_threshold(1, lasting=0)
    looks = [(n, 0.0) for n in range(0, 300, 10)]
    told = heard(Judge([at_once], cooldown=60), looks, refused=6)
    seconds = [second for second, _ in told]
    # At the next look, then after as long as it had failed, at the most a cooldown.
    assert seconds == [0, 10, 20, 40, 80, 140, 200, 260]
    assert [text.startswith("refused") for _, text in told] == [True] * 6 + [False] * 2


def test_of_what_is_heard_again_the_back_off_begins_anew() -> None:
    judge = Judge([DOWN.with_threshold(1, lasting=0)], cooldown=50)
    looks = [(n, 0.0) for n in range(0, 60, 10)]
    assert [second for second, _ in heard(judge, looks, refused=2)] == [0, 10, 20]
    looks = [(n, 0.0) for n in range(70, 100, 10)]
    assert [second for second, _ in heard(judge, looks, refused=1)] == [70, 80]


def test_an_end_that_nobody_heard_is_told_again() -> None:
    judge = Judge([DOWN.with_threshold(1, lasting=0)], cooldown=1_000)
    assert len(heard(judge, [(0, 0.0)], refused=0)) == 1
    over = "Over: mongo is down."
    assert heard(judge, [(10, 1.0)], refused=1) == [(10, f"refused {over}")]
    assert heard(judge, [(n, 1.0) for n in (20, 30, 40)], refused=0) == [(20, over)]


def test_an_end_that_nobody_heard_is_no_news_once_it_is_back() -> None:
    judge = Judge([DOWN.with_threshold(1, lasting=0)], cooldown=1_000)
    heard(judge, [(0, 0.0)], refused=0)
    heard(judge, [(10, 1.0)], refused=1)
    assert heard(judge, [(20, 0.0), (30, 0.0)], refused=0) == [(20, "mongo is down.")]


def test_of_a_firing_that_nobody_heard_no_end_is_told() -> None:
    judge = Judge([DOWN.with_threshold(1, lasting=0)], cooldown=1_000)
    heard(judge, [(0, 0.0)], refused=1)
    assert heard(judge, [(10, 1.0), (20, 1.0)], refused=0) == []


def test_a_firing_that_was_heard_once_has_an_end() -> None:
    """Though it was told again meanwhile, and that nobody heard."""
    judge = Judge([DOWN.with_threshold(1, lasting=0)], cooldown=10)
    heard(judge, [(0, 0.0)], refused=0)
    heard(judge, [(10, 0.0)], refused=1)
    assert heard(judge, [(15, 1.0)], refused=0) == [(15, "Over: mongo is down.")]


async def test_a_service_tells_again_what_its_handler_did_not_take() -> None:
    notices: list[Notice] = []

    async def handler(notice: Notice) -> None:
        notices.append(notice)
        if len(notices) == 1:
            raise RuntimeError("a handler that fails")
        if len(notices) == 2:
            await asyncio.sleep(60)

    always = Alert(name="Up", metric=UP, above=0, summary="{store} is up.", section="s")
    async with Storage.in_memory() as storage:
        service = MonitoringService(
            storage, alerts=[always], handler=handler, patience=0.01, cooldown=1_000
        )
        told = [await service.look() for _ in range(4)]
    assert [len(each) for each in told] == [0, 0, 1, 0]
    assert [notice.text for notice in notices] == ["memory is up."] * 3


async def test_a_service_tells_its_handler_and_outlives_its_failure() -> None:
    """UT-INFRA-04.1"""
    notices: list[Notice] = []
    heard = asyncio.Event()

    def handler(notice: Notice) -> None:
        notices.append(notice)
        if len(notices) == 1:
            raise RuntimeError("a handler that fails")
        heard.set()

    metrics = Metrics()
    always = Alert(name="Up", metric=UP, above=0, summary="{store} is up.", section="s")
    async with Storage.in_memory(observer=metrics) as storage:
        service = MonitoringService(
            storage, alerts=[always], handler=handler, metrics=metrics, every=0.01, cooldown=0.02
        )
        async with service, asyncio.timeout(30):
            await heard.wait()
        data = await service.collect_metrics()
    assert {notice.text for notice in notices} == {"memory is up."}
    assert 0 <= data.cpu_usage <= 100
    assert 0 < data.memory_usage <= 100
    assert 0 < data.disk_usage <= 100
    assert data.response_time_ms >= 0
    assert data.timestamp.tzinfo is UTC
    counted = [sample for sample in data.samples if sample.metric.name == "rows"]
    assert counted == []
    with pytest.raises(InvalidData, match="every"):
        MonitoringService(storage, every=0)
