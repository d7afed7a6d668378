"""Whether a cached value is what the database would give, kept in Redis by a few small scripts.

What values depend on are scopes: a series, all candles, the symbols. Each has a generation, a
random text that readers make and writers take away, and marks of the writers at work. A value
belongs to the generations that its reader saw before it asked the database; `LOOK` gives it only
while these are there, and `FILL` stores it only then. A writer takes the generations away and
leaves its mark before it writes, and takes them away again when the stores have it: what was read
meanwhile is not kept, and what was kept before is never given again.

A generation is random and not counted: a counter that was evicted would begin anew and bring dead
values back. A writer that dies leaves its mark, for as long as its lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from os import urandom
from typing import Any, Final, NamedTuple

from jts_storage.redis.breaker import Breaker
from jts_storage.redis.manager import RedisManager
from jts_storage.redis.scripts import Script

GENERATION_BYTES: Final = 16
FORMAT: Final = b"\x02"
"""The first byte of every value; the generations that it belongs to come next."""

_LATER = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local n = tonumber(ARGV[1])
"""
_WRITTEN = """
local function written(key)
  if redis.call('EXISTS', key) == 0 then return false end
  if type(redis.pcall('ZREMRANGEBYSCORE', key, '-inf', now)) ~= 'number' then
    redis.call('DEL', key)
  end
  return redis.call('EXISTS', key) == 1
end
local function text(key)
  local found = redis.pcall('GET', key)
  if type(found) == 'string' then return found end
  if found then redis.call('DEL', key) end
  return false
end
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
"""
"""What is of another type was left by somebody else, and is nothing. The generations are of one run
of one server: it may have begun anew with what it held a while ago, or be a replica that lacks the
last moment, and then no value of before counts."""

_MARKED = """
local function marks(key)
  if type(redis.pcall('ZCARD', key)) ~= 'number' then redis.call('DEL', key) end
end
"""

LOOK: Final = Script(
    _LATER
    + _WRITTEN
    + """
for i = 1, n do
  if written(KEYS[n + i]) then return {} end
end
local token = string.sub(run, 1, 16)
for i = 1, n do
  local g = text(KEYS[i])
  if not g then
    g = ARGV[3 + i]
    redis.call('SET', KEYS[i], g, 'EX', 86400)
  end
  token = token .. g
end
if token == ARGV[2] then return {token} end
local value = text(KEYS[2 * n + 1])
if value and string.sub(value, 2, 1 + #token) == token then
  return {token, value, redis.call('PTTL', KEYS[2 * n + 1]), now}
end
local first = redis.call('SET', KEYS[2 * n + 2], '1', 'NX', 'PX', ARGV[3])
return {token, false, first and 1 or 0, now}
"""
)
"""The generations, and the value unless the caller has it; nothing while somebody writes.

Keys: generations, marks, the value and who reads it now. Arguments: how many scopes, the
generations that the caller has a value of, for how long it alone reads the value anew,
and a random text for each generation that is not there.
"""

FILL: Final = Script(
    _LATER
    + _WRITTEN
    + """
redis.call('DEL', KEYS[2 * n + 2])
local token = string.sub(run, 1, 16)
for i = 1, n do
  if written(KEYS[n + i]) then return 0 end
  token = token .. (text(KEYS[i]) or '')
end
if token ~= ARGV[2] then return 0 end
local most, left = tonumber(ARGV[3]), tonumber(ARGV[5]) - now
if left <= 0 or left > tonumber(ARGV[6]) then return 0 end
redis.call('SET', KEYS[2 * n + 1], ARGV[4], 'PX', math.min(most, left))
return 1
"""
)
"""Store a value, if its generations are there and nobody writes, until its deadline.

Arguments: how many scopes, the generations, for how long at most, the value, the deadline by the
clock of Redis, and how long that was after the look. The call may have lain in a Redis that was
stopped, so that a time from its arrival would be no bound; where the clock was set back meanwhile,
the deadline is none.
"""

BEGIN: Final = Script(
    _LATER
    + _MARKED
    + """
for i = 1, n do redis.call('DEL', KEYS[i]) end
local lease = tonumber(ARGV[3])
for i = 1, n do
  marks(KEYS[n + i])
  redis.call('ZADD', KEYS[n + i], now + lease, ARGV[2])
  if redis.call('PTTL', KEYS[n + i]) < lease then redis.call('PEXPIRE', KEYS[n + i], lease) end
end
return 1
"""
)
"""Take the generations away, which works in a full Redis, too, and leave a mark for a lease."""

