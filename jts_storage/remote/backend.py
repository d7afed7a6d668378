"""A storage behind a gateway, as `Storage.open()` opens it by its ``url``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NoReturn

from jts_storage._runtime.tasks import run_to_the_end
from jts_storage.domain.outcomes import Outcome
from jts_storage.errors import StorageError
from jts_storage.models import Models
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.health import Health
from jts_storage.ports.models import Model
from jts_storage.remote.connection import Connection
from jts_storage.remote.handlers import RemoteHandlers
from jts_storage.remote.readable import RemoteReadable
from jts_storage.remote.repositories import RemoteStorage
from jts_storage.remote.subscriptions import RemoteSubscriptions
from jts_storage.remote.target import Target
from jts_storage.remote.work import RemoteWork
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.unit_of_work.publisher import InMemoryEventPublisher
from jts_storage.unit_of_work.under_way import Commits
from jts_storage.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from jts_storage.unit_of_work.recovery import Recovered

log = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 30.0


class GrpcBackend:
    """Everything by calls to a gateway, or to the next one of several."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        publisher: EventPublisher | None = None,
        models: Iterable[Model[Any]] = (),
        connection: Connection | None = None,
    ) -> None:
        """:param connection: if not simply to the addresses of `config`."""
        self.config = config
        self.publisher: EventPublisher = publisher or InMemoryEventPublisher()
        self._models = Models.known(models)
        self._connection = connection or Connection(config)
        self._commits = Commits()
        self._handlers = RemoteHandlers(self._connection, self.publisher)
        self.gateway = RemoteStorage(Target(self._connection, "Storage"))
        """What is asked for what concerns all of its stores."""
        self.readable = RemoteReadable(
            self._connection, self._models, lambda: self.unit_of_work("", None)
        )

    @property
    def stores(self) -> NoReturn:
        raise StorageError(
            f"This storage is remote ({self.config.redacted}): its databases are the gateway's.",
            remedy="Ask for it where the gateway runs, with Storage.open().",
        )

    async def open(self) -> None:
        begun = perf_counter()
        try:
            await self._connection.open()
        except BaseException:
            await self._connection.close()
            raise
        unknown = [each.name for each in self._models if each.name not in self._connection.models]
        if unknown:
            await self._connection.close()
            raise StorageError(
                f"The gateway does not know the declared models {', '.join(unknown)}.",
                remedy="Install the package that declares them where the gateway runs, too.",
            )
        log.info("Opened %s in %.2f s.", self.config.redacted, perf_counter() - begun)
        self._handlers.begin()

    async def hear_no_more(self) -> None:
        """Take no more events for the handlers of this process; what waits is stored."""
        await self._handlers.end()

    async def close(self) -> None:
        try:
            await self._commits.ended(_CLOSE_SECONDS)
        finally:
            try:
                await run_to_the_end(self._handlers.end())
            finally:
                await self._connection.close()

    async def health(self) -> Health:
        found = await self.gateway.health()
        health = Health(**found["answers"])
        for name, value in found["more"].items():
            setattr(health, name, value)
        assert health.oldest is None or isinstance(health.oldest, timedelta)
        return health

    async def recover(self, done: Recovered | None = None) -> int:
        """:param done: is told how many commits were finished."""
        count = await self.gateway.recover()
        if done is not None:
            done.finished = count
        return count

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork:
        return UnitOfWork(lambda: self._begun(source, unit_id))

    async def _begun(self, source: str, unit_id: str | None) -> RemoteWork:
        connection, handlers = self._connection, self._handlers
        return RemoteWork(connection, self._commits, handlers, self._models, source, unit_id)

    @property
    def subscriptions(self) -> RemoteSubscriptions:
        return RemoteSubscriptions(self._connection)

    async def outcome(self, unit_id: str) -> Outcome:
        return await self.gateway.outcome(unit_id)
