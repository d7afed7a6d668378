"""Who is told of writes to ClickHouse before they begin and after they have ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Protocol


class Announcer(Protocol):
    """Told of every commit, recovery and import that writes candles or symbols."""

    def writing(
        self, series: Collection[str] | None, *, symbols: bool, is_decided: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Candles or symbols are written within the block.

        :param series: the names of the series of candles; None if they are too many to name.
        :param is_decided: whether it must be written in any case.
        :raises StorageError: they must not be written now; nothing has been.
        """
        ...


class Notes(Protocol):
    """What somebody is still to be told of, beyond the life of a process."""

    async def identity(self) -> str:
        """A text that every process that has these stores finds, and no other."""
        ...

    async def add(self, names: Sequence[str], everything: Sequence[str]) -> None:
        """
        :param everything: names that stand for all; they take the place of too many notes.
        """
        ...

    async def all(self) -> dict[Any, list[str]]:
        """The names of each note, by its id."""
        ...

    async def remove(self, notes: Collection[Any]) -> None: ...


class Nobody:
    """Is told of nothing."""

    def writing(
        self, series: Collection[str] | None, *, symbols: bool, is_decided: bool = False
    ) -> AbstractAsyncContextManager[None]:
        return nullcontext()


NOBODY: Final = Nobody()
