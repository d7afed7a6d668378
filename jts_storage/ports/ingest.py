"""The contract of a writer of candles as they come in."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.ports.entered import EnteredOnce


class LiveIngest(EnteredOnce, Protocol):
    """Takes single candles as a collector gets them, and commits many at once.

    Use it once, as an asynchronous context manager. Candles are committed in units of work of its
    own, in the order in which they were added, so that of two of one timestamp the later counts.
    A candle is safe once `flush` has returned after it was added, or the block was left without
    an error; of what was added since, a crash may lose some. Leaving the block stores what was
    added, also when it is left by an exception or a cancellation, which then goes on.

    When a commit fails, after the repetitions that `Storage.run` makes, its candles are kept and
    tried again; the failure is raised once, by the next `add` or by a `flush` that waits. Only
    when leaving the block cannot store them are they lost, and that is raised.
    """

    async def add(self, key: SeriesKey, candle: Candle) -> None:
        """Take a candle; wait first while as many as the limit are not stored yet.

        :raises InvalidData: it is no candle, or the key no key.
        :raises StorageError: a commit has failed. This candle was not taken: add it again.
        """
        ...

    async def flush(self) -> None:
        """Store what was added before, and return when it is stored.

        :raises StorageError: it could not be stored; it is kept and tried again.
        """
        ...

    @property
    def oldest(self) -> timedelta | None:
        """How long ago the oldest candle was added that is not stored; None if all are."""
        ...

    @property
    def pending(self) -> int:
        """How many candles were added and are not stored."""
        ...

    @property
    def stored(self) -> int:
        """How many candles that were added are stored."""
        ...

    @property
    def commits(self) -> int:
        """How many commits have stored them."""
        ...
