"""The servers of `docker-compose.yml` in throw-away containers, by testcontainers.

Every process of a test run has its own. Their passwords are random and live as long as they do.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.testing.stores.base import ScratchStore
from jts_storage.testing.stores.clickhouse import ClickHouseStore
from jts_storage.testing.stores.mongo import MongoStore
from jts_storage.testing.stores.redis import RedisStore
from jts_storage.testing.stores.sql import PostgresStore

CLICKHOUSE_IMAGE: Final = "clickhouse/clickhouse-server:26.9.6.6"
MONGO_IMAGE: Final = "mongo:8.0.20"
POSTGRES_IMAGE: Final = "postgres:17.10"
REDIS_IMAGE: Final = "redis:8.0.3"

REPLICA_SET: Final = "rs0"
_USER: Final = "jts"
_START_SECONDS: Final = 120.0
_PAUSE: Final = 0.1


class Container(Protocol):
    """What is used of testcontainers' `DockerContainer`."""

    def with_env(self, key: str, value: str) -> Any: ...
    def with_exposed_ports(self, *ports: int) -> Any: ...
    def with_command(self, command: Any) -> Any: ...
    def start(self) -> Any: ...
    def stop(self) -> None: ...
    def get_container_host_ip(self) -> str: ...
    def get_exposed_port(self, port: int) -> int: ...


MakeContainer = Callable[[str], Container]


def docker_container(image: str) -> Container:
    """A container that is not started yet.

    :raises InvalidConfiguration: there is no testcontainers, or no Docker that answers it.
    """
    try:
        from docker.errors import DockerException  # type: ignore[import-untyped]
        from testcontainers.core.container import DockerContainer
    except ImportError as exc:
        raise InvalidConfiguration(
            "the backend `containers` needs testcontainers, which is not installed",
            remedy='Install it with: pip install "jts-storage[test]"',
        ) from exc
    try:
        container: Container = DockerContainer(image)
    except DockerException as exc:
        raise InvalidConfiguration(
            f"the backend `containers` needs Docker for {image}, and none answers: {exc}",
            remedy="Start Docker (or set DOCKER_HOST), or choose --jts-backend=servers, which"
            " needs none.",
        ) from exc
    return container


