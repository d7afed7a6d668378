"""What a process does once, before it writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class BeforeWriting:
    """An action that is done once, however many commits wait for it.

    :ivar action: None if nothing is to be done. It may name another one, to be done next.
    """

    def __init__(self) -> None:
        self.action: Callable[[], Awaitable[None]] | None = None

    async def begin(self) -> None:
        """Do it, but not yet the next one."""
        if (action := self.action) is not None:
            await action()
            if self.action is action:
                self.action = None

    async def all(self) -> None:
        while self.action is not None:
            await self.begin()
