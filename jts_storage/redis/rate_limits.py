"""Rate limits in Redis, which processes of many machines share."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from math import inf
from time import monotonic, time_ns
from typing import Any, Final

from jts_storage.domain.rate_books import (
    Exhausted,
    Granted,
    Refused,
    SlotRequest,
    days_of,
    windows_of,
)
from jts_storage.domain.rate_limits import (
    SECOND,
    Day,
    Limit,
    LimitKey,
    LimitState,
    PerDay,
    RateLimitState,
    moment_of,
)
from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.ports.rate_limits import DayMirror
from jts_storage.redis.health import report_of
from jts_storage.redis.manager import RedisManager
from jts_storage.redis.scripts import Script
from jts_storage.settings.redis import RedisConfig

MIRROR_EVERY: Final = 50
"""How much of a day is used between two notes of it elsewhere: as much may be lost, and is taken
to be used where Redis has lost it."""

SETTLING_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 1.0
"""Nobody waits for a slot in a hurry, and an answer that was missed leaves one taken."""

_CHECK_SECONDS: Final = 60.0
"""How often Redis is asked whether it evicts: that can be set while it runs."""

_MIRROR_SECONDS: Final = 2.0
"""How long the mirror may take: who waits for it holds a slot, whose lease must not end then."""

_MIRROR_PAUSE: Final = 10.0
"""Before one that failed is asked again to note something."""

_DAY_SECONDS: Final = 86_400

log = logging.getLogger(__name__)


def manager_for(config: RedisConfig) -> RedisManager:
    """A manager that waits longer for answers than a cache may."""
    return RedisManager(config, timeout=max(TIMEOUT_SECONDS, config.timeout))


class RedisRateLimits:
    """A `RateLimitStore` in Redis, by its clock: each call is one script.

    Redis must not evict what is counted. Where it began anew, lost its last second, or another
    server took its place, one window passes before the first slot is given: those given before
    may count still. What was used of a day is asked of the mirror then.

    :param allow_eviction: use it although it evicts, so that slots may be counted too low.
    :param mirror: where what was used of a day is kept, too.
    :param settling: seconds beyond the window for requests that are under way when Redis is lost.
    :param clock: microseconds since 1970, for tests; Redis's own if None.
    """

    def __init__(
        self,
        manager: RedisManager,
        *,
        allow_eviction: bool = False,
        mirror: DayMirror | None = None,
        settling: float = SETTLING_SECONDS,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._manager = manager
        self._mirror = mirror
        self._settling = round(settling * SECOND)
        self._clock = clock
        self._next_check = inf if allow_eviction else 0.0
        self._ahead = 0
        self._next_note = 0.0
        self._noted: dict[LimitKey, dict[str, tuple[int, int]]] = {}

    async def take(
        self, slot: SlotRequest, *, patience: float | None = None
    ) -> Granted | Refused | Exhausted:
        key, limits = slot.key, slot.limits
        days = days_of(limits)
        answer = await self._called("take", key, limits, slot.name, slot.cost, slot.lease)
        kind = answer[0]
        if kind == "refused":
            return Refused(answer[2])
        if kind == "exhausted":
            return Exhausted(answer[3], days[answer[2] - 1])
        left = [each.limit - used for each, used in zip(_ordered(limits), answer[2], strict=True)]
        await self._note(key, days, answer)
        return Granted(max(0, min(left)), min(answer[3], default=None))

    async def leave(self, slot: SlotRequest) -> None:
        await self._called("leave", slot.key, slot.limits, slot.name, slot.cost, slot.lease)

    async def forget(self, slot: SlotRequest) -> None:
        await self._called("forget", slot.key, slot.limits, slot.name)

    async def state(self, key: LimitKey, limits: Sequence[Limit]) -> RateLimitState:
        answer = await self._called("state", key, limits)
        states = {
            each: LimitState(each, used)
            for each, used in zip(_ordered(limits), answer[2], strict=True)
        }
        for each, end in zip(days_of(limits), answer[3], strict=True):
            states[each] = LimitState(each, states[each].used, moment_of(end))
        in_order = tuple(states[each] for each in limits)
        return RateLimitState(key.name, key.account, in_order, answer[4])

    async def accounts(self, name: str) -> Sequence[str]:
        async def ask(client: Any) -> Any:
            return await client.smembers(self._keys(LimitKey(name))[2])

        return sorted(each.decode() for each in await self._run("accounts", ask))

    async def reset(self) -> None:
        async def clear(client: Any) -> None:
            async for each in client.scan_iter(match=f"{self._prefix}:*", count=1_000):
                await client.delete(each)
            call = json.dumps({"op": "reset", "now": self._now})
            await _script()(client, self._keys(LimitKey("reset")), call)

        self._noted.clear()
        await self._run("resetting rate limits", clear)

    async def close(self) -> None:
        await self._manager.close()

    # ---- one call

    async def _called(
        self,
        op: str,
        key: LimitKey,
        limits: Sequence[Limit],
        slot: str = "",
        cost: int = 1,
        lease: int = 1,
    ) -> list[Any]:
        await self._check_evicts_nothing()
        call = _Call(op, key, tuple(limits), slot, cost, lease, self._settling)
        mirrored: dict[str, tuple[int, int]] | None = None
        if self._mirror is None:
            mirrored = {}
        while True:
            answer = await self._asked(call, mirrored)
            self._ahead = answer[1] - time_ns() // 1_000
            if answer[0] == "mirror":
                mirrored = await self._mirrored(key)
            elif answer[0] != "clock":
                return answer

    async def _asked(self, call: _Call, mirrored: dict[str, tuple[int, int]] | None) -> list[Any]:
        text = call.text(time_ns() // 1_000 + self._ahead, self._now, mirrored)
        keys = self._keys(call.key)

        async def ask(client: Any) -> Any:
            return await _script()(client, keys, text)

        found = await self._run(f"rate limits of {call.key}", ask)
        return [found[0].decode(), *found[1:]]

    async def _run(self, doing: str, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        return await self._manager.run(doing, ask)

    @property
    def _now(self) -> int | None:
        return None if self._clock is None else self._clock()

    @cached_property
    def _prefix(self) -> str:
        # One hash tag: a cluster keeps all of them in one place, where a script can reach them.
        return f"{{{self._manager.config.namespace}:limits}}:1"

    def _keys(self, key: LimitKey) -> list[str]:
        start = self._prefix
        book = f"{start}:book:{key.name}:{key.account}"
        return [book, f"{start}:epoch", f"{start}:accounts:{key.name}"]

    async def _check_evicts_nothing(self) -> None:
        """
        :raises InvalidConfiguration: what is counted may be evicted.
        """
        if monotonic() < self._next_check:
            return
        info = await self._run("INFO", lambda client: client.info("memory"))
        report = report_of(info)
        if report.evicts and report.most:
            raise InvalidConfiguration(
                f"the Redis at {', '.join(self._manager.hosts)} evicts keys ({report.policy}), and"
                " with them what counts of rate limits",
                remedy="Give rate limits a Redis of their own with JTS_RATE_LIMITS_URL, with"
                " maxmemory-policy noeviction; a cache needs the other kind.",
            )
        self._next_check = monotonic() + _CHECK_SECONDS

    # ---- the mirror

    async def _mirrored(self, key: LimitKey) -> dict[str, tuple[int, int]]:
        """What was used at most of each day when it was noted last, and since."""
        assert self._mirror is not None
        try:
            async with asyncio.timeout(_MIRROR_SECONDS):
                known = await self._mirror.read(key)
        except TimeoutError as exc:
            raise ConnectionFailed(
                f"How much of the day {key} has used is not known: the bookkeeping did not say so"
                f" within {_MIRROR_SECONDS:g} s",
                hosts=(),
                remedy="See whether the bookkeeping answers. Redis has lost what it counted, or"
                " counts for the first time, and gives nothing away before.",
            ) from exc
        return {zone: (start, used + MIRROR_EVERY) for zone, (start, used) in known.items()}

    async def _note(self, key: LimitKey, days: Sequence[PerDay], answer: list[Any]) -> None:
        if self._mirror is None or not days:
            return
        used = {
            each.timezone: (each.day(answer[1]).start, count)
            for each, count in zip(days, answer[2], strict=False)
        }
        noted = self._noted.get(key, {})
        if all(_is_noted(noted.get(zone), each) for zone, each in used.items()):
            return
        if monotonic() < self._next_note:
            return
        self._noted[key] = used
        try:
            async with asyncio.timeout(_MIRROR_SECONDS):
                await self._mirror.write(key, used)
        except (StorageError, TimeoutError) as exc:
            self._noted.pop(key, None)
            self._next_note = monotonic() + _MIRROR_PAUSE
            why = exc if isinstance(exc, StorageError) else "it took too long"
            log.warning("What was used of the day by %s could not be noted: %s", key, why)


def _is_noted(noted: tuple[int, int] | None, used: tuple[int, int]) -> bool:
    """Whether the fifty in which it lies were noted, by this process or another."""
    if noted is None or noted[0] != used[0]:
        return False
    return noted[1] // MIRROR_EVERY >= used[1] // MIRROR_EVERY


@dataclass(frozen=True, slots=True)
class _Call:
    op: str
    key: LimitKey
    limits: tuple[Limit, ...]
    slot: str
    cost: int
    lease: int
    settling: int

    def text(self, about: int, now: int | None, mirrored: dict[str, tuple[int, int]] | None) -> str:
        """The call as the script reads it.

        :param about: what time it is, so that the days can be named between which it decides.
        """
        days = days_of(self.limits)
        windows = windows_of(self.limits)
        call: dict[str, Any] = {
            "op": self.op,
            "account": self.key.account,
            "slot": self.slot,
            "cost": self.cost,
            "lease": self.lease,
            "settling": self.settling,
            "windows": [[w.limit, w.span, int(w.counts == "entering")] for w in windows],
            "days": [
                [d.limit, d.timezone, _starts(d, d.day(about if now is None else now))]
                for d in days
            ],
            "keep": self._keep_ms(),
        }
        if now is not None:
            call["now"] = now
        if mirrored is not None:
            call["mirrored"] = mirrored
        return json.dumps(call, separators=(",", ":"))

    def _keep_ms(self) -> int:
        """For how long what is kept may count: of a day, until it is over."""
        spans = [each.span // 1_000 for each in windows_of(self.limits)]
        days = [2 * _DAY_SECONDS * 1_000] if days_of(self.limits) else []
        return max([0, *spans, *days]) + self.lease // 1_000 + 60_000


@lru_cache(maxsize=64)
def _starts(limit: PerDay, day: Day) -> list[int]:
    """The starts of the day before, of this one, and of the next two."""
    return [limit.day_at(day.start - 1).start, day.start, day.end, limit.day_at(day.end).end]


def _ordered(limits: Sequence[Limit]) -> list[Limit]:
    """In the order of the script: days first."""
    return [*days_of(limits), *windows_of(limits)]


@cache
def _script() -> Script:
    return Script(files(__package__).joinpath("rate_limits.lua").read_text(encoding="utf-8"))
