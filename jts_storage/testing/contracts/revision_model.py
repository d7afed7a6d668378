"""A model of the history of formulas: a dict that keeps every version."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

import pytest
from hypothesis import strategies as st

from jts_storage.domain.formula import Formula
from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData, NotFound
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.contracts.samples import fresh
from jts_storage.testing.factories import make_formula

Step: TypeAlias = tuple[str, int]
Unit: TypeAlias = tuple[list[Step], bool]
"""The steps of a unit of work, and whether it commits."""

_steps: Final = st.tuples(st.sampled_from(["new", "save", "many", "delete"]), st.integers(0, 4))
units_of_work: Final = st.lists(
    st.tuples(st.lists(_steps, min_size=1, max_size=4), st.booleans()), min_size=1, max_size=6
)


async def saved(storage: Storage, formula: Formula, source: str = "") -> tuple[Formula, Commit]:
    """Save a formula in a unit of work of its own."""
    async with storage.unit_of_work(source=source) as uow:
        stored = await uow.formulas.save(formula)
        result = await uow.commit()
    assert result.commit is not None
    return stored, result.commit


async def deleted(storage: Storage, formula: Formula, source: str = "") -> Commit:
    async with storage.unit_of_work(source=source) as uow:
        assert await uow.formulas.delete(formula.id or "")
        result = await uow.commit()
    assert result.commit is not None
    return result.commit


async def a_moment() -> datetime:
    """A time after what was committed, and before what is committed next, on a clock of
    milliseconds."""
    await asyncio.sleep(0.003)
    moment = datetime.now(UTC)
    await asyncio.sleep(0.003)
    return moment


@dataclass
class FormulaModel:
    """Every version of every formula, in a dict."""

    tag: str
    now: dict[str, Formula] = field(default_factory=dict)
    versions: dict[str, list[tuple[Commit, Formula | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    moments: list[tuple[Commit, dict[str, Formula]]] = field(default_factory=list)
    purged: Commit = field(default_factory=lambda: Commit(0))
    """What was over by then is erased."""

    async def unit_of_work(self, storage: Storage, steps: list[Step], *, commits: bool) -> None:
        now = dict(self.now)
        made: list[tuple[str, Formula | None]] = []
        async with storage.unit_of_work(source=self.tag) as uow:
            for step, number in steps:
                made += await self._step(uow, now, step, number)
            if not commits:
                await uow.rollback()
                return
            result = await uow.commit()
        if made:
            assert result.commit is not None
            self.now = now
            self.moments.append((result.commit, now))
            for identity, state in made:
                self.versions[identity].append((result.commit, state))

    async def _step(
        self, uow: UnitOfWork, now: dict[str, Formula], step: str, number: int
    ) -> list[tuple[str, Formula | None]]:
        known = sorted(now)[number::5]
        if step == "delete":
            for each in known:
                assert await uow.formulas.delete(each)
                del now[each]
            return [(each, None) for each in known]
        given = [replace(now[each], name=f"{step} {next(fresh)}") for each in known]
        if step == "new":
            changed = [await uow.formulas.save(make_formula("new", tags=(self.tag,)))]
        elif step == "save":
            changed = [await uow.formulas.save(each) for each in given]
        else:
            changed = list(await uow.formulas.save_many(given))
        now.update({each.id or "": each for each in changed})
        return [(each.id or "", each) for each in changed]

    async def purge(self, storage: Storage, number: int) -> None:
        """Erase what each formula was before one of the moments."""
        if number < len(self.moments):
            self.purged = self.moments[number][0]
        for identity in self.versions:
            count = await storage.formulas.purge_history(identity, before=self.purged)
            assert count == sum(self._is_purged(identity, n) for n in self._numbers(identity))

    async def check(self, storage: Storage) -> None:
        for commit, then in self.moments:
            view = await storage.as_of(commit)
            gone = {each for each in self.versions if self._is_purged_then(each, commit)}
            if gone:
                with pytest.raises(InvalidData, match="was purged"):
                    await view.formulas.get_by_tag(self.tag)
            else:
                listed = await view.formulas.get_by_tag(self.tag)
                assert list(listed) == [then[each] for each in sorted(then)]
            for identity in self.versions.keys() - gone:
                found = await storage.formulas.get_by_id(identity, as_of=commit)
                assert found == then.get(identity)
            for identity in gone:
                with pytest.raises(InvalidData, match="was purged"):
                    await storage.formulas.get_by_id(identity, as_of=commit)
        for identity in self.versions:
            await self._check_history(storage, identity)

    async def _check_history(self, storage: Storage, identity: str) -> None:
        history = await storage.formulas.history(identity)
        states = self.versions[identity]
        kept = [n for n in self._numbers(identity) if not self._is_purged(identity, n)]
        assert [(each.commit, each.entity) for each in history] == [states[n] for n in kept]
        for n, (_, state) in enumerate(states):
            if state is None:
                continue
            if n in kept:
                found = await storage.formulas.get_by_id(identity, version=state.version)
                assert found == state
            else:
                with pytest.raises(NotFound, match="is not kept"):
                    await storage.formulas.get_by_id(identity, version=state.version)

    def _numbers(self, identity: str) -> range:
        return range(len(self.versions[identity]))

    def _is_purged(self, identity: str, number: int) -> bool:
        states = self.versions[identity]
        is_over = number + 1 < len(states) and states[number + 1][0] <= self.purged
        return is_over and states[number][1] is not None

    def _is_purged_then(self, identity: str, then: Commit) -> bool:
        counted = [n for n, (commit, _) in enumerate(self.versions[identity]) if commit <= then]
        return bool(counted) and self._is_purged(identity, counted[-1])
