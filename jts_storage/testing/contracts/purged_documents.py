"""What the contract of the history of documents says of purging it, and of reading it in pages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jts_storage.domain.formula import Formula
from jts_storage.domain.revision import Revision
from jts_storage.errors import InUse, InvalidData, NotFound
from jts_storage.storage import Storage
from jts_storage.testing.contracts.revision_model import a_moment, deleted, saved
from jts_storage.testing.factories import make_formula, make_strategy


@pytest.mark.asyncio
class PurgedDocuments:
    """A part of `DocumentHistoryContract`."""

    async def test_what_is_purged_is_erased_and_its_moments_are_refused(
        self, storage: Storage
    ) -> None:
        one, first = await saved(storage, make_formula("one"))
        two, second = await saved(storage, replace(one, name="two"))
        three, third = await saved(storage, replace(two, name="three"))
        formulas, identity = storage.formulas, one.id or ""
        assert await formulas.purge_history(identity.upper(), before=second) == 1
        assert [each.entity for each in await formulas.history(identity)] == [two, three]
        assert await formulas.get_by_id(identity, as_of=second) == two
        assert await formulas.get_by_id(identity, as_of=third) == three
        assert await formulas.get_by_id(identity, version=2) == two
        with pytest.raises(NotFound, match=r"Version 1 of .* is not kept"):
            await formulas.get_by_id(identity, version=1)
        view = await storage.as_of(first)
        for refused in (
            formulas.get_by_id(identity, as_of=first),
            view.formulas.get_by_id(identity),
            view.formulas.list(),
            view.formulas.get_by_tag("of another"),
            view.formulas.search("another"),
        ):
            with pytest.raises(
                InvalidData, match=f"before the history of {identity} in formulas.*was purged"
            ):
                await refused
        assert list(await view.strategies.list()) == []
        assert list(await (await storage.as_of(second)).formulas.list()) == [two]
        assert await formulas.purge_history(identity, before=second) == 0
        four, _ = await saved(storage, replace(three, name="four"))
        assert [each.entity for each in await formulas.history(identity)] == [two, three, four]

    async def test_of_a_document_that_was_deleted_and_purged_no_version_is_kept(
        self, storage: Storage
    ) -> None:
        one, _ = await saved(storage, make_formula("one"))
        two, _ = await saved(storage, replace(one, name="two"))
        await deleted(storage, two)
        identity = one.id or ""
        assert await storage.formulas.purge_history(identity) == 2
        for version in (1, 2):
            with pytest.raises(NotFound, match=f"Version {version} of .* is not kept"):
                await storage.formulas.get_by_id(identity, version=version)
        assert await storage.formulas.get_by_id(identity, version=3) is None

    async def test_of_a_purged_document_the_present_and_others_stay(self, storage: Storage) -> None:
        one, first = await saved(storage, make_formula("one"))
        other, _ = await saved(storage, make_formula("other"))
        changed, _ = await saved(storage, replace(other, name="changed"))
        two, _ = await saved(storage, replace(one, name="two"))
        assert await storage.formulas.purge_history(one.id) == 1
        assert await storage.formulas.get_by_id(one.id or "") == two
        assert [each.entity for each in await storage.formulas.history(one.id or "")] == [two]
        kept = await storage.formulas.history(other.id or "")
        assert [each.entity for each in kept] == [other, changed]
        gone = await deleted(storage, two)
        assert await storage.formulas.purge_history(one.id) == 1
        [deletion] = await storage.formulas.history(one.id or "")
        assert (deletion.is_deletion, deletion.commit) == (True, gone)
        assert await storage.formulas.get_by_id(one.id or "", as_of=gone) is None
        with pytest.raises(NotFound):
            await storage.formulas.get_by_id(one.id or "", version=2)
        with pytest.raises(InvalidData):
            await storage.formulas.get_by_id(one.id or "", as_of=first)

    async def test_all_formulas_are_purged_and_strategies_stay(self, storage: Storage) -> None:
        formulas = [(await saved(storage, make_formula(f"f{n}")))[0] for n in range(3)]
        strategy = await storage.run(lambda uow: uow.strategies.save(make_strategy()))
        strategy = await storage.run(lambda uow: uow.strategies.save(strategy))
        for each in formulas[:2]:
            await saved(storage, replace(each, name="changed"))
        moment = await a_moment()
        await saved(storage, replace(formulas[2], name="changed"))
        assert await storage.formulas.purge_history(before=moment) == 2
        histories = [await storage.formulas.history(each.id or "") for each in formulas]
        assert [len(each) for each in histories] == [1, 1, 2]
        assert len(await storage.strategies.history(strategy.id or "")) == 2
        assert await storage.strategies.purge_history() == 1

    async def test_what_a_snapshot_shows_is_not_purged(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        two, _ = await saved(storage, replace(one, name="two"))
        await storage.snapshots.create("pinned")
        three, _ = await saved(storage, replace(two, name="three"))
        try:
            for identity in (one.id, None):
                with pytest.raises(InUse, match="were not purged: shown by 'pinned'"):
                    await storage.formulas.purge_history(identity)
            history = await storage.formulas.history(one.id or "")
            assert [each.entity for each in history] == [one, two, three]
            assert await storage.formulas.purge_history(one.id, before="pinned") == 1
            assert await storage.formulas.get_by_id(one.id or "", as_of="pinned") == two
        finally:
            await storage.snapshots.delete("pinned")
        assert await storage.formulas.purge_history(one.id) == 1

    async def test_what_a_snapshot_shows_is_purged_despite_it(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        strategy = await storage.run(lambda uow: uow.strategies.save(make_strategy("first")))
        await storage.snapshots.create("shown")
        two, _ = await saved(storage, replace(one, name="two"))
        await storage.run(lambda uow: uow.strategies.save(replace(strategy, name="second")))
        identity = one.id or ""
        try:
            with pytest.raises(InUse, match="despite_snapshots=True"):
                await storage.strategies.purge_history()
            for purge in (storage.formulas, storage.strategies):
                assert await purge.purge_history(despite_snapshots=True) == 1
                assert await purge.purge_history() == 0
            assert (await storage.snapshots.get("shown")).name == "shown"
            view = await storage.as_of("shown")
            for refused in (
                storage.formulas.get_by_id(identity, as_of="shown"),
                storage.strategies.get_by_id(strategy.id or "", as_of="shown"),
                view.formulas.list(),
                view.strategies.list(),
            ):
                with pytest.raises(InvalidData, match="was purged"):
                    await refused
            assert [each.entity for each in await storage.formulas.history(identity)] == [two]
        finally:
            await storage.snapshots.delete("shown")

    async def test_what_cannot_be_purged(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        await saved(storage, one)
        for unknown in ("", "no id", "f" * 24):
            for purge in (storage.formulas, storage.strategies):
                with pytest.raises(NotFound, match=f"neither is nor was a .* {unknown!r}"):
                    await purge.purge_history(unknown)
        with pytest.raises(NotFound, match="neither is nor was a strategy"):
            await storage.strategies.purge_history(one.id)
        with pytest.raises(InvalidData, match="lies in the future"):
            await storage.formulas.purge_history(before=datetime.now(UTC) + timedelta(hours=1))
        with pytest.raises(NotFound, match="no snapshot 'unknown'"):
            await storage.formulas.purge_history(one.id, before="unknown")
        assert len(await storage.formulas.history(one.id or "")) == 2

    async def test_a_history_is_read_in_pages(self, storage: Storage) -> None:
        formula, _ = await saved(storage, make_formula("0"))
        for commits in range(3):
            async with storage.unit_of_work() as uow:
                for n in range(commits + 1):
                    formula = await uow.formulas.save(replace(formula, name=f"{commits} {n}"))
                if commits == 2:
                    await uow.formulas.delete(formula.id or "")
                await uow.commit()
        history = await storage.formulas.history(formula.id or "")
        assert [each.version for each in history] == [*range(1, 8), None]
        for limit in (1, 2, 3, 8):
            pages: list[Revision[Formula]] = []
            after: Revision[Formula] | None = None
            while True:
                page = await storage.formulas.history(formula.id or "", limit=limit, after=after)
                pages += page
                if not page.has_more:
                    break
                assert len(page) == limit
                after = page[-1]
            assert pages == history
        assert await storage.formulas.history(formula.id or "", limit=0) == []
        assert await storage.formulas.history(formula.id or "", after=history[-1]) == []
        with pytest.raises(InvalidData, match="limit"):
            await storage.formulas.history(formula.id or "", limit=-1)
