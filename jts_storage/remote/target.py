"""One port of a gateway, as its client calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol


class Calls(Protocol):
    """Carries calls to a gateway: each for itself, or within a unit of work."""

    async def one(self, method: str, arguments: Mapping[str, Any]) -> Any: ...

    def many(self, method: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]: ...


class Target:
    """The methods of one service.

    :param bound: arguments that each call has.
    """

    def __init__(self, calls: Calls, service: str, **bound: Any) -> None:
        self._calls, self._service, self._bound = calls, service, bound

    async def one(self, method: str, arguments: Mapping[str, Any]) -> Any:
        return await self._calls.one(f"{self._service}/{method}", {**self._bound, **arguments})

    def many(self, method: str, arguments: Mapping[str, Any]) -> AsyncIterator[Any]:
        return self._calls.many(f"{self._service}/{method}", {**self._bound, **arguments})
