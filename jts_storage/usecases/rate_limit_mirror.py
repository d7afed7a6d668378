"""What was used of a day, kept in the bookkeeping, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from jts_storage.domain.rate_limits import LimitKey
from jts_storage.ports.ingestion import IngestionReader
from jts_storage.ports.unit_of_work import UnitOfWork

_PREFIX = "jts-rate-limits"
_SOURCE = "rate limits"


class _Storage(Protocol):
    @property
    def ingestion(self) -> IngestionReader: ...

    async def run(
        self, work: Callable[[UnitOfWork], Awaitable[Any]], *, attempts: int = 10, source: str = ""
    ) -> Any: ...


class CheckpointMirror:
    """A `DayMirror` in the checkpoints of a storage, wherever its stores are."""

    def __init__(self, storage: _Storage) -> None:
        self._storage = storage

    async def read(self, key: LimitKey) -> dict[str, tuple[int, int]]:
        kept = await self._storage.ingestion.checkpoints.get(_name(key))
        return {} if kept is None else _days(kept.data)

    async def write(self, key: LimitKey, days: dict[str, tuple[int, int]]) -> None:
        def later(kept: Mapping[str, Any] | None) -> Mapping[str, Any]:
            known = _days(kept or {})
            both = {zone: max(day, known.get(zone, day)) for zone, day in days.items()}
            return {zone: list(day) for zone, day in {**known, **both}.items()}

        async def work(uow: UnitOfWork) -> None:
            await uow.ingestion.checkpoints.update(_name(key), later)

        await self._storage.run(work, source=_SOURCE)


def _name(key: LimitKey) -> str:
    return f"{_PREFIX}/{key.name}/{key.account}"


def _days(kept: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    return {zone: (int(day[0]), int(day[1])) for zone, day in kept.items()}
