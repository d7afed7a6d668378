"""A Redis of the tests, for services and for the cache of a storage."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from jts_storage.errors import InvalidConfiguration
from jts_storage.testing.address import Address
from jts_storage.testing.stores.base import Server, ServerStore, faults_of, proxied

if TYPE_CHECKING:
    import redis

_AS_IT_COMES: Final = {"maxmemory": "0", "maxmemory-policy": "noeviction"}
"""What a test may have set, to see what a full Redis does."""


class RedisStore(ServerStore):
    """All databases of a Redis server that is the tests' alone."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._client: redis.Redis | None = None

    @property
    def database(self) -> str:
        return urlsplit(self._url).path.strip("/")

    def prepare(self) -> None:
        try:
            import redis
        except ImportError as exc:
            raise InvalidConfiguration(
                "the fixture jts_redis needs the client of Redis, which is not installed",
                remedy='Install it with: pip install "jts-storage[test]"',
            ) from exc
        self._client = redis.Redis.from_url(self._url)
        self._closing.callback(self._client.close)

    def clean(self) -> None:
        assert self._client is not None, "prepare() comes first"
        import redis

        self._client.flushall()
        for name, value in _AS_IT_COMES.items():
            with suppress(redis.ResponseError):  # where it is hosted, nobody may
                self._client.config_set(name, value)

    def break_off(self) -> None:
        """Nothing: Redis keeps no locks for a client that is gone."""

    def _proxied(self) -> Address:
        parts = urlsplit(self._url)
        host, port = parts.hostname or "localhost", parts.port or 6379
        proxy = proxied(host, port, self._closing, secure=parts.scheme == "rediss")
        if proxy is not None:
            host, port = proxy.host, proxy.port
        credentials, at, _ = parts.netloc.rpartition("@")
        faults: dict[str, Any] = faults_of(proxy)
        return Address(
            url=parts._replace(netloc=f"{credentials}{at}{host}:{port}").geturl(),
            host=host,
            port=port,
            database=self.database,
            user=parts.username or "",
            password=parts.password or "",
            **faults,
        )