class ContainerServer:
    """A server in a container; `start` returns when it answers `probe`."""

    image: str
    port: int

    def __init__(
        self, make: MakeContainer = docker_container, patience: float = _START_SECONDS
    ) -> None:
        self._make = make
        self._patience = patience
        self._container: Container | None = None
        self._password = secrets.token_urlsafe(16)

    def start(self) -> str:
        container = self._make(self.image)
        container.with_exposed_ports(self.port)
        for name, value in self.environment().items():
            container.with_env(name, value)
        if command := self.command():
            container.with_command(command)
        self._start(container)
        try:
            host = container.get_container_host_ip()
            address = f"{host}:{container.get_exposed_port(self.port)}"
            self._wait_for(address)
        except BaseException:
            self.stop()
            raise
        return self.url(address)

    def stop(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.stop()

    def environment(self) -> dict[str, str]:
        return {}

    def command(self) -> Sequence[str]:
        return ()

    def url(self, address: str) -> str:
        raise NotImplementedError

    def probe(self, address: str) -> None:
        """Raise one of `failures` as long as the server is not ready."""
        raise NotImplementedError

    def failures(self) -> tuple[type[Exception], ...]:
        return (OSError, ConnectionFailed)

    def _start(self, container: Container) -> None:
        from docker.errors import DockerException

        self._container = container
        try:
            container.start()
        except (DockerException, OSError, RuntimeError) as exc:
            with suppress(DockerException, RuntimeError):
                self.stop()
            raise ConnectionFailed(
                f"The container of {self.image} did not start: {exc}",
                remedy="See whether `docker pull` gets the image, and `docker ps` answers.",
            ) from exc

    def _wait_for(self, address: str) -> None:
        give_up = time.monotonic() + self._patience
        while True:
            try:
                self.probe(address)
            except self.failures() as exc:
                if time.monotonic() > give_up:
                    raise ConnectionFailed(
                        f"The container of {self.image} did not answer at {address} within"
                        f" {self._patience:g} s: {exc}",
                        hosts=(address,),
                        remedy="`docker logs` of the container tells why.",
                    ) from exc
                time.sleep(_PAUSE)
            else:
                return


class ClickHouseContainer(ContainerServer):
    image = CLICKHOUSE_IMAGE
    port = 9000

    def environment(self) -> dict[str, str]:
        return {
            "CLICKHOUSE_USER": _USER,
            "CLICKHOUSE_PASSWORD": self._password,
            "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT": "1",
        }

    def url(self, address: str) -> str:
        return f"clickhouse://{_USER}:{self._password}@{address}/default"

    def probe(self, address: str) -> None:
        from jts_storage.clickhouse.manager import ClickHouseManager
        from jts_storage.settings.clickhouse import ClickHouseConfig

        config = ClickHouseConfig.from_url(self.url(address))
        with ClickHouseManager(config, max_retries=0, connect_timeout=2):
            pass


class MongoContainer(ContainerServer):
    """A replica set of one: transactions need a set."""

    image = MONGO_IMAGE
    port = 27017

    def command(self) -> Sequence[str]:
        # No users: a set with users needs a key file. Its data are those of one test run.
        return ("mongod", "--replSet", REPLICA_SET, "--bind_ip_all", "--port", str(self.port))

    def url(self, address: str) -> str:
        # Directly, since the set knows itself by the port inside of the container.
        return f"mongodb://{address}/?directConnection=true"

    def probe(self, address: str) -> None:
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure

        options: dict[str, Any] = {"serverSelectionTimeoutMS": 1_000, "connectTimeoutMS": 1_000}
        with MongoClient[dict[str, Any]](self.url(address), **options) as client:
            hello = client.admin.command("hello")
            if hello.get("isWritablePrimary"):
                return
            members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
            with suppress(OperationFailure):  # it has been founded, and elects
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
        raise ConnectionFailed("The replica set has no primary yet.")

    def failures(self) -> tuple[type[Exception], ...]:
        from pymongo.errors import PyMongoError

        return (*super().failures(), PyMongoError)


class PostgresContainer(ContainerServer):
    image = POSTGRES_IMAGE
    port = 5432

    def environment(self) -> dict[str, str]:
        return {"POSTGRES_USER": _USER, "POSTGRES_PASSWORD": self._password}

    def url(self, address: str) -> str:
        return f"postgresql://{_USER}:{self._password}@{address}/{_USER}"

    def probe(self, address: str) -> None:
        import asyncio

        async def ask() -> None:
            import asyncpg

            await (await asyncpg.connect(self.url(address), timeout=2)).close()

        asyncio.run(ask())

    def failures(self) -> tuple[type[Exception], ...]:
        import asyncpg

        return (*super().failures(), asyncpg.PostgresError, asyncpg.InterfaceError)


class RedisContainer(ContainerServer):
    image = REDIS_IMAGE
    port = 6379

    def command(self) -> Sequence[str]:
        return ("redis-server", "--requirepass", self._password)

    def url(self, address: str) -> str:
        return f"redis://:{self._password}@{address}/0"

    def probe(self, address: str) -> None:
        import redis

        with redis.Redis.from_url(self.url(address), socket_timeout=2) as client:
            client.ping()

    def failures(self) -> tuple[type[Exception], ...]:
        import redis

        return (*super().failures(), redis.RedisError)


class ContainerPlan:
    """Every store in a container of its own."""

    through_endpoint = False

    def __init__(self, database: str, make: MakeContainer = docker_container) -> None:
        self._database = database
        self._make = make

    def clickhouse(self) -> ClickHouseStore:
        return ClickHouseStore(ClickHouseContainer(self._make), self._database)

    def mongo(self) -> MongoStore:
        return MongoStore(MongoContainer(self._make), self._database)

    def bookkeeping(self) -> ScratchStore | None:
        return None

    def postgres(self) -> ScratchStore:
        return PostgresStore(PostgresContainer(self._make), self._database)

    def redis(self) -> ScratchStore:
        return RedisStore(RedisContainer(self._make))
