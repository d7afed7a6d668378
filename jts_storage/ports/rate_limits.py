"""The contract of rate limits, and of the stores that count for them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from jts_storage.domain.rate_books import Exhausted, Granted, Refused, SlotRequest
from jts_storage.domain.rate_limits import Limit, LimitKey, RateLimits, RateLimitState, Slot


class AcquiredSlot(Protocol):
    """A slot of a rate limit, for as long as its block runs.

    Use it once, as an asynchronous context manager. It may be entered by many tasks, each with one
    of its own: they are served in the order in which they came. Leaving never fails: where it
    cannot be told to the store, the slot counts until its lease ends.
    """

    async def __aenter__(self) -> Slot:
        """Wait for a slot and take it; a cancellation meanwhile takes none.

        :raises QuotaExhausted: at once; a day's quota does not allow it any more.
        :raises RateLimited: no slot became free in time.
        :raises ConnectionFailed: the store did not answer in time. A slot is never given away
            without it.
        """
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class RateLimiter(Protocol):
    """Slots of rate limits that several processes share.

    A slot counts from entering until a window after leaving, so that the far end never sees more
    than the limit, however long requests travel. Of a day's quota it counts from entering.
    """

    @property
    def limits(self) -> RateLimits:
        """The limits that are set."""
        ...

    def acquire(
        self,
        name: str,
        account: str = "",
        *,
        cost: int = 1,
        timeout: float | None = 10.0,
        longest: float = 30.0,
    ) -> AcquiredSlot:
        """A slot of all limits of a name: ``async with limits.acquire("kis", account) as slot``.

        :param account: each has the limits for itself.
        :param cost: how much it counts.
        :param timeout: seconds to wait at most; None waits as long as it takes.
        :param longest: seconds; what is not left by then, as when its process has died, counts as
            left. Give more than any request can take.
        :raises InvalidData: nothing is set for the name, a limit never allows the cost, or a value
            is out of range.
        """
        ...

    async def state(self, name: str, account: str = "") -> RateLimitState:
        """What counts of the limits of an account now.

        :raises InvalidData: nothing is set for the name.
        """
        ...

    async def accounts(self, name: str) -> Sequence[str]:
        """Those of which something was counted, sorted.

        :raises InvalidData: nothing is set for the name.
        """
        ...

    async def reset(self) -> None:
        """Forget all that was counted, of all names and by all processes: for tests."""
        ...


class RateLimitStore(Protocol):
    """Counts slots. What one call does is one step: no other call sees or does half of it.

    All who use a store give the same limits for a name. Moments are the store's own.

    :raises ConnectionFailed: from every method: whether it took effect is unknown.
    """

    async def take(
        self, slot: SlotRequest, *, patience: float | None = None
    ) -> Granted | Refused | Exhausted:
        """Take a slot of all limits, or of none and say when one may be free.

        :param patience: seconds that a store need not exceed by much which has to be waited for.
        """
        ...

    async def leave(self, slot: SlotRequest) -> None:
        """Count a slot as left from now on, one whose lease is over, or which was lost, too."""
        ...

    async def forget(self, slot: SlotRequest) -> None:
        """Undo `take`, as if it had never been: nobody has used the slot."""
        ...

    async def state(self, key: LimitKey, limits: Sequence[Limit]) -> RateLimitState:
        """What counts now; it changes nothing."""
        ...

    async def accounts(self, name: str) -> Sequence[str]:
        """Those of which something is kept, sorted."""
        ...

    async def reset(self) -> None:
        """Forget everything."""
        ...

    async def close(self) -> None:
        """Let go of files and connections; a later call opens them again."""
        ...


class DayMirror(Protocol):
    """Keeps elsewhere how much of a day was used, for a store that may lose it."""

    async def read(self, key: LimitKey) -> dict[str, tuple[int, int]]:
        """For each zone the start of a day in microseconds, and what was used of it."""
        ...

    async def write(self, key: LimitKey, days: dict[str, tuple[int, int]]) -> None:
        """Keep it; of one day, the larger number."""
        ...
