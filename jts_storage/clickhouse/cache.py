"""Held ranges: candles that were read before, given again while they are provably unchanged.

Two things prove it. In the embedded store, which is this process's alone, the log of its statements
(`change_log`) does, for any range and without a question, as long as rows change by statements
alone (`statement_changes`): what a write of candles touches is dropped, and all after a statement
that may have touched anything.

Elsewhere the parts of the table do: a part of a MergeTree is never changed, every insert, merge and
mutation makes new parts and retires old ones. The table's identity with the names and content
hashes of its active parts, asked before and after a read, prove that what was read is what the
table gives now. Where the caller accepts answers of some age, one question serves all reads until
then, and short ranges are worth holding, too; what the repositories of the same manager write is
still seen at once.

There is no such proof, and nothing is held, where answers may come from several servers, where
`candles` is not a MergeTree of this server (a view, a Distributed or Replicated table), and where
the user may not see `system.parts`. Row policies made in between are not noticed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Table

from jts_storage._runtime.forks import tell_children
from jts_storage._runtime.steps import HELD, NOT_HELD, tell
from jts_storage.clickhouse import statements
from jts_storage.clickhouse.change_log import Change
from jts_storage.clickhouse.held_answers import HeldAnswers
from jts_storage.clickhouse.held_ranges import HeldRanges
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.statement_changes import HOLDING, changes_by_statements_alone
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError

_T = TypeVar("_T")

DEFAULT_BYTES = 128 << 20

_WORTH_ASKING = 20_000
"""Below so many rows, reading costs no more than asking whether anything changed."""

_ASK_AGAIN_AFTER = 1.0
"""Seconds after which the log of a table that changed by itself may tell of all."""

_UNUSED_PROOFS = 3


class _State(NamedTuple):
    """What the held ranges are proven by: the parts of a table, or none where the log does it."""

    table: str = ""
    digest: str = ""
    parts: int = 0


_LOGGED = _State()


class _Proof(NamedTuple):
    """What a table was like, and when it was asked; None where that cannot be known."""

    state: _State | None
    asked_at: float = 0.0


class _Read(NamedTuple):
    """What was read of a range, and what the log and the table were like before it was."""

    key: SeriesKey
    first: int
    last: int
    series: CandleSeries
    state: _State | None
    begun: int


class HeldUsage(NamedTuple):
    """What is held.

    :ivar bytes: of the memory that the ranges lie in; answers beside them are small.
    """

    ranges: int = 0
    bytes: int = 0


class RangeCache:
    """The ranges last read, up to a number of bytes. Safe to share among threads.

    :param max_age: for how many seconds a server's answer is good, at the least.
    """

    def __init__(
        self, manager: ClickHouseManager, candles: Table, capacity: int, max_age: float = 0.0
    ) -> None:
        self._manager, self._candles = manager, candles
        self._select_state = statements.select_parts_state(candles)
        is_one_server = manager.config.cluster is None and len(manager.config.hosts) < 2
        self._capacity = capacity if is_one_server else 0
        self._max_age = max_age
        self._log = manager.changes
        self._held, self._answers = HeldRanges(self._capacity), HeldAnswers()
        self.begin_in_child()
        with _CACHES_LOCK:
            _CACHES.setdefault(manager, WeakSet()).add(self)
        tell_children(self)

    @property
    def usage(self) -> HeldUsage:
        with self._lock:
            return HeldUsage(len(self._held), self._held.size)

    def begin_in_child(self) -> None:
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._forget()
        self._held_by: _State | None = None
        self._asked_at = 0.0
        self._seen = 0  # of the log
        self._logged_since: int | None = None  # the unknown change after which the log tells of all
        self._not_logged_at: tuple[int, float] = (-1, 0.0)
        self._unused, self._logging_asked_at = 0, 0.0

    def held(self, key: SeriesKey, first: int, last: int) -> CandleSeries | None:
        """Return what is held of a range if that needs no question; never blocks for long."""
        with self._lock:
            found = self._held.look_up(key, first, last) if self._is_usable() else None
            return self._served(found)

    def answered(self, what: Hashable, key: SeriesKey | None) -> Any:
        """Return what was answered before, if that needs no question, else None."""
        with self._lock:
            return self._served(self._answers.look_up(what, key) if self._is_usable() else None)

    def get(
        self, key: SeriesKey, first: int, last: int, read: Callable[[], CandleSeries]
    ) -> CandleSeries:
        """Return a held range if it is unchanged since then, else what `read` gives."""
        if not self._capacity:
            return read()
        begun = self._log.number  # before the proof, so that what comes after it is noticed
        proof = _Proof(_LOGGED) if self.is_logged() else None
        if proof is None:
            if not self._is_worth_asking(key, first, last):
                tell(NOT_HELD)
                return read()
            proof = self._ask_if_due()
        found = self._look_up(key, first, last, proof)
        if found is not None:
            tell(HELD)
            return found
        tell(NOT_HELD)
        series = read()
        if self._is_still(proof.state, series):
            self._hold(_Read(key, first, last, series, proof.state, begun))
        return series

    def answer(self, what: Hashable, key: SeriesKey | None, ask: Callable[[], _T]) -> _T:
        """Return what `ask` gives, and hold it where no question is needed to give it again.

        Answers are small: their number is bounded, not their bytes.

        :param key: the series that the answer is about; None for a list of series.
        """
        begun = self._log.number
        if not self._capacity:
            return ask()
        tell(NOT_HELD)
        if not (self.is_logged() or self._max_age):
            return ask()
        proof = _Proof(_LOGGED) if self.is_logged() else self._ask_if_due()
        with self._lock:
            self._take(proof)
        found = ask()
        with self._lock:
            self._catch_up()
            is_proven = proof.state is not None and proof.state == self._held_by
            if is_proven and not self._changed_since(begun, key):
                self._answers.hold(what, key, found)
        return found

    @contextmanager
    def appending(self, rows: SeriesRows, change: Change) -> Iterator[None]:
        """Hold the answers about these series again, once their rows are stored within the block.

        :param rows: all of them behind what their series have.
        :param change: what the log says of the write.
        """
        with self._lock:
            answers = self._answers.wanted(rows.keys) if self._is_usable() else {}
            begun = self._seen
        yield
        if not answers:
            return
        with self._lock:
            if not self._is_usable():
                return
            held = [number for number, key in enumerate(rows.keys) if key in answers]
            for series in rows.only(held):
                if not self._changed_since(begun, series.key, besides=change):
                    self._answers.hold_appended(answers[series.key], series)

    # ---- what proves it

    def _is_usable(self) -> bool:
        if not self._is_proven() or self._manager.is_closed:
            return False
        self._catch_up()
        return True

    def _is_proven(self) -> bool:
        """Whether what is held is true without a question."""
        if self._held_by is None:
            return False
        if self._held_by is _LOGGED:
            return self._log.is_open and self._logged_since == self._log.unknown
        return monotonic() - self._asked_at < self._max_age

    def is_logged(self) -> bool:
        """Find out whether the log of this process tells of all changes."""
        if not self._log.is_open:
            return False
        if self._logged_since == self._log.unknown:
            return True
        with self._asking:
            unknown = self._log.unknown
            since, asked_at = self._not_logged_at
            if since == unknown and monotonic() - asked_at < _ASK_AGAIN_AFTER:
                return False
            if self._logged_since != unknown and not self._may_pay():
                return False
            if self._logged_since != unknown and self._is_left_to_statements(unknown):
                # Said of the moment before the question: what came since is another number.
                self._logged_since = unknown
            elif self._logged_since != unknown:
                self._not_logged_at = (unknown, monotonic())
            return self._logged_since == unknown

    def is_unchanged(self, begun: int, key: SeriesKey) -> bool:
        """Whether no change of a series has begun, or was under way, since a number of the log.

        False, too, where the log of this process does not tell.
        """
        return self.is_logged() and not self._changed_since(begun, key)

    def _may_pay(self) -> bool:
        """Whether to ask once more: not at once after proofs that have all ended unused, since
        statements that may do anything came faster than reads.
        """
        now = monotonic()
        if self._unused >= _UNUSED_PROOFS and now - self._logging_asked_at < _ASK_AGAIN_AFTER:
            return False
        self._unused, self._logging_asked_at = self._unused + 1, now
        return True

    def _served(self, found: _T) -> _T:
        if found is not None:
            self._unused = 0
            tell(HELD)
        return found

    def _is_left_to_statements(self, unknown: int) -> bool:
        _, under_way = self._log.since(unknown, under_way=True)
        if any(change.table is None for change in under_way):
            return False
        try:
            return changes_by_statements_alone(self._manager, self._candles)
        except StorageError:
            return False

    def _is_worth_asking(self, key: SeriesKey, first: int, last: int) -> bool:
        if self._max_age or may_be_large(key, first, last):
            return True
        with self._lock:
            return self._held.look_up(key, first, last) is not None

    def _ask_if_due(self) -> _Proof:
        with self._lock:
            if self._held_by is not _LOGGED and self._is_proven():
                return _Proof(self._held_by, self._asked_at)
        return self._ask()

    def _ask(self) -> _Proof:
        asked_at = monotonic()
        try:
            kind, *state = self._manager.execute(self._select_state)[0]
        except StorageError:
            return _Proof(None)
        return _Proof(_State(*state) if kind in HOLDING and state[0] else None, asked_at)

    def _is_still(self, state: _State | None, series: CandleSeries) -> bool:
        """Whether to hold what was read, asked again: what came in during the read may or may not
        be in it. Short ranges are held until the next question, which will tell.
        """
        if state is None or state is _LOGGED:
            return state is not None
        if len(series) < _WORTH_ASKING:
            return bool(self._max_age)
        return self._ask().state == state

    # ---- what is held

    def _look_up(self, key: SeriesKey, first: int, last: int, proof: _Proof) -> CandleSeries | None:
        with self._lock:
            self._take(proof)
            found = self._held.look_up(key, first, last)
            if found is None and self._held_by is not None:
                # What overlaps would be held twice; gone now, its memory serves the read.
                self._held.make_room(key, first, last)
            return found

    def _take(self, proof: _Proof) -> None:
        """Forget what was held by another proof."""
        if proof.state != self._held_by:
            self._forget()
        self._held_by, self._asked_at = proof
        self._catch_up()

    def _hold(self, read: _Read) -> None:
        with self._lock:
            self._catch_up()
            if read.state == self._held_by and not self._changed_since(read.begun, *read[:3]):
                self._held.hold(*read[:4])

    def _changed_since(
        self,
        begun: int,
        key: SeriesKey | None,
        first: int = FIRST_MS,
        last: int = LAST_MS,
        *,
        besides: Change | None = None,
    ) -> bool:
        """Whether what was read may be of before a change, or of its middle."""
        _, changes = self._log.since(begun, under_way=True)
        others = (change for change in changes if change is not besides)
        ours = [change for change in others if change.touches(self._candles.name)]
        if key is None or any(change.spans is None for change in ours):
            return bool(ours)
        spans = [change.spans[key] for change in ours if change.spans and key in change.spans]
        return any(first <= span_last and span_first <= last for span_first, span_last in spans)

    def _catch_up(self) -> None:
        """Forget what has changed since the last look at the log."""
        if self._seen == self._log.number:
            return
        self._seen, changes = self._log.since(self._seen)
        for change in changes:
            if not change.touches(self._candles.name):
                continue
            if change.spans is None:
                self._forget()
            else:
                self._held.drop(change.spans)
                self._answers.drop(change)

    def _forget(self) -> None:
        self._held.clear()
        self._answers.clear()


_CACHES_LOCK = threading.Lock()
_CACHES: WeakKeyDictionary[ClickHouseManager, WeakSet[RangeCache]] = WeakKeyDictionary()


def held_by(manager: ClickHouseManager) -> HeldUsage:
    """What the repositories of a manager hold together."""
    with _CACHES_LOCK:
        caches = list(_CACHES.get(manager, ()))
    held = [each.usage for each in caches]
    return HeldUsage(sum(each.ranges for each in held), sum(each.bytes for each in held))


def may_be_large(key: SeriesKey, first: int, last: int) -> bool:
    step = key.timeframe.step_ms
    return step is not None and (last - first) // step >= _WORTH_ASKING