END: Final = Script(
    _LATER
    + _MARKED
    + """
local landing = tonumber(ARGV[3])
for i = 1, n do
  redis.call('DEL', KEYS[i])
  marks(KEYS[n + i])
  if landing > 0 then
    redis.call('ZADD', KEYS[n + i], 'XX', now + landing, ARGV[2])
  else
    redis.call('ZREM', KEYS[n + i], ARGV[2])
  end
end
return 1
"""
)
"""Take the generations away again, and the mark; or let it stay until what was sent has landed."""

FIRST_READER_MS: Final = 2_000
"""For how long other processes leave it to the first one to read a value anew."""

_SCOPES_AT_ONCE: Final = 25


class Look(NamedTuple):
    """What a look tells.

    :param token: the generations; None while somebody writes.
    :param value: as it is stored, if it is of these generations and the caller has no other.
    :param lasts: seconds for which the value is there still.
    :param is_first: whether the caller is to read the value anew; another process is at it if not.
    :param at: milliseconds of the clock of Redis when it looked.
    """

    token: bytes | None
    value: bytes | None = None
    lasts: float = 0.0
    is_first: bool = True
    at: int = 0


def scope_keys(prefix: str, scopes: Sequence[str]) -> list[str]:
    """The keys of generations, and then those of marks."""
    return [*(f"{prefix}:g:{each}" for each in scopes), *(f"{prefix}:w:{each}" for each in scopes)]


def value_keys(prefix: str, scopes: Sequence[str], name: str) -> list[str]:
    value = f"{prefix}:v:{scopes[0]}:{name}"
    return [*scope_keys(prefix, scopes), value, f"{value}:r"]


def look_arguments(scopes: Sequence[str], known: bytes, reads_ms: int) -> list[Any]:
    fresh = (urandom(GENERATION_BYTES) for _ in scopes)
    return [len(scopes), known, reads_ms, *fresh]


def looked(answer: Sequence[Any]) -> Look:
    """What the answer of `LOOK` means."""
    if not answer:
        return Look(None)
    if len(answer) == 1:
        return Look(answer[0])
    if answer[1] is None:
        return Look(answer[0], is_first=bool(answer[2]), at=answer[3])
    return Look(answer[0], answer[1], answer[2] / 1000, at=answer[3])


class Lasting(NamedTuple):
    """For how many seconds a value may be kept.

    :param left: from now on, by the clock of this process.
    :param whole: from the look on, by the clock of Redis.
    """

    left: float
    whole: float


def fill_arguments(scopes: Sequence[str], look: Look, value: bytes, lasts: Lasting) -> list[Any]:
    left, whole = (max(1, int(seconds * 1000)) for seconds in lasts)
    return [len(scopes), look.token, left, value, look.at + whole, whole]


class RedisCoherence:
    """Asks Redis; what it cannot do, it raises.

    :param identity: what tells these stores from others that use the same Redis.
    """

    def __init__(
        self, manager: RedisManager, breaker: Breaker, identity: Callable[[], Awaitable[str]]
    ) -> None:
        self._manager, self._breaker = manager, breaker
        self._identity, self._prefix = identity, ""

    async def look(self, scopes: Sequence[str], name: str, known: bytes) -> Look:
        keys = value_keys(await self._named(), scopes, name)
        arguments = look_arguments(scopes, known, FIRST_READER_MS)
        return looked(await self._run("a look at the cache", LOOK, keys, arguments))

    async def fill(
        self, scopes: Sequence[str], name: str, look: Look, value: bytes, lasts: Lasting
    ) -> bool:
        """Store a value, unless its generations are gone or its time is over."""
        keys = value_keys(await self._named(), scopes, name)
        arguments = fill_arguments(scopes, look, value, lasts)
        return bool(await self._run("filling the cache", FILL, keys, arguments))

    async def begin(self, scopes: Sequence[str], writer: str, lease: float) -> None:
        await self._each(BEGIN, scopes, writer, lease)

    async def end(self, scopes: Sequence[str], writer: str, landing: float = 0.0) -> None:
        await self._each(END, scopes, writer, landing)

    async def _each(
        self, script: Script, scopes: Sequence[str], writer: str, seconds: float
    ) -> None:
        prefix = await self._named()
        for first in range(0, len(scopes), _SCOPES_AT_ONCE):
            some = scopes[first : first + _SCOPES_AT_ONCE]
            arguments = [len(some), writer, int(seconds * 1000)]
            await self._run("telling of a write", script, scope_keys(prefix, some), arguments)

    async def _named(self) -> str:
        """What every key begins with; a cluster keeps what stands in braces in one place."""
        if not self._prefix:
            namespace = self._manager.config.namespace
            self._prefix = f"{namespace}:1:{{{await self._identity()}}}"
        return self._prefix

    async def _run(
        self, doing: str, script: Script, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        return await self._manager.run(
            doing, lambda client: script(client, keys, *arguments), breaker=self._breaker
        )
