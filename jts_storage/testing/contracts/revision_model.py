"""A model of the history of formulas: a dict that keeps every version."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from hypothesis import strategies as st

from jts_storage.domain.formula import Formula
from jts_storage.domain.moments import Commit
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


@dataclass
class FormulaModel:
    """Every version of every formula, in a dict."""

    tag: str
    now: dict[str, Formula] = field(default_factory=dict)
    versions: dict[str, list[tuple[Commit, Formula | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    moments: list[tuple[Commit, dict[str, Formula]]] = field(default_factory=list)

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

    async def check(self, storage: Storage) -> None:
        for commit, then in self.moments:
            view = await storage.as_of(commit)
            listed = await view.formulas.get_by_tag(self.tag)
            assert list(listed) == [then[each] for each in sorted(then)]
            for identity in self.versions:
                found = await storage.formulas.get_by_id(identity, as_of=commit)
                assert found == then.get(identity)
        for identity, states in self.versions.items():
            history = await storage.formulas.history(identity)
            assert [(each.commit, each.entity) for each in history] == states
            for _, state in states:
                if state is not None:
                    version = state.version
                    found = await storage.formulas.get_by_id(identity, version=version)
                    assert found == state
