"""What is used within an ``async with`` block."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class EnteredOnce(Protocol):
    """A context manager that is entered once."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
