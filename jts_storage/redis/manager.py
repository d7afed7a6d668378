"""Access to a Redis: one client per event loop, opened when it is first needed, always bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from jts_storage._runtime.forks import tell_children
from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.redis.health import MemoryReport, report_of
from jts_storage.settings.redis import RedisConfig

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from jts_storage.redis.breaker import Breaker

T = TypeVar("T")
Client: TypeAlias = "Redis"


@dataclass(slots=True)
class _LoopClient:
    """What belongs to one event loop.

    :ivar client: bounds its calls by itself.
    :ivar own: that of `RedisManager.run`, which bounds them.
    """

    client: Client
    own: Client
    places: asyncio.Semaphore
    closing: list[Client] = field(default_factory=list)


class RedisManager:
    """Access to one Redis, a primary that sentinels name, or a cluster.

    Give it a URL, a configuration, or the fields of one as keywords. Nothing is opened before it is
    needed; `close` (or leaving it as an asynchronous context manager) gives back what the running
    event loop opened, and a later use, on this loop or another, opens anew. A child process that
    was forked opens its own.

    :raises InvalidConfiguration: naming the field at fault.
    """

    def __init__(self, config: RedisConfig | str | None = None, **options: Any) -> None:
        if isinstance(config, str):
            config = RedisConfig(config, **options)
        elif isinstance(config, RedisConfig):
            config = replace(config, **options) if options else config
        elif config is None:
            config = RedisConfig(**options)
        else:
            raise InvalidConfiguration(
                f"a RedisManager is given a {type(config).__name__}",
                remedy="Give it a URL or a RedisConfig, or the fields of one as keywords.",
            )
        self.config: RedisConfig = config
        self._opened: dict[asyncio.AbstractEventLoop, _LoopClient] = {}
        tell_children(self)

    def __repr__(self) -> str:
        return f"RedisManager({self.config.redacted!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts as ``name:port``."""
        return self.config.hosts

    def get_cache_client(self) -> Client:
        """The client of the running event loop, of redis-py; it connects when it is first used.

        Its own calls are bounded by `timeout` and never repeated; its errors are redis-py's.

        :raises InvalidConfiguration: the extra ``redis`` is not installed.
        """
        return self._here().client

    async def run(
        self,
        doing: str,
        work: Callable[[Client], Awaitable[T]],
        *,
        breaker: Breaker | None = None,
        timeout: float | None = None,
    ) -> T:
        """Do `work` with the client within `timeout`, which counts from when a connection is free.

        :param breaker: is asked first, and told how it went.
        :raises RedisAway: there is no answer in time, or the breaker is open.
        :raises RedisRefused: Redis will not do it.
        """
        here = self._here()
        from jts_storage.redis.errors import DRIVER_ERRORS, RedisFull, translate

        if breaker is not None and not breaker.allows():
            raise self._left_alone()
        is_probe = breaker is not None and breaker.state == "probing"
        async with here.places:
            # It may have opened while this one waited for its turn.
            if breaker is not None and breaker.state != "closed" and not is_probe:
                raise self._left_alone()
            try:
                result = await _bounded(work(here.own), timeout or self.config.timeout)
            except DRIVER_ERRORS as exc:
                error = translate(exc, doing=doing, hosts=self.hosts)
                if breaker is not None:
                    # One that refuses all, as for a wrong password, is of no more use.
                    breaker.succeeded() if isinstance(error, RedisFull) else breaker.failed(error)
                raise error from exc
            if breaker is not None:
                breaker.succeeded()
            return result

    async def ping(self) -> None:
        """Ask for a sign of life within `health_timeout`.

        :raises StorageError: there was none.
        """
        await self.run("ping", lambda client: client.ping(), timeout=self.config.health_timeout)

    async def health_check(self) -> bool:
        """Return whether Redis answers, within half a second; one that hangs does not."""
        try:
            # Waiting for a connection counts, too: they may all hang.
            async with asyncio.timeout(self.config.health_timeout):
                await self.ping()
        except (StorageError, TimeoutError):
            return False
        return True

    async def memory(self) -> MemoryReport:
        """What Redis says of its memory now.

        :raises StorageError: it does not answer, or will not tell.
        """

        async def ask(client: Client) -> Any:
            return await client.info("everything")

        limit = self.config.health_timeout
        return report_of(await self.run("INFO", ask, timeout=limit))

    async def configure_eviction(self) -> MemoryReport:
        """Set `max_memory` and `eviction` of Redis as the configuration says; what it has then.

        :raises StorageError: it does not answer, or nobody may configure it, as where it is hosted.
        """
        wanted: dict[str, str] = {"maxmemory-policy": self.config.eviction}
        if self.config.max_memory is not None:
            wanted["maxmemory"] = self.config.max_memory.lower()

        async def configure(client: Client) -> None:
            for name, value in wanted.items():
                await client.config_set(name, value)

        await self.run("CONFIG SET", configure, timeout=self.config.health_timeout)
        return await self.memory()

    async def close(self) -> None:
        """Close what the running event loop opened. Harmless when there is nothing."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            for client in (opened.client, *opened.closing):
                await client.aclose()

    def begin_in_child(self) -> None:
        """Forget the clients of the parent, whose sockets are shared with it."""
        self._opened = {}

    def _left_alone(self) -> StorageError:
        from jts_storage.redis.errors import RedisAway

        where = ", ".join(self.hosts)
        return RedisAway(
            f"Redis failed several times and is left alone for a while (at {where}).",
            hosts=self.hosts,
        )

    def _here(self) -> _LoopClient:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as exc:
            raise StorageError(
                f"{self!r} was used outside of an event loop.",
                remedy="Use it in a coroutine, or use jts_storage.sync.",
            ) from exc
        opened = self._opened.get(loop)
        if opened is None:
            # A client whose loop was closed first can be closed no more; only forget it.
            for each in [each for each in self._opened if each.is_closed()]:
                del self._opened[each]
            opened = self._opened[loop] = self._open()
        return opened

    def _open(self) -> _LoopClient:
        try:
            from jts_storage.redis.clients import bounded_elsewhere, connected
        except ImportError as exc:
            raise InvalidConfiguration(
                "Redis needs its client, which is not installed",
                remedy="Run pip install 'jts-storage[redis]'.",
            ) from exc

        client, *closing = connected(self.config)
        own = bounded_elsewhere(self.config)
        if own is not None:
            closing.append(own)
        places = asyncio.Semaphore(self.config.pool_size)
        return _LoopClient(client, own or client, places, closing)


async def _bounded(work: Awaitable[T], timeout: float) -> T:
    """Wait for `work`, and obey a cancellation that its client has swallowed.

    On Python 3.11 `asyncio.wait_for`, with which redis-py sends, loses one that comes together
    with its result.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        async with asyncio.timeout(timeout):
            return await work
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
