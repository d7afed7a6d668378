"""Two Redis servers and three sentinels on loopback, of which two decide who is the primary."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import redis

from tests.redis_servers import RestartedRedis, Sentinel, waited_for

_PATIENCE: Final = 180.0
"""Seconds; a sentinel that was not run for two of them looks on for half a minute."""

_QUICK: Final = {"--repl-diskless-sync-delay": "0"}
_NO_OPTIONS: Final[Mapping[str, str]] = {}
_QUORUM: Final = 2
_SENTINELS: Final = 3


class _Roles(threading.Thread):
    """Looks again and again which servers may be primaries.

    One that does not answer was a primary perhaps, and may go on as one; one that refuses is none.
    """

    def __init__(self, servers: Sequence[RestartedRedis]) -> None:
        super().__init__(daemon=True)
        self._servers = servers
        self._looks: list[tuple[float, float, bool]] = []
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(0.02):
            before = time.monotonic()
            are_two = sum(map(_may_be_primary, self._servers)) > 1
            self._looks.append((before, time.monotonic(), are_two))

    def stop(self) -> None:
        self._is_over.set()
        self.join(_PATIENCE)

    def two_primaries(self) -> list[tuple[float, float]]:
        """From when until when there may have been two."""
        spans: list[tuple[float, float]] = []
        for earlier, later in pairwise(list(self._looks)):
            if not (earlier[2] or later[2]):
                continue
            if spans and spans[-1][1] >= earlier[0]:
                spans[-1] = (spans[-1][0], later[1])
            else:
                spans.append((earlier[0], later[1]))
        return spans


def _may_be_primary(server: RestartedRedis) -> bool:
    try:
        with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
            told: Any = client.execute_command("ROLE")
        return bool(told[0] == b"master")
    except redis.TimeoutError:
        return True
    except redis.RedisError:
        return False


class SentinelSet:
    """A primary and its replica, which change places.

    :param patience: for how many milliseconds the sentinels wait for a primary; a machine that is
        busy for as long has its primary replaced, and two of them for some seconds.
    :param options: further ones of the servers' command lines.
    """

    def __init__(
        self, folder: Path, *, patience: int = 1_000, options: Mapping[str, str] = _NO_OPTIONS
    ) -> None:
        self._folder = folder
        self._patience = patience
        self._options = {**_QUICK, **options}
        self._servers: list[RestartedRedis] = []
        self._sentinels: list[Sentinel] = []
        self._roles = _Roles([])

    def __enter__(self) -> Self:
        first, second = (RestartedRedis(self._made(name), options=self._options) for name in "ab")
        self._servers = [first, second]
        self._sentinels = [
            Sentinel(
                self._made(f"sentinel-{number}"), first, quorum=_QUORUM, patience=self._patience
            )
            for number in range(_SENTINELS)
        ]
        try:
            first.start()
            second.start(first)
            for sentinel in self._sentinels:
                sentinel.start()
            self.wait_until_whole()
            self._roles = _Roles(self._servers)
            self._roles.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._roles.stop()
        self._stop()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self._sentinels)
        return f"redis+sentinel://{hosts}/main/0"

    def primary(self) -> RestartedRedis:
        """What a sentinel calls the primary."""
        port = self._primary_port()
        return next(each for each in self._servers if each.port == port)

    def other(self, server: RestartedRedis) -> RestartedRedis:
        return next(each for each in self._servers if each is not server)

    def start(self, server: RestartedRedis) -> None:
        """Start one again as its file of configuration would: behind the primary of now."""
        primary = self.primary()
        server.start(None if primary is server else primary)

    def two_primaries(self) -> list[tuple[float, float]]:
        """From when until when there may have been two, as a failover leaves one behind."""
        return self._roles.two_primaries()

    def wait_for_failover(self, old: RestartedRedis) -> None:
        """Until all sentinels name another primary, and it takes writes."""
        _wait_until(lambda: all(port != old.port for port in self._primary_ports()))
        _wait_until(lambda: _role(self.primary()) == "master")

    def wait_until_whole(self) -> None:
        """Until each server has its place, and every sentinel knows of the others and of both."""
        _wait_until(self._is_whole)

    def _is_whole(self) -> bool:
        ports = self._primary_ports()
        if len(set(ports)) != 1:
            return False
        primary = self.primary()
        replica = self.other(primary)
        with suppress(redis.RedisError):
            followed = _info(replica)
            is_linked = (
                _role(primary) == "master"
                and followed.get("master_port") == primary.port
                and followed.get("master_link_status") == "up"
            )
            return is_linked and all(map(self._is_ready, self._sentinels))
        return False

    def _is_ready(self, sentinel: Sentinel) -> bool:
        told = _asked(sentinel, "SENTINEL", "MASTER", "main")
        replicas = _asked(sentinel, "SENTINEL", "REPLICAS", "main")
        return (
            int(told["num-other-sentinels"]) == _SENTINELS - 1
            and told["flags"] == "master"
            and [each["flags"] for each in replicas] == ["slave"]
            and replicas[0]["master-link-status"] == "ok"
        )

    def _primary_ports(self) -> list[int]:
        told = [
            _asked(each, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main") for each in self._sentinels
        ]
        return [int(port) for _, port in told]

    def _primary_port(self) -> int:
        return self._primary_ports()[0]

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True)
        return folder

    def _stop(self) -> None:
        for each in (*self._sentinels, *self._servers):
            each.kill()


def paused(server: RestartedRedis) -> None:
    server.signal(signal.SIGSTOP)


def continued(server: RestartedRedis) -> None:
    server.signal(signal.SIGCONT)


def _role(server: RestartedRedis) -> str:
    return str(_info(server).get("role"))


def _info(server: RestartedRedis) -> dict[str, Any]:
    with redis.Redis.from_url(server.url, socket_timeout=1.0) as client:
        found: Any = client.info("replication")
    return dict(found)


def _asked(server: RestartedRedis, *command: str) -> Any:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return client.execute_command(*command)


def _wait_until(holds: Callable[[], bool]) -> None:
    waited_for(holds, _PATIENCE)
