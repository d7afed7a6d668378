"""Access to a MongoDB database: one client per event loop, opened when it is first needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.server_description import ServerDescription

from jts_storage._runtime.answers import Answers
from jts_storage._runtime.pools import PoolStatus
from jts_storage._runtime.unreadable import Unreadable
from jts_storage.domain.secret import plain
from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.mongo.binding import Documents, bind_documents
from jts_storage.mongo.config import MongoDBConfig
from jts_storage.mongo.documents import Models
from jts_storage.mongo.errors import translate
from jts_storage.mongo.motor_internals import opened_with
from jts_storage.mongo.pool import PoolEvents
from jts_storage.mongo.retries import DRIVER_ERRORS, Retries
from jts_storage.mongo.stored import CODEC, StoredDocument

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient

    from jts_storage.settings import StorageSettings

Bson: TypeAlias = dict[str, Any]
Client: TypeAlias = AsyncMongoClient[Bson]
Database: TypeAlias = AsyncDatabase[Bson]
Collection: TypeAlias = AsyncCollection[Bson]

log = logging.getLogger(__name__)


class LocalServer(Protocol):
    """A mongod over a folder of this machine."""

    @property
    def uri(self) -> str: ...

    @property
    def tags(self) -> Mapping[str, str]:
        """Those of its member of the replica set, which no mongod of another folder has."""
        ...


@dataclass(slots=True)
class _LoopClient:
    """What belongs to one event loop."""

    client: Client
    db: Database
    pool: PoolEvents
    collections: dict[str, Collection] = field(default_factory=dict)


class MongoDBManager:
    """Access to one database, with pooling, retries and a bounded health check.

    Give it a URI, a configuration, or the fields of one as keywords. Nothing is opened before it is
    needed; `close` (or leaving it as an asynchronous context manager) gives back what the running
    event loop opened, and a later use, on this loop or another, opens anew.

    :raises InvalidConfiguration: naming the field at fault.
    """

    def __init__(
        self,
        config: MongoDBConfig | str | None = None,
        database: str | None = None,
        *,
        uri: str | None = None,
        **options: Any,
    ) -> None:
        self.config = _configured(config, {"uri": uri, "database": database, **options})
        self._hosts = self.config.hosts
        self._tags: Mapping[str, str] = {}
        self._connect: Callable[[PoolEvents], Client] = self._connect_by_config
        self._timeouts = 0
        self._answering = Answers(log, "MongoDB")
        self._opened: dict[asyncio.AbstractEventLoop, _LoopClient] = {}
        self._is_retired = False
        self.retries = Retries(self.config, self._hosts)
        self.has_transactions = True
        self.unreadable = Unreadable()
        self.models = Models()
        self._documents: Documents | None = None

    @classmethod
    def over(cls, server: LocalServer, config: MongoDBConfig | None = None) -> Self:
        """A manager that uses this server and no other, also when it connects anew.

        Where the server has died, that of another folder may listen on its port by then.

        :param config: with the server's address in it.
        """
        manager = cls(config or MongoDBConfig(uri=server.uri))
        manager._tags = dict(server.tags)
        return manager

    def beside(self, database: str) -> Self:
        """A manager of another database on the same servers."""
        cls = type(self)
        other = cls(replace(self.config, database=database))
        other._hosts, other._connect = self._hosts, self._connect
        other.retries = Retries(other.config, other._hosts)
        return other

    @classmethod
    def from_motor(
        cls,
        motor_client: AsyncIOMotorClient[Any],
        database: str | None = None,
        config: MongoDBConfig | None = None,
    ) -> Self:
        """A manager with the hosts, credentials, TLS, pool and concerns of a Motor client.

        Only its write concern is raised, where it is less than what the kit's writes need: they
        are acknowledged by a majority, which has them in its journals. Where it has no read
        concern, what a majority has is read.

        It opens connections of its own and never closes the caller's client.

        :param database: the one that the client's URI names, else ``jts``, if None.
        :param config: for what Motor does not know: the times of health check and retries.
        """
        options, hosts = opened_with(motor_client)
        concern = motor_client.write_concern.document.get("w")
        safe = {"w": concern if isinstance(concern, str) else "majority", "journal": True}
        level = motor_client.read_concern.level or "majority"
        named = motor_client.get_default_database("jts").name
        manager = cls(replace(config or MongoDBConfig(), database=database or named))
        manager._hosts = hosts
        listeners = options.pop("event_listeners", None) or ()
        made = {**options, **safe, "readConcernLevel": level}
        manager._connect = lambda pool: AsyncMongoClient(**made, event_listeners=[*listeners, pool])
        manager.retries = Retries(manager.config, manager._hosts)
        return manager

    def __repr__(self) -> str:
        return f"MongoDBManager({', '.join(self._hosts)}, database={self.config.database!r})"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts as ``name:port``."""
        return self._hosts

    @property
    def client(self) -> Client:
        """The client of the running event loop."""
        return self._here().client

    @property
    def db(self) -> Database:
        """The database; dates come back aware, in UTC."""
        return self._here().db

    def get_collection(self, name: str) -> Collection:
        """A collection of the database."""
        here = self._here()
        collection = here.collections.get(name)
        if collection is None:
            collection = here.collections[name] = here.db.get_collection(name)
        return collection

    def register(self, *models: type[StoredDocument]) -> None:
        """Use a subclass of a document model in its place, with the fields and indexes it adds.

        Call it before the first use. Entities do not know the added fields; updates keep them.

        :raises InvalidConfiguration: one is no subclass of a document model of the kit.
        """
        for model in models:
            self.models = self.models.replaced_by(model)
        self._documents = None

    async def documents(self) -> Documents:
        """The Beanie document classes of this manager's database: fresh ones, shared with nobody.

        Neither this nor anything else at start-up creates or drops an index.
        """
        if self._documents is None:
            models, db = self.models, self.db
            self._documents = await self.retries.repeat(
                "binding document classes",
                lambda: bind_documents(models, db, self.get_collection),
            )
        return self._documents

    def pool_status(self) -> PoolStatus:
        """The connections that the clients of all event loops have, to all servers."""
        found = [each.pool.status for each in tuple(self._opened.values())]
        return PoolStatus(
            capacity=sum(each.capacity for each in found),
            open=sum(each.open for each in found),
            in_use=sum(each.in_use for each in found),
            waiting=sum(each.waiting for each in found),
            timeouts=sum((each.timeouts for each in found), self._timeouts),
        )

    async def ping(self) -> None:
        """Ask the server for a sign of life, within `health_timeout`.

        :raises ConnectionFailed: "MongoDB connection failed", with the hosts tried.
        """
        limit = self.config.health_timeout
        try:
            # The driver's own timeouts are of no help against a server that accepts and hangs.
            async with asyncio.timeout(limit):
                await self.client.admin.command("ping")
        except TimeoutError as exc:
            hosts = ", ".join(self._hosts) or "no host"
            raise ConnectionFailed(
                f"MongoDB connection failed at ping (tried {hosts}): no answer within {limit:g} s.",
                hosts=self._hosts,
                remedy="Is it up?",
            ) from exc
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing="ping", hosts=self._hosts) from exc

    async def health_check(self) -> bool:
        """Return whether the server answers within `health_timeout`; one that hangs does not."""
        try:
            await self.ping()
        except StorageError as exc:
            self._answering.seen(exc)
            return False
        self._answering.seen()
        return True

    async def close(self) -> None:
        """Close what the running event loop opened. Harmless when there is nothing."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            self._timeouts += opened.pool.status.timeouts
            await opened.client.close()

    async def retire(self) -> None:
        """Close it for good: a later use, of it or of a repository, is refused."""
        self._is_retired = True
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

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
            if self._is_retired:
                raise StorageError(
                    "This storage was closed, and MongoDB with it.", remedy="Open it again."
                )
            opened = self._opened[loop] = self._open()
        return opened

    def _open(self) -> _LoopClient:
        # A client whose loop was closed first can be closed no more; only forget it.
        for loop in [loop for loop in self._opened if loop.is_closed()]:
            del self._opened[loop]
        pool = PoolEvents()
        try:
            client = self._connect(pool)
        except (PyMongoError, ValueError, TypeError, OSError) as exc:
            # Chained errors of the driver may repeat a password of the URI.
            raise InvalidConfiguration(
                f"no MongoDB client can be made for {', '.join(self._hosts)}"
                f" ({type(exc).__name__})",
                remedy="Check the options of the URI, the TLS files and their password.",
            ) from None
        db = client.get_database(self.config.database, codec_options=CODEC)
        return _LoopClient(client, db, pool)

    def _connect_by_config(self, pool: PoolEvents) -> Client:
        options = self.config.client_options
        if self._tags:
            options["server_selector"] = self._with_tags
        return AsyncMongoClient(plain(self.config.uri), **options, event_listeners=[pool])

    def _with_tags(self, servers: Sequence[ServerDescription]) -> list[ServerDescription]:
        return [each for each in servers if self._tags.items() <= each.tags.items()]


def manager_of(settings: StorageSettings, server: LocalServer | None) -> MongoDBManager:
    """
    :param server: the embedded one; None where the settings name others.
    """
    if server is None:
        return MongoDBManager(settings.mongo())
    return MongoDBManager.over(server, settings.mongo(server.uri))


def _configured(config: MongoDBConfig | str | None, given: dict[str, Any]) -> MongoDBConfig:
    values = {name: value for name, value in given.items() if value is not None}
    if isinstance(config, str):
        if "uri" in values:
            raise InvalidConfiguration(
                "two addresses are given, one of them as uri", remedy="Leave one of them out."
            )
        config, values = None, {**values, "uri": config}
    if not isinstance(config, MongoDBConfig | None):
        raise InvalidConfiguration(
            f"a MongoDBManager is given a {type(config).__name__}",
            remedy="Give it a URI or a MongoDBConfig, or the fields of one as keywords.",
        )
    try:
        if config is None:
            return MongoDBConfig(**values)
        return replace(config, **values) if values else config
    except TypeError as exc:
        raise InvalidConfiguration(f"{exc}") from exc
