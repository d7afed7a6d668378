"""The contract of the history of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain.enums import FormulaCategory
from jts_storage.domain.formula import Formula
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import Conflict, InvalidData
from jts_storage.storage import Storage
from jts_storage.testing.contracts.purged_documents import PurgedDocuments
from jts_storage.testing.contracts.revision_model import (
    FormulaModel,
    Unit,
    a_moment,
    deleted,
    saved,
    units_of_work,
)
from jts_storage.testing.contracts.samples import KEY, MANY_SUBCLASSES, candle, fresh, minute
from jts_storage.testing.factories import make_backtest, make_formula, make_strategy


def by_id(formulas: Sequence[Formula]) -> list[Formula]:
    return sorted(formulas, key=lambda formula: formula.id or "")


@pytest.mark.asyncio
class DocumentHistoryContract(PurgedDocuments):
    """Give it a fixture `storage`: an open `Storage` of which no document is stored."""

    async def test_each_version_can_be_had(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        two, _ = await saved(storage, replace(one, name="two", tags=("other",)))
        three, _ = await saved(storage, replace(two, name="three", parameters=()))
        await deleted(storage, three)
        kept = [await storage.formulas.get_by_id(one.id or "", version=n) for n in range(1, 5)]
        assert kept == [one, two, three, None]
        capitals = (one.id or "").upper()
        assert await storage.formulas.get_by_id(capitals, version=2) == two

    async def test_a_history_tells_what_each_commit_made_of_it(self, storage: Storage) -> None:
        one, first = await saved(storage, make_formula("one"), "editor")
        two, second = await saved(storage, replace(one, name="two"), "import")
        last = await deleted(storage, two, "cleaner")
        history = await storage.formulas.history(one.id or "")
        assert [each.entity for each in history] == [one, two, None]
        assert [each.version for each in history] == [1, 2, None]
        assert [each.commit for each in history] == [first, second, last]
        assert [each.source for each in history] == ["editor", "import", "cleaner"]
        assert [each.is_deletion for each in history] == [False, False, True]
        assert first < second < last

    async def test_what_was_before_between_and_after(self, storage: Storage) -> None:
        before = await a_moment()
        one, first = await saved(storage, make_formula("one"))
        between = await a_moment()
        two, second = await saved(storage, replace(one, name="two"))
        after = await a_moment()
        last = await deleted(storage, two)
        at_last = await a_moment()
        moments: list[AsOf] = [before, first, between, second, after, last, at_last]
        expected = [None, one, one, two, two, None, None]
        formulas, identity = storage.formulas, one.id or ""
        assert [await formulas.get_by_id(identity, as_of=each) for each in moments] == expected
        views = [await storage.as_of(each) for each in moments]
        assert [await each.formulas.get_by_id(identity) for each in views] == expected
        for view, formula in zip(views, expected, strict=True):
            assert list(await view.formulas.list()) == ([] if formula is None else [formula])

    async def test_what_is_stored_anew_is_another_document(self, storage: Storage) -> None:
        old, _ = await saved(storage, make_formula("same"))
        gone = await deleted(storage, old)
        new, anew = await saved(storage, make_formula("same"))
        assert len(await storage.formulas.history(old.id or "")) == 2
        assert len(await storage.formulas.history(new.id or "")) == 1
        assert await storage.formulas.get_by_id(old.id or "", as_of=anew) is None
        assert list(await (await storage.as_of(gone)).formulas.list()) == []
        assert list(await (await storage.as_of(anew)).formulas.list()) == [new]

    async def test_what_is_not_committed_leaves_nothing(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(replace(one, name="two"))
            other = await uow.formulas.save(make_formula("other"))
            await uow.rollback()
        assert [each.entity for each in await storage.formulas.history(one.id or "")] == [one]
        assert list(await storage.formulas.history(other.id or "")) == []
        assert await storage.formulas.get_by_id(one.id or "", version=2) is None

    async def test_a_conflict_leaves_nothing(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        async with storage.unit_of_work() as mine:
            await mine.formulas.get_by_id(one.id or "")
            theirs, _ = await saved(storage, replace(one, name="theirs"))
            with pytest.raises(Conflict):
                await mine.formulas.save(replace(one, name="mine"))
                await mine.commit()
        history = await storage.formulas.history(one.id or "")
        assert [each.entity for each in history] == [one, theirs]

    async def test_a_save_that_is_refused_leaves_no_revision(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        two, _ = await saved(storage, replace(one, name="two"))
        async with storage.unit_of_work() as uow:
            with pytest.raises(Conflict):
                await uow.formulas.save(replace(one, name="stale"))
            other = await uow.formulas.save(make_formula("other"))
            await uow.commit()
        assert [each.entity for each in await storage.formulas.history(one.id or "")] == [one, two]
        assert [each.entity for each in await storage.formulas.history(other.id or "")] == [other]

    async def test_each_save_of_one_unit_of_work_is_a_version(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        async with storage.unit_of_work() as uow:
            two = await uow.formulas.save(replace(one, name="two"))
            [three] = await uow.formulas.save_many([replace(two, name="three")])
            four = await uow.formulas.save(replace(three, name="four"))
            short = await uow.formulas.save(make_formula("short"))
            await uow.formulas.delete(short.id or "")
            result = await uow.commit()
        assert [each.entity for each in await storage.formulas.history(one.id or "")] == [
            one,
            two,
            three,
            four,
        ]
        assert await storage.formulas.get_by_id(one.id or "", version=3) == three
        assert await storage.formulas.get_by_id(one.id or "", as_of=result.commit) == four
        history = await storage.formulas.history(short.id or "")
        assert [each.entity for each in history] == [short, None]
        assert {each.commit for each in history} == {result.commit}

    async def test_a_save_that_changes_nothing_is_a_version(self, storage: Storage) -> None:
        one, _ = await saved(storage, make_formula("one"))
        same, _ = await saved(storage, one)
        assert [each.entity for each in await storage.formulas.history(one.id or "")] == [one, same]

    async def test_several_are_kept_as_one_is(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            made = by_id(await uow.formulas.save_many([make_formula(f"f{n}") for n in range(5)]))
            await uow.commit()
        async with storage.unit_of_work() as uow:
            changed = [replace(each, name=f"{each.name} changed") for each in made[:3]]
            mixed = await uow.formulas.save_many([*changed, make_formula("new")])
            result = await uow.commit()
        for old, new in zip(made, mixed, strict=False):
            history = await storage.formulas.history(old.id or "")
            expected = [old, new] if old in made[:3] else [old]
            assert [each.entity for each in history] == expected
        assert result.commit is not None
        view = await storage.as_of(Commit(result.commit.version - 2))
        assert list(await view.formulas.list()) == made

    async def test_candles_and_documents_of_one_commit_are_of_one_moment(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work(source="both") as uow:
            await uow.candles.save_many(KEY, [candle(1)])
            formula = await uow.formulas.save(make_formula())
            result = await uow.commit()
        assert result.commit is not None
        [revision] = await storage.formulas.history(formula.id or "")
        assert (revision.commit, revision.source) == (result.commit, "both")
        view = await storage.as_of(result.commit)
        assert list(await view.formulas.list()) == [formula]
        assert await view.candles.count(KEY, minute(1), minute(1)) == 1
        async with storage.unit_of_work() as uow:
            await uow.candles.delete_range(KEY, minute(1), minute(1))
            changed = await uow.formulas.save(replace(formula, name="changed"))
            await uow.commit()
        assert list(await view.formulas.list()) == [formula]
        history = await storage.formulas.history(formula.id or "")
        assert [each.entity for each in history] == [formula, changed]

    async def test_a_view_lists_and_searches_what_was(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            made = [
                make_formula(f"cross {n}", category=category, tags=(f"tag {n % 2}", "all"))
                for n, category in enumerate([*FormulaCategory, *FormulaCategory])
            ]
            was = by_id(await uow.formulas.save_many(made))
            result = await uow.commit()
        async with storage.unit_of_work() as uow:
            for each in was[:3]:
                changed = replace(each, name="none", tags=(), category=FormulaCategory.EXIT)
                await uow.formulas.save(changed)
            await uow.formulas.delete(was[-1].id or "")
            await uow.formulas.save(make_formula("cross later"))
            await uow.commit()
        formulas = (await storage.as_of(result.commit or "")).formulas
        assert list(await formulas.list()) == was
        assert list(await formulas.list(limit=3)) == was[:3]
        assert list(await formulas.list(limit=3, after=was[2].id)) == was[3:6]
        assert list(await formulas.list(after=was[-1].id)) == []
        assert list(await formulas.list(limit=0)) == list(await formulas.list(after="no id")) == []
        scans = [each for each in was if each.category is FormulaCategory.SCAN]
        assert list(await formulas.get_by_category(FormulaCategory.SCAN)) == scans
        odd = [each for each in was if "tag 1" in each.tags]
        assert list(await formulas.get_by_tag("tag 1", limit=2)) == odd[:2]
        assert list(await formulas.get_by_tags(["tag 1", "all"])) == odd
        assert list(await formulas.get_by_tags([])) == []
        assert list(await formulas.search("CROSS", limit=4)) == was[:4]
        assert list(await formulas.search("later")) == list(await formulas.search("")) == []
        with pytest.raises(InvalidData, match="limit"):
            await formulas.list(limit=-1)

    async def test_strategies_are_kept_as_formulas_are(self, storage: Storage) -> None:
        formula, _ = await saved(storage, make_formula())
        steps: list[Commit] = []
        states: list[Strategy | None] = []
        strategy = make_strategy(entry_formula_id=formula.id)
        for name in ("one", "two"):
            async with storage.unit_of_work(source=name) as uow:
                strategy = await uow.strategies.save(replace(strategy, name=name))
                steps.append((await uow.commit()).commit or Commit(0))
                states.append(strategy)
        identity = strategy.id or ""
        async with storage.unit_of_work(source="gone") as uow:
            await uow.strategies.delete(identity)
            steps.append((await uow.commit()).commit or Commit(0))
            states.append(None)
        history = await storage.strategies.history(identity)
        assert [each.entity for each in history] == states
        assert [each.source for each in history] == ["one", "two", "gone"]
        assert await storage.strategies.get_by_id(identity, version=1) == states[0]
        for commit, state in zip(steps, states, strict=True):
            assert await storage.strategies.get_by_id(identity, as_of=commit) == state
            view = (await storage.as_of(commit)).strategies
            expected = [] if state is None else [state]
            assert await view.get_by_id(identity) == state
            assert list(await view.list()) == expected
            assert list(await view.get_by_formula(formula.id or "")) == expected
            assert list(await view.get_by_formula("f" * 24)) == []

    async def test_what_names_no_moment_and_no_document(self, storage: Storage) -> None:
        one, commit = await saved(storage, make_formula())
        identity = one.id or ""
        for unknown in ("", "no id", "f" * 24):
            assert list(await storage.formulas.history(unknown)) == []
            assert await storage.formulas.get_by_id(unknown, version=1) is None
            assert await storage.formulas.get_by_id(unknown, as_of=commit) is None
        future = datetime.now(UTC) + timedelta(hours=1)
        for refused in (
            storage.formulas.get_by_id(identity, version=1, as_of=commit),
            storage.formulas.get_by_id(identity, version=0),
            storage.formulas.get_by_id(identity, as_of=future),
            storage.strategies.get_by_id(identity, as_of=datetime(2024, 1, 2)),  # noqa: DTZ001
        ):
            with pytest.raises(InvalidData):
                await refused

    async def test_a_backtest_names_the_versions_that_are_stored(self, storage: Storage) -> None:
        entry, _ = await saved(storage, make_formula("entry"))
        entry, _ = await saved(storage, entry)
        async with storage.unit_of_work() as uow:
            strategy = await uow.strategies.save(
                make_strategy(entry_formula_id=entry.id, exit_formula_id="f" * 24)
            )
            strategy = await uow.strategies.save(strategy)
            result = await uow.backtests.save(make_backtest(strategy.id or ""))
            await uow.commit()
        assert result.strategy_version == 2
        assert result.formula_versions == {entry.id: 2}
        await saved(storage, entry)
        assert await storage.backtests.get_by_id(result.id or "") == result
        [summary] = await storage.backtests.list()
        assert summary == result.summary()
        async with storage.unit_of_work() as uow:
            again = await uow.backtests.save(
                replace(result, strategy_version=None, formula_versions={})
            )
            assert again == result, "what was run does not change when it is saved once more"
            with pytest.raises(Conflict):
                await uow.backtests.save(replace(result, strategy_version=7))

    async def test_versions_that_a_backtest_names_itself_stay(self, storage: Storage) -> None:
        formula, _ = await saved(storage, make_formula())
        async with storage.unit_of_work() as uow:
            strategy = await uow.strategies.save(make_strategy(entry_formula_id=formula.id))
            given = make_backtest(strategy.id or "", strategy_version=5)
            named = await uow.backtests.save(given)
            unknown = await uow.backtests.save(make_backtest())
            await uow.commit()
        assert (named.strategy_version, named.formula_versions) == (5, {})
        assert (unknown.strategy_version, unknown.formula_versions) == (None, {})
        assert await storage.backtests.get_by_id(named.id or "") == named
        assert await storage.backtests.get_by_id(unknown.id or "") == unknown

    @settings(max_examples=15, deadline=None, suppress_health_check=MANY_SUBCLASSES)
    @given(units=units_of_work, purged=st.none() | st.integers(0, 4))
    async def test_every_moment_is_as_a_dict_of_all_versions_says(
        self, storage: Storage, units: list[Unit], purged: int | None
    ) -> None:
        model = FormulaModel(f"model {next(fresh)}")
        for steps, commits in units:
            await model.unit_of_work(storage, steps, commits=commits)
        if purged is not None:
            await model.purge(storage, purged)
        await model.check(storage)
