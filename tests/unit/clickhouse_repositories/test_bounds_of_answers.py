"""How many short answers are held, however much is asked."""

from __future__ import annotations

import pytest

from jts_storage import SeriesKey, Timeframe
from jts_storage.clickhouse import held_answers
from jts_storage.clickhouse.held_answers import HeldAnswers, LatestCandles, NumberOfCandles

KEYS = [SeriesKey(name, Timeframe.M1) for name in "ABCD"]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldAnswers:
    monkeypatch.setattr(held_answers, "_MOST_SERIES", 3)
    monkeypatch.setattr(held_answers, "_MOST_OF_A_SERIES", 2)
    return HeldAnswers()


def test_of_a_series_the_answers_that_were_held_last_stay(held: HeldAnswers) -> None:
    questions = [NumberOfCandles(0, last) for last in range(4)]
    for answer, question in enumerate(questions):
        held.hold(question, KEYS[0], answer)
    assert [held.look_up(each, KEYS[0]) for each in questions] == [None, None, 2, 3]


def test_of_many_series_those_that_were_held_last_stay(held: HeldAnswers) -> None:
    for answer, key in enumerate(KEYS):
        held.hold(LatestCandles(1), key, answer)
    assert [held.look_up(LatestCandles(1), key) for key in KEYS] == [None, 1, 2, 3]


def test_lists_are_forgotten_when_they_are_many_or_long(held: HeldAnswers) -> None:
    for name in ("one", "two", "three"):
        held.hold(name, None, (KEYS[0],))
    assert [held.look_up(name, None) for name in ("one", "two", "three")] == [
        None,
        None,
        (KEYS[0],),
    ]
    held.hold("long", None, tuple(KEYS))
    held.hold("short", None, (KEYS[0],))
    assert (held.look_up("long", None), held.look_up("short", None)) == (None, (KEYS[0],))
