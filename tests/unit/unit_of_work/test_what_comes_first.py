"""What a commit of candles finishes or waits for first, so that it keeps what it replaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId

from jts_storage import SeriesKey, Timeframe
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.rows import SeriesRows
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work.clock_expressions import MOST_NAMES
from jts_storage.unit_of_work.commit import JournalledCommit
from jts_storage.unit_of_work.other_commits import UnderWay
from jts_storage.unit_of_work.participants import Look, Stores
from jts_storage.unit_of_work.place import Place

EARLIER = UnderWay(ObjectId(), 6, "another process", None, None)
UNUSED: Any = None


def changes_of(series: int) -> CommitChanges:
    changes = CommitChanges()
    for number in range(series):
        key = SeriesKey(f"S{number}", Timeframe.M1)
        changes.candles.save(SeriesRows.of(make_candles(key, 1)))
    return changes


class Noted:
    """Stores that note in which order they are asked for what.

    :param decided: commits of lower versions that are still to be stored.
    :param has_let_go: whether one has left the clock since the journal was asked.
    """

    def __init__(
        self, place: Place, decided: Collection[ObjectId] = (), *, has_let_go: bool = False
    ) -> None:
        self.done: list[Any] = []
        self.candles = SimpleNamespace(keeps_history=True, replace_rows=self._replace)
        self.clock = SimpleNamespace(
            place=self._place,
            wait_for_earlier_than=self._wait,
            may_have_let_go=lambda _since: has_let_go,
        )
        self.journal = SimpleNamespace(unfinished=self._unfinished, done=self._note("done"))
        self.clickhouse = SimpleNamespace(run=self._run)
        self._taken, self._decided = place, decided

    def _note(self, what: str) -> Callable[..., Any]:
        async def noted(*_: Any) -> None:
            self.done.append(what)

        return noted

    @asynccontextmanager
    async def _place(self, **_: Any) -> AsyncIterator[Place]:
        yield self._taken

    async def _wait(self, _place: Place, _series: Any) -> None:
        self.done.append("waited")

    async def _unfinished(self, *_: Any, **__: Any) -> list[ObjectId]:
        return list(self._decided)

    async def _run(self, work: Callable[..., Any], *given: Any) -> Any:
        return work(*given)

    def _replace(self, *_: Any, is_settled: bool, **__: Any) -> None:
        self.done.append(f"stored, {'settled' if is_settled else 'not settled'}")

    async def finish_earlier(self, series: Collection[str] | None, before: int) -> bool:
        self.done.append(("finished", None if series is None else sorted(series), before))
        return not self._decided

    async def look(self, _changes: CommitChanges) -> Look:
        return Look(is_one_insert=True)

    async def store_series(self, _changes: CommitChanges, version: int) -> None:
        self.done.append(f"stored as {version}")


def stores_over(noted: Noted, monkeypatch: pytest.MonkeyPatch) -> Stores:
    stores: Any = object.__new__(Stores)
    for name in ("candles", "clock", "journal", "clickhouse"):
        setattr(stores, name, getattr(noted, name))
    monkeypatch.setattr(Stores, "look", lambda _self, changes: noted.look(changes))
    monkeypatch.setattr(Stores, "store_series", lambda _self, *given: noted.store_series(*given))
    return stores  # type: ignore[no-any-return]


FINISHED = ("finished", ["candles S0/1m"], 7)


@pytest.mark.parametrize(
    ("earlier", "decided", "done"),
    [
        ([], [], ["stored, settled"]),
        # One that was under way may have been decided, and its process may have died, since.
        ([EARLIER], [], ["waited", FINISHED, "stored, settled"]),
        ([], [EARLIER.id], [FINISHED, "stored, not settled"]),
        ([EARLIER], [EARLIER.id], ["waited", FINISHED, "stored, not settled"]),
    ],
)
async def test_candles_alone_come_behind_the_commits_before_them(
    monkeypatch: pytest.MonkeyPatch, earlier: Any, decided: list[ObjectId], done: list[Any]
) -> None:
    noted = Noted(Place(ObjectId(), 7, earlier=earlier), decided)
    stores = stores_over(noted, monkeypatch)
    assert await stores.store_candles(changes_of(1), noted.finish_earlier) == 8
    assert noted.done == done


async def test_the_journal_is_asked_again_where_a_commit_has_left_the_clock_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was of unknown outcome, and decided after the journal was asked."""
    noted = Noted(Place(ObjectId(), 7), has_let_go=True)
    await stores_over(noted, monkeypatch).store_candles(changes_of(1), noted.finish_earlier)
    assert noted.done == [FINISHED, "stored, settled"]


@pytest.mark.parametrize("series", [1, MOST_NAMES + 1], ids=["few", "many"])
async def test_a_journalled_commit_comes_behind_the_commits_before_it(
    monkeypatch: pytest.MonkeyPatch, series: int
) -> None:
    place = Place(ObjectId(), 7, earlier=[EARLIER])
    noted = Noted(place)
    changes = changes_of(series)
    commit = JournalledCommit(stores_over(noted, monkeypatch), UNUSED, changes, (), None)
    monkeypatch.setattr(commit._recovery, "finish_earlier", noted.finish_earlier)
    await commit._finish(place)
    finished = FINISHED if series == 1 else ("finished", None, 7)
    assert noted.done == ["waited", finished, "stored as 7", "done"]
