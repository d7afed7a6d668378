"""Revisions that `history_days` no longer keeps: what goes, what stays, and what is then said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from jts_storage import Formula, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData, NotFound, StorageError
from jts_storage.mongo import forgetting
from jts_storage.mongo.forgetting import FormerRevisions
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_backtest, make_formula, make_strategy
from jts_storage.unit_of_work import moments as moments_module
from jts_storage.unit_of_work.moments import Moments


def moments(storage: Storage) -> Moments:
    return Moments(storage._backend.stores)  # type: ignore[attr-defined]


async def save(storage: Storage, formula: Formula) -> tuple[Formula, Commit]:
    async with storage.unit_of_work() as uow:
        saved = await uow.formulas.save(formula)
        commit = (await uow.commit()).commit
    assert commit is not None
    return saved, commit


async def edited(storage: Storage, times: int) -> list[Formula]:
    """Every version of a formula."""
    states = [(await save(storage, make_formula("0")))[0]]
    for n in range(1, times + 1):
        states.append((await save(storage, replace(states[-1], name=str(n))))[0])
    return states


async def kept(storage: Storage, formula: Formula) -> list[int | None]:
    return [each.version for each in await storage.formulas.history(formula.id or "")]


async def rows(storage: Storage, collection: str = "formulas_history") -> int:
    return int(await storage.mongo.db[collection].count_documents({}))


async def test_what_was_over_long_ago_goes_unless_a_snapshot_shows_it(storage: Storage) -> None:
    one, first = await save(storage, make_formula("one"))
    identity = one.id or ""
    two, _ = await save(storage, replace(one, name="two"))
    await storage.snapshots.create("kept")
    three, third = await save(storage, replace(two, name="three"))
    held = await storage.as_of(third)
    four, fourth = await save(storage, replace(three, name="four"))
    gone, _ = await save(storage, make_formula("gone"))
    await storage.run(lambda uow: uow.formulas.delete(gone.id or ""))
    assert await moments(storage).forget(days=1) == 0
    assert await storage.formulas.get_by_id(identity, as_of=first) == one
    assert await moments(storage).forget(days=0) == 4
    assert await kept(storage, one) == [2, 4]
    assert await storage.formulas.get_by_id(identity, as_of="kept") == two
    assert list(await (await storage.as_of("kept")).formulas.list()) == [two]
    for refused in (first, fourth):
        with pytest.raises(InvalidData, match="is before the history: it begins at"):
            await storage.formulas.get_by_id(identity, as_of=refused)
    for too_late in (held.formulas.get_by_id(identity), held.formulas.list()):
        with pytest.raises(InvalidData, match="is before the history: it begins at"):
            await too_late
    with pytest.raises(NotFound, match="Version 3 of"):
        await storage.formulas.get_by_id(identity, version=3)
    assert await storage.formulas.get_by_id(gone.id or "", version=1) is None
    assert await kept(storage, gone) == []
    five, fifth = await save(storage, replace(four, name="five"))
    assert await storage.formulas.get_by_id(identity, as_of=fifth) == five
    await storage.snapshots.delete("kept")
    assert await moments(storage).forget(days=0) == 2
    assert await moments(storage).forget(days=0) == 0
    assert await rows(storage) == 1


async def test_what_a_backtest_result_names_stays(storage: Storage) -> None:
    formula, _ = await save(storage, make_formula())
    async with storage.unit_of_work() as uow:
        strategy = await uow.strategies.save(make_strategy(entry_formula_id=formula.id))
        result = await uow.backtests.save(make_backtest(strategy.id or ""))
        await uow.commit()
    first = formula, strategy
    for n in range(2):
        formula, _ = await save(storage, formula)
        async with storage.unit_of_work() as uow:
            strategy = await uow.strategies.save(replace(strategy, name=f"edit {n}"))
            await uow.commit()
    await storage.run(lambda uow: uow.strategies.delete(strategy.id or ""))
    assert await moments(storage).forget(days=0) == 3
    identities = formula.id or "", strategy.id or ""
    assert result.strategy_version == 1
    assert await storage.formulas.get_by_id(identities[0], version=1) == first[0]
    assert await storage.strategies.get_by_id(identities[1], version=1) == first[1]
    with pytest.raises(NotFound, match="Version 2 of"):
        await storage.formulas.get_by_id(identities[0], version=2)
    # What was deleted is not there again because one of its revisions is.
    history = await storage.strategies.history(identities[1])
    assert [each.version for each in history] == [1, None]
    _, commit = await save(storage, make_formula())
    view = await storage.as_of(commit)
    assert list(await view.strategies.list()) == []
    await storage.run(lambda uow: uow.backtests.delete(result.id or ""))
    assert await moments(storage).forget(days=0) == 3
    assert await rows(storage, "strategies_history") == 0


async def test_what_a_result_names_goes_once_it_was_purged(storage: Storage) -> None:
    """Nothing but its place is left of it, which nobody has to be told any more."""
    formula, _ = await save(storage, make_formula())
    async with storage.unit_of_work() as uow:
        strategy = await uow.strategies.save(make_strategy(entry_formula_id=formula.id))
        await uow.backtests.save(make_backtest(strategy.id or ""))
        await uow.commit()
    await save(storage, formula)
    assert await moments(storage).forget(days=0) == 0
    assert await storage.formulas.purge_history(formula.id) == 1
    assert await rows(storage) == 2
    assert await moments(storage).forget(days=0) == 1
    assert await rows(storage) == 1
    assert await kept(storage, formula) == [2]


async def test_what_breaks_off_or_is_done_twice_at_once_does_no_harm(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_BATCH", 2)
    states = await edited(storage, 7)
    await storage.snapshots.create("kept")
    last = (await edited(storage, 3))[-1]
    await save(storage, replace(states[-1], name="later"))
    delete, left = FormerRevisions._delete, 2

    async def breaks_off(self: FormerRevisions, gone: Sequence[Any]) -> int:
        nonlocal left
        left -= bool(gone)
        if left < 0:
            raise StorageError("It breaks off.")
        return await delete(self, gone)

    with monkeypatch.context() as patch:
        patch.setattr(FormerRevisions, "_delete", breaks_off)
        with pytest.raises(StorageError, match="It breaks off"):
            await moments(storage).forget(days=0)
    assert 6 < await rows(storage) < 13
    assert await storage.formulas.get_by_id(states[-1].id or "", as_of="kept") == states[-1]

    async def edit(formula: Formula) -> Formula:
        for n in range(10):
            formula, _ = await save(storage, replace(formula, name=f"meanwhile {n}"))
            version = await storage.formulas.get_by_id(formula.id or "", version=formula.version)
            assert version == formula
        return formula

    both = (moments(storage).forget(days=0) for _ in range(2))
    editing = asyncio.ensure_future(edit(last))
    await asyncio.gather(editing, *both)
    await moments(storage).forget(days=0)
    assert await kept(storage, states[-1]) == [8, 9]
    assert await kept(storage, last) == [editing.result().version]


@pytest.mark.parametrize("at", ["opening", "recovery"])
async def test_the_setting_is_obeyed_at_opening_and_by_recovery(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    bounded = settings.model_copy(update={"history_days": 1})
    async with Storage(StoreBackend(settings if at == "opening" else bounded)) as storage:
        [*_, last] = await edited(storage, 3)
        assert await kept(storage, last) == [1, 2, 3, 4]
        monkeypatch.setattr(moments_module, "_NANOSECONDS_OF_A_DAY", 0)
        if at == "recovery":
            await storage.recover()
            assert await kept(storage, last) == [4]
    async with Storage(StoreBackend(bounded)) as storage:
        await asyncio.wait([storage._backend._recovering])  # type: ignore[attr-defined]
        assert await kept(storage, last) == [4]


async def test_what_a_data_set_names_is_read_while_a_snapshot_shows_it(storage: Storage) -> None:
    await storage.snapshots.create("kept")
    data_set = await storage.data_set(Timeframe.M1, *FOREVER, as_of="kept")
    fingerprint = await storage.fingerprint(data_set)
    await edited(storage, 1)
    await moments(storage).forget(days=0)
    assert await storage.fingerprint(data_set) == fingerprint
    await storage.snapshots.delete("kept")
    with pytest.raises(InvalidData, match="is before the history"):
        await storage.fingerprint(data_set)
