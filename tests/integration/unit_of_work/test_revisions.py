"""Revisions of documents in real stores: where they begin, what they hold, and what they cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData, NotFound, StorageError
from jts_storage.mongo import MongoDBFormulaRepository, MongoDBManager
from jts_storage.mongo.adopting import adopt
from jts_storage.mongo.revisions import Revisions
from jts_storage.testing.factories import make_formula, make_strategy
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.moments import BEGINNINGS, Moments


def opened(settings: StorageSettings, **changes: Any) -> Storage:
    return Storage(StoreBackend(settings.model_copy(update=changes)))


async def stored_before(settings: StorageSettings, *names: str) -> list[str]:
    """Store formulas as an earlier release did, which kept no history."""
    async with opened(settings, history=False) as storage, storage.unit_of_work() as uow:
        saved = await uow.formulas.save_many([make_formula(name) for name in names])
        await uow.commit()
    return [each.id or "" for each in saved]


async def test_what_is_stored_when_history_begins_is_its_first_revision(
    settings: StorageSettings,
) -> None:
    before = datetime.now(UTC)
    one, two = await stored_before(settings, "one", "two")
    async with opened(settings) as storage:
        begun = await storage.formulas.history(one)
        assert [each.version for each in begun] == [1]
        assert begun[0].entity == await storage.formulas.get_by_id(one)
        assert begun[0].commit > Commit(0)
        await storage.run(lambda uow: uow.formulas.delete(two))
        view = await storage.as_of(begun[0].commit)
        assert {each.id for each in await view.formulas.list()} == {one, two}
        with pytest.raises(InvalidData, match="is before the history"):
            await storage.formulas.get_by_id(one, as_of=before)
    async with opened(settings) as storage:
        assert len(await storage.formulas.history(one)) == 1
        assert len(await storage.formulas.history(two)) == 2


async def test_two_processes_at_once_begin_one_history(settings: StorageSettings) -> None:
    [identity] = await stored_before(settings, "one")
    async with opened(settings) as storage:
        stores = storage._backend.stores  # type: ignore[attr-defined]
        await storage.mongo.db[BEGINNINGS].delete_many({})
        await storage.mongo.db["formulas_history"].delete_many({})
        both = (Moments(stores).begin(is_kept=True) for _ in range(2))
        await asyncio.gather(*both)
        assert len(await storage.formulas.history(identity)) == 1
        noted = await storage.mongo.db[BEGINNINGS].find_one({"_id": "documents"})
        assert noted is not None
        await adopt(storage.mongo, noted["since"])
        assert len(await storage.formulas.history(identity)) == 1


async def test_a_history_that_was_off_for_a_time_begins_anew(settings: StorageSettings) -> None:
    async with opened(settings) as storage, storage.unit_of_work() as uow:
        kept, gone = await uow.formulas.save_many([make_formula("kept"), make_formula("gone")])
        first = (await uow.commit()).commit or Commit(0)
    async with opened(settings, history=False) as storage:
        changed = await storage.run(lambda uow: uow.formulas.save(replace(kept, name="changed")))
        await storage.run(lambda uow: uow.formulas.delete(gone.id or ""))
        with pytest.raises(InvalidData, match="no history is kept"):
            await storage.as_of(first)
    async with opened(settings) as storage:
        view = await storage.as_of(datetime.now(UTC))
        assert list(await view.formulas.list()) == [changed]
        with pytest.raises(InvalidData, match="is before the history"):
            await storage.formulas.get_by_id(kept.id or "", as_of=first)
        history = await storage.formulas.history(gone.id or "")
        assert [each.entity for each in history] == [gone, None]


async def test_without_history_nothing_is_asked_and_nothing_kept(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings, history=False) as storage:
        formula = await storage.run(lambda uow: uow.formulas.save(make_formula()))
        clock = await storage.mongo.db[CLOCK].find_one()
        monkeypatch.setattr(Revisions, "store", None)
        async with storage.unit_of_work() as uow:
            changed = await uow.formulas.save(replace(formula, name="changed"))
            assert (await uow.commit()).commit is None
        assert await storage.mongo.db[CLOCK].find_one() == clock
        assert list(await storage.formulas.history(changed.id or "")) == []
        assert await storage.formulas.get_by_id(changed.id or "", version=2) == changed
        with pytest.raises(NotFound, match=r"Version 1 of .* is not kept"):
            await storage.formulas.get_by_id(changed.id or "", version=1)


async def test_a_revision_holds_the_whole_document(storage: Storage) -> None:
    """Also the fields that the kit does not know, which an update leaves alone."""
    formula = await storage.run(lambda uow: uow.formulas.save(make_formula()))
    formulas = storage.mongo.db["formulas"]
    await formulas.update_one({}, {"$set": {"note": "of another program", "parameters.0.unit": 1}})
    async with storage.unit_of_work(source="editor") as uow:
        await uow.formulas.save(replace(formula, name="changed"))
        await uow.commit()
    revisions = await storage.mongo.db["formulas_history"].find().sort("since", 1).to_list()
    assert revisions[-1]["stored"] == await formulas.find_one()
    assert revisions[-1]["stored"]["note"] == "of another program"
    assert revisions[-1]["source"] == "editor"
    assert "note" not in revisions[0]["stored"]


async def test_a_commit_leaves_its_place_behind_and_closing_waits_for_it(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings) as storage:
        clock = storage._backend.stores.clock  # type: ignore[attr-defined]
        leave, goes_on = clock._leave, asyncio.Event()

        async def late(place: Any) -> Any:
            await goes_on.wait()
            return await leave(place)

        monkeypatch.setattr(clock, "_leave", late)
        async with storage.unit_of_work() as uow:
            formula = await uow.formulas.save(make_formula())
            commit = (await uow.commit()).commit
        assert commit is not None
        assert len(await clock.under_way()) == 1, "who reads as of a moment waits for it"
        reading = asyncio.create_task(storage.formulas.get_by_id(formula.id or "", as_of=commit))
        await asyncio.sleep(0.05)
        assert not reading.done()
        goes_on.set()
        assert await reading == formula
        goes_on.clear()
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(formula)
            await uow.commit()
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        goes_on.set()
        await closing
    async with MongoDBManager(settings.mongo()) as mongo:
        found = await mongo.db[CLOCK].find_one()
        assert found is not None
        assert found["running"] == []


@pytest.mark.parametrize("failing", ["clock", "revisions"])
async def test_a_commit_whose_revisions_fail_leaves_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    stores = storage._backend.stores  # type: ignore[attr-defined]

    async def fails(*_: Any, **__: Any) -> None:
        raise StorageError("It fails.")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="It fails"):
        if failing == "clock":
            patch.setattr(stores.clock, "_tick", fails)
        else:
            patch.setattr(Revisions, "store", fails)
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            await uow.strategies.save(make_strategy())
            await uow.commit()
    for name in ("formulas", "formulas_history", "strategies", "strategies_history"):
        assert await storage.mongo.db[name].count_documents({}) == 0
    assert await stores.clock.under_way() == []


async def test_what_is_written_without_a_unit_of_work_has_no_revision(storage: Storage) -> None:
    formula = await MongoDBFormulaRepository(storage.mongo).save(make_formula())
    identity = formula.id or ""
    assert list(await storage.formulas.history(identity)) == []
    changed = await storage.run(lambda uow: uow.formulas.save(replace(formula, name="changed")))
    assert [each.entity for each in await storage.formulas.history(identity)] == [changed]
    with pytest.raises(NotFound, match="history\\(id\\) lists"):
        await storage.formulas.get_by_id(identity, version=1)


async def test_a_revision_that_cannot_be_read_is_left_out_of_lists(storage: Storage) -> None:
    one = await storage.run(lambda uow: uow.formulas.save(make_formula("one")))
    two = await storage.run(lambda uow: uow.formulas.save(make_formula("two")))
    await storage.mongo.db["formulas_history"].update_one(
        {"stored.name": "one"}, {"$set": {"stored.category": "hunch"}}
    )
    view = await storage.as_of(datetime.now(UTC))
    assert list(await view.formulas.list()) == [two]
    assert list(await storage.formulas.history(one.id or "")) == []
    with pytest.raises(InvalidData, match="category"):
        await view.formulas.list(strict=True)
    with pytest.raises(InvalidData, match="category"):
        await view.formulas.get_by_id(one.id or "")


async def test_many_documents_of_one_commit_have_their_revisions(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        made = await uow.formulas.save_many([make_formula(f"f{n}") for n in range(1_500)])
        await uow.commit()
    async with storage.unit_of_work() as uow:
        await uow.formulas.save_many([replace(each, name="changed") for each in made])
        commit = (await uow.commit()).commit
    assert commit is not None
    then = (await storage.as_of(commit)).formulas
    assert len(await then.list(limit=2_000)) == len(await then.search("changed", limit=2_000))
    before = (await storage.as_of(Commit(commit.version - 2))).formulas
    assert sorted(each.name for each in await before.list(limit=2_000)) == sorted(
        each.name for each in made
    )
