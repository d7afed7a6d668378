"""A commit that took its place earlier and is finished later: every moment is as the order says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
from bson import ObjectId

from jts_storage import CandleSeries, SeriesKey, Storage, Timeframe
from jts_storage.domain.moments import Commit
from jts_storage.errors import ConnectionFailed
from jts_storage.ports import UnitOfWork
from jts_storage.testing.contracts.samples import FOREVER, candle, minute
from jts_storage.testing.factories import make_formula
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.journal import Journal
from tests.integration.unit_of_work.interrupted import abandon
from tests.runs import some_by_day

KEY = SeriesKey("A", Timeframe.M1)

NOTHING, DELETED = "", "deleted"

CASES = [
    # what was, what the late commit makes of it, what the commit behind it makes of it
    pytest.param(
        *states,
        id="-".join(each or "nothing" for each in states),
    )
    for states in product((NOTHING, "101"), ("101", "102", DELETED), ("101", "102", "104", DELETED))
]


async def change(uow: UnitOfWork, close: str) -> None:
    if close == DELETED:
        await uow.candles.delete_range(KEY, minute(1), minute(1))
    elif close:
        await uow.candles.save_many(KEY, CandleSeries.from_candles(KEY, [candle(1, close)]))


async def committed(storage: Storage, close: str) -> Commit:
    async with storage.unit_of_work() as uow:
        # Beside it, so that a commit of nothing has a place, too.
        await uow.formulas.save(make_formula(close or "nothing"))
        await change(uow, close)
        commit = (await uow.commit()).commit
    assert commit is not None
    return commit


async def closes(storage: Storage, commit: Commit | None = None) -> list[str]:
    series = await storage.candles.get_range(KEY, *FOREVER, as_of=commit)
    view = storage.candles if commit is None else (await storage.as_of(commit)).candles
    assert await view.count(KEY) == len(series)
    return [f"{each.close:.0f}" for each in series]


def shown(close: str) -> list[str]:
    return [close] if close not in (NOTHING, DELETED) else []


@pytest.mark.parametrize(("first", "late", "last"), some_by_day(CASES, 5))
async def test_candles_of_a_commit_that_is_finished_late(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, first: str, late: str, last: str
) -> None:
    before = await committed(storage, first)
    async with storage.unit_of_work() as uow:
        formula = await uow.formulas.save(make_formula("late"))
        await change(uow, late)
        await abandon(storage, monkeypatch, uow)
    # Others have found its process dead, and wait for it no more.
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})
    [entry] = await storage.mongo.db[ENTRIES].find().to_list()
    between = Commit(entry["version"] + 1)
    behind = await committed(storage, last)
    await storage.recover()
    assert before < between < behind
    moments = (before, first), (between, late), (behind, last)
    for commit, close in moments:
        assert await closes(storage, commit) == shown(close), (commit, close)
    assert await closes(storage) == shown(last)
    data_set = await storage.data_set(Timeframe.M1, *FOREVER, as_of=between)
    assert list(data_set.keys) == ([KEY] if shown(late) else [])
    then = {each.id for each in await (await storage.as_of(between)).formulas.list()}
    assert formula.id in then


async def test_documents_of_commits_that_are_finished_late(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    formula = await storage.run(lambda uow: uow.formulas.save(make_formula("0")))
    for n in range(1, 4):
        async with storage.unit_of_work() as uow:
            formula = await uow.formulas.save(replace(formula, name=str(n)))
            key = SeriesKey(str(n), Timeframe.M1)
            await uow.candles.save_many(key, CandleSeries.from_candles(key, [candle(1)]))
            await abandon(storage, monkeypatch, uow)
        await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})
    last = await storage.run(lambda uow: uow.formulas.save(replace(formula, name="last")))
    await storage.recover()
    history = await storage.formulas.history(formula.id or "")
    assert [each.entity and each.entity.name for each in history] == ["0", "1", "2", "3", "last"]
    assert all(a.commit < b.commit for a, b in pairwise(history))
    for each in history:
        assert await storage.formulas.get_by_id(last.id or "", as_of=each.commit) == each.entity


async def test_candles_of_several_commits_that_are_finished_late_together(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    for close in ("101", "102", "103"):
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula(close))
            await change(uow, close)
            await abandon(storage, monkeypatch, uow)
        await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})
        entries = await storage.mongo.db[ENTRIES].find().sort("version", -1).to_list()
        commits.append(Commit(entries[0]["version"] + 1))
    await storage.recover()
    assert [await closes(storage, each) for each in commits] == [["101"], ["102"], ["103"]]


async def test_candles_are_stored_though_the_journal_cannot_be_asked_after_the_decision(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = Journal.unfinished

    async def away(self: Journal, names: Any, *, before: int | None = None) -> list[ObjectId]:
        if before is not None:  # as it is asked once the commit is decided
            raise ConnectionFailed("MongoDB went away.")
        return await unfinished(self, names)

    monkeypatch.setattr(Journal, "unfinished", away)
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula())
        await change(uow, "101")
        await uow.commit()
    assert await closes(storage) == ["101"]
