"""Repositories of declared models for blocking code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar, cast

from jts_storage.sync.portal import Portal

R = TypeVar("R")
T = TypeVar("T")


class Blocking(Generic[R]):
    """A repository of a declared model, whose calls are waited for.

    ``orders.call(lambda orders: orders.get(order_id))``
    """

    def __init__(self, portal: Portal, repository: R) -> None:
        self._portal = portal
        self._repository = repository

    def call(self, work: Callable[[R], Awaitable[T]]) -> T:
        """What a method of the repository returns."""
        return self._portal.call(cast("Coroutine[Any, Any, T]", work(self._repository)))

    def iterate(self, work: Callable[[R], AsyncIterator[T]]) -> Iterator[T]:
        """What a method of the repository gives piece by piece."""
        return self._portal.iterate(work(self._repository))
