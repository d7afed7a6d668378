"""Short answers about series, in memory, by what was asked.

What is appended to a series changes the answers about it in a way that needs no question: so the
latest candle, the coverage and the number of candles are known again as soon as a commit is stored.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jts_storage.clickhouse.change_log import Change
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import concatenate
from jts_storage.domain.results import Coverage
from jts_storage.domain.series import CandleSeries

_MOST_SERIES, _MOST_OF_A_SERIES = 5_000, 8
"""Of how many series answers are held, and how many of each."""


class Question(Hashable, Protocol):
    """What was asked about a series."""

    def after_append(self, answer: Any, appended: CandleSeries) -> Any:
        """The answer after candles have come behind all that the series had."""


@dataclass(frozen=True, slots=True)
class LatestCandles:
    """The last candles of a series."""

    count: int

    def after_append(self, answer: CandleSeries, appended: CandleSeries) -> CandleSeries:
        last = appended.columns.take(slice(-self.count, None))
        if last.rows < self.count:
            last = concatenate([answer.columns, last]).take(slice(-self.count, None))
        # Copied, so that it does not keep the memory of all that was appended.
        return CandleSeries.trusted(answer.key, last.each(np.copy))


@dataclass(frozen=True, slots=True)
class FirstAndLast:
    """The first and the last timestamp of a series."""

    def after_append(self, answer: Coverage, appended: CandleSeries) -> Coverage:
        return Coverage(answer.first or appended.start, appended.end)


@dataclass(frozen=True, slots=True)
class NumberOfCandles:
    """How many candles a series has between two milliseconds, both included."""

    first: int
    last: int

    def after_append(self, answer: int, appended: CandleSeries) -> int:
        return answer + len(appended.slice_ms(self.first, self.last))


class HeldAnswers:
    """Answers about a series, and lists of series. The caller locks."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._of_key: dict[SeriesKey, dict[Question, Any]] = {}
        self._unasked: set[SeriesKey] = set()
        self._lists: dict[Hashable, tuple[SeriesKey, ...]] = {}
        self._listed: set[SeriesKey] = set()

    def look_up(self, what: Any, key: SeriesKey | None) -> Any:
        """Return an answer, or None."""
        if key is None:
            return self._lists.get(what)
        self._unasked.discard(key)
        return self._of_key.get(key, {}).get(what)

    def hold(self, what: Any, key: SeriesKey | None, answer: Any) -> None:
        """
        :param key: None for a list of series.
        """
        if key is None:
            if len(self._listed) >= _MOST_SERIES or len(self._lists) >= _MOST_OF_A_SERIES:
                self._forget_lists()
            self._lists[what] = answer
            self._listed.update(answer)
            return
        if key not in self._of_key and len(self._of_key) >= _MOST_SERIES:
            self._forget(next(iter(self._of_key)))
        answers = self._of_key.setdefault(key, {})
        if len(answers) >= _MOST_OF_A_SERIES:
            del answers[next(iter(answers))]
        answers[what] = answer

    def wanted(self, keys: Iterable[SeriesKey]) -> dict[SeriesKey, dict[Question, Any]]:
        """The answers about these series, if anybody has asked since they were last appended to."""
        if not self._of_key:
            return {}
        wanted = self._of_key.keys() & set(keys) - self._unasked
        return {key: dict(self._of_key[key]) for key in wanted}

    def hold_appended(self, answers: dict[Question, Any], appended: CandleSeries) -> None:
        """Hold what the answers are now that candles have come behind all others of a series."""
        for question, answer in answers.items():
            self.hold(question, appended.key, question.after_append(answer, appended))
        self._unasked.add(appended.key)

    def drop(self, change: Change) -> None:
        for key in (change.spans or {}).keys() & self._of_key.keys():
            self._forget(key)
        # Rows of a series that is listed list no other; deleted ones may have been its last.
        if change.deletes or not self._listed.issuperset(change.spans or ()):
            self._forget_lists()

    def _forget(self, key: SeriesKey) -> None:
        del self._of_key[key]
        self._unasked.discard(key)

    def _forget_lists(self) -> None:
        self._lists, self._listed = {}, set()
