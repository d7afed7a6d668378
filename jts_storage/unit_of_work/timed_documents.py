"""Formulas and strategies as they are, and as they were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from jts_storage._runtime.reads_only import ReadsOnly
from jts_storage.domain.enums import FormulaCategory
from jts_storage.domain.formula import Formula
from jts_storage.domain.moments import AsOf
from jts_storage.domain.results import Page
from jts_storage.domain.revision import DocumentPurge, Revision
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import InvalidData
from jts_storage.ports.formulas import FormulaReader
from jts_storage.ports.history import View
from jts_storage.ports.strategies import StrategyReader

Purge: TypeAlias = Callable[[DocumentPurge], Awaitable[int]]


class KeptFormulas(FormulaReader, Protocol):
    """Reads what is committed now, and its revisions; as `FormulaStore` says."""

    async def of_version(self, formula_id: str, version: int) -> Formula | None: ...

    async def history(
        self, formula_id: str, *, limit: int = 1_000, after: Revision[Formula] | None = None
    ) -> Page[Revision[Formula]]: ...


class KeptStrategies(StrategyReader, Protocol):
    """Reads what is committed now, and its revisions; as `StrategyStore` says."""

    async def of_version(self, strategy_id: str, version: int) -> Strategy | None: ...

    async def history(
        self, strategy_id: str, *, limit: int = 1_000, after: Revision[Strategy] | None = None
    ) -> Page[Revision[Strategy]]: ...


class TimedFormulas(ReadsOnly):
    """A `FormulaStore` over readers of one moment each.

    :param view: gives all as of another moment.
    """

    place = "formulas"

    def __init__(
        self, now: KeptFormulas, view: Callable[[AsOf], Awaitable[View]], purge: Purge
    ) -> None:
        self._now, self._view, self._purge = now, view, purge

    async def get_by_id(
        self, formula_id: str, *, version: int | None = None, as_of: AsOf | None = None
    ) -> Formula | None:
        _check_one(version, as_of)
        if version is not None:
            return await self._now.of_version(formula_id, version)
        if as_of is not None:
            return await (await self._view(as_of)).formulas.get_by_id(formula_id)
        return await self._now.get_by_id(formula_id)

    async def history(
        self, formula_id: str, *, limit: int = 1_000, after: Revision[Formula] | None = None
    ) -> Page[Revision[Formula]]:
        return await self._now.history(formula_id, limit=limit, after=after)

    async def purge_history(
        self,
        formula_id: str | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        asked = DocumentPurge("formulas", formula_id, before, despite_snapshots)
        return await self._purge(asked)

    async def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        return await self._now.get_by_category(category, limit=limit, after=after)

    async def get_by_tag(
        self, tag: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        return await self._now.get_by_tag(tag, limit=limit, after=after)

    async def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        return await self._now.get_by_tags(tags, limit=limit, after=after)

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        return await self._now.search(query, limit=limit)

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Formula]:
        return await self._now.list(limit=limit, after=after, strict=strict)


class TimedStrategies(ReadsOnly):
    """A `StrategyStore` over readers of one moment each.

    :param view: gives all as of another moment.
    """

    place = "strategies"

    def __init__(
        self, now: KeptStrategies, view: Callable[[AsOf], Awaitable[View]], purge: Purge
    ) -> None:
        self._now, self._view, self._purge = now, view, purge

    async def get_by_id(
        self, strategy_id: str, *, version: int | None = None, as_of: AsOf | None = None
    ) -> Strategy | None:
        _check_one(version, as_of)
        if version is not None:
            return await self._now.of_version(strategy_id, version)
        if as_of is not None:
            return await (await self._view(as_of)).strategies.get_by_id(strategy_id)
        return await self._now.get_by_id(strategy_id)

    async def history(
        self, strategy_id: str, *, limit: int = 1_000, after: Revision[Strategy] | None = None
    ) -> Page[Revision[Strategy]]:
        return await self._now.history(strategy_id, limit=limit, after=after)

    async def purge_history(
        self,
        strategy_id: str | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        asked = DocumentPurge("strategies", strategy_id, before, despite_snapshots)
        return await self._purge(asked)

    async def get_by_formula(
        self, formula_id: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Strategy]:
        return await self._now.get_by_formula(formula_id, limit=limit, after=after)

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Strategy]:
        return await self._now.list(limit=limit, after=after, strict=strict)


def _check_one(version: int | None, as_of: AsOf | None) -> None:
    if version is not None and as_of is not None:
        raise InvalidData(
            "is given beside as_of", field="version", value=version, remedy="Give one of them."
        )
