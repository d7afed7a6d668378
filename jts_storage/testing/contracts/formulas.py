"""The contract of `FormulaRepository`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from jts_storage.domain.enums import FormulaCategory, ParameterType
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.ids import new_document_id
from jts_storage.errors import Conflict, InvalidData
from jts_storage.ports.formulas import FormulaRepository
from jts_storage.ports.strategies import StrategyRepository
from jts_storage.testing.contracts.searches import Searches, names
from jts_storage.testing.factories import make_formula, make_strategy

HOSTILE = ['{"$gt": ""}', "$where", "a.b", "'; DROP", "%s", "(?i).*", "\\", "[", "x" * 10_000]

LARGEST = 8
"""Texts of a million letters that a formula holds at least."""


def by_id(formulas: list[Formula]) -> list[Formula]:
    return sorted(formulas, key=lambda formula: formula.id or "")


@pytest.mark.asyncio
class FormulaRepositoryContract(Searches):
    """Give it fixtures `formula_repository` and `strategy_repository` over one empty store."""

    async def test_a_limit_below_nothing_is_refused(
        self, formula_repository: FormulaRepository
    ) -> None:
        for refused in (
            formula_repository.list(limit=-1),
            formula_repository.search("cross", limit=-1),
        ):
            with pytest.raises(InvalidData, match="limit"):
                await refused

    async def test_what_is_no_formula_and_no_id_is_told_apart(
        self, formula_repository: FormulaRepository
    ) -> None:
        repository: Any = formula_repository
        for refused in (
            repository.save("x"),
            repository.save_many(make_formula()),
            repository.get_by_tags("trend"),
            repository.search(None),
        ):
            with pytest.raises(InvalidData):
                await refused
        await repository.save(make_formula())
        assert [await repository.get_by_id(no) for no in (None, 5, "", "x")] == [None] * 4
        assert list(await repository.list(after="")) == []
        assert not await repository.delete(None)

    async def test_of_several_all_are_saved_or_none(
        self, formula_repository: FormulaRepository
    ) -> None:
        saved = await formula_repository.save(make_formula())
        await formula_repository.save(saved)
        with pytest.raises(Conflict):
            await formula_repository.save_many([make_formula("new"), saved])
        fresh = await formula_repository.get_by_id(saved.id or "")
        assert fresh is not None
        with pytest.raises(Conflict):
            await formula_repository.save_many([make_formula("new"), fresh, fresh])
        assert "new" not in [formula.name for formula in await formula_repository.list()]

    async def test_a_new_formula_gets_id_version_and_times(
        self, formula_repository: FormulaRepository
    ) -> None:
        formula = make_formula()
        saved = await formula_repository.save(formula)
        assert saved.id is not None
        assert saved.version == 1
        assert saved.created_at == saved.updated_at is not None
        assert replace(saved, id=None, created_at=None, updated_at=None) == formula
        assert await formula_repository.get_by_id(saved.id) == saved
        assert await formula_repository.get_by_id(saved.id.upper()) == saved

    async def test_values_of_every_kind_come_back_exactly(
        self, formula_repository: FormulaRepository
    ) -> None:
        parameters = (
            FormulaParameter("i", ParameterType.INT, 2**62, -(2**63), 2**63 - 1),
            FormulaParameter("f", ParameterType.FLOAT, 0.1, -1e300, 1e300),
            FormulaParameter(
                "d", ParameterType.DECIMAL, Decimal("1.2345678901234567890123456789012345"[:35])
            ),
            FormulaParameter("s", ParameterType.STRING, "여러 글자 $x"),
            FormulaParameter("b", ParameterType.BOOL, False),
            FormulaParameter("none", ParameterType.BOOL),
        )
        saved = await formula_repository.save(
            make_formula(parameters=parameters, description=None, tags=())
        )
        found = await formula_repository.get_by_id(saved.id or "")
        assert found == saved
        assert found is not None
        kinds = [type(parameter.default_value) for parameter in found.parameters]
        assert kinds == [int, float, Decimal, str, bool, type(None)]

    @pytest.mark.parametrize("unknown", ["", "nothing", "f" * 24, "f" * 23 + "g", *HOSTILE])
    async def test_an_unknown_id_is_not_found(
        self, formula_repository: FormulaRepository, unknown: str
    ) -> None:
        assert await formula_repository.get_by_id(unknown) is None
        assert await formula_repository.delete(unknown) is False

    async def test_an_update_counts_the_version_up(
        self, formula_repository: FormulaRepository
    ) -> None:
        first = await formula_repository.save(make_formula())
        second = await formula_repository.save(
            replace(first, name="renamed", description=None, parameters=(), tags=("other",))
        )
        assert (second.id, second.version, second.created_at) == (first.id, 2, first.created_at)
        assert await formula_repository.get_by_id(first.id or "") == second
        assert len(await formula_repository.list()) == 1

    async def test_a_stale_version_is_a_conflict(
        self, formula_repository: FormulaRepository
    ) -> None:
        first = await formula_repository.save(make_formula())
        second = await formula_repository.save(replace(first, name="second"))
        with pytest.raises(Conflict):
            await formula_repository.save(replace(first, name="too late"))
        assert await formula_repository.get_by_id(first.id or "") == second

    async def test_saving_what_was_deleted_does_not_bring_it_back(
        self, formula_repository: FormulaRepository
    ) -> None:
        saved = await formula_repository.save(make_formula())
        assert await formula_repository.delete(saved.id or "") is True
        with pytest.raises(Conflict):
            await formula_repository.save(saved)
        with pytest.raises(Conflict):
            await formula_repository.save(make_formula(id=new_document_id()))
        assert list(await formula_repository.list()) == []

    async def test_of_concurrent_updates_one_wins(
        self, formula_repository: FormulaRepository
    ) -> None:
        saved = await formula_repository.save(make_formula())
        outcomes = await asyncio.gather(
            *(formula_repository.save(replace(saved, name=f"writer {n}")) for n in range(8)),
            return_exceptions=True,
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, Formula)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
        assert (len(winners), len(losers)) == (1, 7)
        assert await formula_repository.get_by_id(saved.id or "") == winners[0]

    async def test_many_are_saved_in_their_order(
        self, formula_repository: FormulaRepository
    ) -> None:
        old = await formula_repository.save(make_formula("old"))
        saved = await formula_repository.save_many(
            [make_formula("b"), replace(old, name="changed"), make_formula("a")]
        )
        assert names(saved) == ["b", "changed", "a"]
        assert [formula.version for formula in saved] == [1, 2, 1]
        assert list(await formula_repository.list()) == by_id(list(saved))
        assert list(await formula_repository.save_many([])) == []

    async def test_a_stale_one_among_many_is_a_conflict(
        self, formula_repository: FormulaRepository
    ) -> None:
        stale = await formula_repository.save(make_formula())
        current = await formula_repository.save(replace(stale, name="current"))
        with pytest.raises(Conflict):
            await formula_repository.save_many([stale, make_formula()])
        assert await formula_repository.get_by_id(stale.id or "") == current

    async def test_lists_come_in_pages_by_id(self, formula_repository: FormulaRepository) -> None:
        saved = by_id(
            [await formula_repository.save(make_formula(f"f{n}", tags=("t",))) for n in range(5)]
        )
        first = await formula_repository.list(limit=2)
        assert list(first) == saved[:2]
        assert list(await formula_repository.list(limit=9, after=saved[1].id)) == saved[2:]
        assert list(await formula_repository.list(after=saved[4].id)) == []
        by_tag = await formula_repository.get_by_tag("t", limit=2, after=saved[2].id)
        assert list(by_tag) == saved[3:]
        in_category = await formula_repository.get_by_category(
            FormulaCategory.ENTRY, limit=1, after=saved[0].id
        )
        assert list(in_category) == [saved[1]]

    async def test_categories_and_tags_select(self, formula_repository: FormulaRepository) -> None:
        scan = make_formula("scan", category=FormulaCategory.SCAN, tags=("a", "b"))
        exit_ = make_formula("exit", category=FormulaCategory.EXIT, tags=("b",))
        await formula_repository.save_many([scan, exit_])
        assert names(await formula_repository.get_by_category(FormulaCategory.EXIT)) == ["exit"]
        assert names(await formula_repository.get_by_category(FormulaCategory.STOP_LOSS)) == []
        assert names(await formula_repository.get_by_tag("a")) == ["scan"]
        assert set(names(await formula_repository.get_by_tag("b"))) == {"scan", "exit"}
        assert names(await formula_repository.get_by_tag("A")) == []
        assert names(await formula_repository.get_by_tags(["b", "a"])) == ["scan"]
        assert names(await formula_repository.get_by_tags(["a", "c"])) == []
        assert names(await formula_repository.get_by_tags([])) == []

    async def test_search_is_limited(self, formula_repository: FormulaRepository) -> None:
        await formula_repository.save_many([make_formula(f"cross {n}") for n in range(5)])
        assert len(await formula_repository.search("cross", limit=3)) == 3

    @pytest.mark.parametrize("hostile", HOSTILE)
    async def test_hostile_strings_are_plain_text(
        self, formula_repository: FormulaRepository, hostile: str
    ) -> None:
        await formula_repository.save(make_formula("quiet", description=None, tags=("quiet",)))
        assert names(await formula_repository.get_by_tag(hostile)) == []
        tag = hostile[:200]
        saved = await formula_repository.save(
            make_formula(hostile, expression=hostile, description=hostile, tags=(tag,))
        )
        assert await formula_repository.get_by_id(saved.id or "") == saved
        assert list(await formula_repository.get_by_tag(tag)) == [saved]
        assert "quiet" not in names(await formula_repository.search(hostile))

    async def test_an_id_in_capital_letters_is_the_same_id(
        self, formula_repository: FormulaRepository, strategy_repository: StrategyRepository
    ) -> None:
        first, second = by_id([await formula_repository.save(make_formula()) for _ in range(2)])
        # Ids are made of a counter: some have no letter.
        while not set(first.id or "") & set("abcdef"):
            first, second = second, await formula_repository.save(make_formula())
        capitals = (first.id or "").upper()
        assert capitals != first.id
        assert await formula_repository.get_by_id(capitals) == first
        assert first not in await formula_repository.list(after=capitals)
        assert second in await formula_repository.list(after=capitals)
        user = await strategy_repository.save(make_strategy("its user", entry_formula_id=capitals))
        assert user.entry_formula_id == first.id
        assert list(await strategy_repository.get_by_formula(capitals)) == [user]
        with pytest.raises(Conflict, match="its user"):
            await formula_repository.delete(capitals)
        changed = await formula_repository.save(replace(first, id=capitals, name="changed"))
        [changed] = await formula_repository.save_many([replace(changed, id=capitals)])
        assert await formula_repository.get_by_id(first.id or "") == changed
        assert await formula_repository.delete(capitals, force=True)
        assert await formula_repository.get_by_id(first.id or "") is None

    async def test_delete_tells_whether_there_was_one(
        self, formula_repository: FormulaRepository
    ) -> None:
        saved = await formula_repository.save(make_formula())
        assert await formula_repository.delete(saved.id or "") is True
        assert await formula_repository.delete(saved.id or "") is False
        assert await formula_repository.get_by_id(saved.id or "") is None

    async def test_a_formula_in_use_is_not_deleted_unless_forced(
        self, formula_repository: FormulaRepository, strategy_repository: StrategyRepository
    ) -> None:
        formula = await formula_repository.save(make_formula())
        await strategy_repository.save(make_strategy("its user", exit_formula_id=formula.id))
        with pytest.raises(Conflict, match="its user"):
            await formula_repository.delete(formula.id or "")
        assert await formula_repository.get_by_id(formula.id or "") == formula
        assert await formula_repository.delete(formula.id or "", force=True) is True
        assert await formula_repository.get_by_id(formula.id or "") is None

    async def test_a_save_over_other_times_than_were_read_is_a_conflict(
        self, formula_repository: FormulaRepository
    ) -> None:
        saved = await formula_repository.save(make_formula())
        assert saved.created_at is not None
        assert saved.updated_at is not None
        millisecond = timedelta(milliseconds=1)
        for stale in (
            replace(saved, updated_at=saved.updated_at - millisecond),
            replace(saved, updated_at=saved.updated_at + millisecond),
            replace(saved, created_at=saved.created_at - millisecond),
        ):
            with pytest.raises(Conflict, match="was changed by somebody else"):
                await formula_repository.save(stale)
            with pytest.raises(Conflict, match="was changed by somebody else"):
                await formula_repository.save_many([stale])
        assert await formula_repository.get_by_id(saved.id or "") == saved
        unknown = replace(saved, created_at=None, updated_at=None)
        changed = await formula_repository.save(unknown)
        assert (changed.version, changed.created_at) == (2, saved.created_at)
        again = await formula_repository.save(changed)
        [last] = await formula_repository.save_many([again])
        assert await formula_repository.get_by_id(saved.id or "") == last

    async def test_what_could_not_be_updated_is_refused_at_the_first_save(
        self, formula_repository: FormulaRepository
    ) -> None:
        def of_size(texts: int) -> Formula:
            return make_formula(
                parameters=[
                    FormulaParameter(f"p{n}", ParameterType.STRING, "x" * 1_000_000)
                    for n in range(texts)
                ]
            )

        for texts in (9, 17):
            with pytest.raises(InvalidData, match="bytes"):
                await formula_repository.save(of_size(texts))
            with pytest.raises(InvalidData, match="bytes"):
                await formula_repository.save_many([make_formula(), of_size(texts)])
        assert list(await formula_repository.list()) == []
        saved = await formula_repository.save(of_size(LARGEST))
        changed = replace(saved, parameters=saved.parameters[::-1])
        changed = await formula_repository.save(changed)
        [changed] = await formula_repository.save_many([changed])
        assert await formula_repository.get_by_id(saved.id or "") == changed

    async def test_a_strict_list_is_the_same_where_all_can_be_read(
        self, formula_repository: FormulaRepository
    ) -> None:
        saved = by_id([await formula_repository.save(make_formula(f"f{n}")) for n in range(3)])
        assert list(await formula_repository.list(limit=2, strict=True)) == saved[:2]
        assert list(await formula_repository.list(after=saved[1].id, strict=True)) == saved[2:]
