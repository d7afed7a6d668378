"""What may be told of the calls to a storage, and by whom it is heard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

IMPORTS: Final = ("imports", "run")
"""A call that is made of other calls, and takes as long as there is work."""


class Call(NamedTuple):
    """One kind of call. There are few: no symbol, identity or text of a query is in it.

    :param store: who answers it: ``clickhouse``, ``mongo``, ``database``, ``memory``, ``gateway``,
        or ``storage``, where several do.
    :param repository: ``candles``, ``formulas``, ``unit_of_work``, or the name of a declared model.
    :param operation: the method, such as ``get_range``.
    :param is_stream: whether it gives its result in parts, perhaps in other tasks than it began.
    """

    store: str
    repository: str
    operation: str
    is_stream: bool = False


class Operation(Protocol):
    """One call while it runs. Each of its methods is quick, and raises nothing."""

    def reached(self, step: str) -> None:
        """Hear of a step within the call; also from other threads, and after its end.

        What has ended within it, such as a recovery, is a step that knows how it ended.
        """
        ...

    def given(self, part: Any) -> None:
        """Hear of a part of what a stream gives."""
        ...

    def done(self, result: Any) -> None:
        """Hear that it returned `result`; None where it has given its parts."""
        ...

    def failed(self, error: BaseException) -> None:
        """Hear that it raised `error`; a cancellation is one, too."""
        ...


class Observer(Protocol):
    """Hears of every call of a storage that was opened with it: ``Storage.open(observer=...)``.

    It is called by the event loop of the storage, before and after each call.
    """

    def begin(self, call: Call) -> Operation:
        """Hear that a call begins."""
        ...


class Observation(Protocol):
    """Tells an observer of work that is more than one call of a repository."""

    async def told(self, repository: str, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work` as a call of that name."""
        ...
