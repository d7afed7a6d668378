"""The `containers` backend, without Docker: containers that only pretend, before real servers."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import asyncpg
import pytest
import yaml

from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.local_servers.folder import free_port
from jts_storage.local_servers.mongod import LocalMongod, find_mongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.testing import containers
from jts_storage.testing.backends import CLICKHOUSE, MONGO, POSTGRES, Stack
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.testing.storages import storage_over

ROOT = Path(__file__).parents[3]


class PretendedContainer:
    """Notes what it is told; its port is that of a server that runs already."""

    def __init__(self, image: str, port: int) -> None:
        self.image = image
        self.mapped = port
        self.environment: dict[str, str] = {}
        self.exposed: tuple[int, ...] = ()
        self.command: Any = None
        self.life: list[str] = []

    def with_env(self, key: str, value: str) -> Self:
        self.environment[key] = value
        return self

    def with_exposed_ports(self, *ports: int) -> Self:
        self.exposed = ports
        return self

    def with_command(self, command: Any) -> Self:
        self.command = command
        return self

    def start(self) -> Self:
        self.life.append("started")
        return self

    def stop(self) -> None:
        self.life.append("stopped")

    def get_container_host_ip(self) -> str:
        return "127.0.0.1"

    def get_exposed_port(self, port: int) -> int:
        assert port in self.exposed
        return self.mapped


class World:
    """Real servers, and every container that was made to stand before one."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.made: list[PretendedContainer] = []

    def container(self, image: str) -> PretendedContainer:
        container = PretendedContainer(image, self.ports[image])
        self.made.append(container)
        return container


@pytest.fixture
def world(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[World]:
    with ExitStack() as running:
        clickhouse = running.enter_context(
            ClickHouseServer(str(tmp_path / "clickhouse"), database="jts_test")
        )
        mongod = running.enter_context(LocalMongod.acquire(tmp_path / "mongo"))
        postgres = running.enter_context(LocalPostgres.start())
        asyncio.run(create_user(postgres.dsn))
        for engine in ("ClickHouse endpoint over chDB", "mongod", "PostgreSQL"):
            engine_used(engine)
        yield World(
            {
                containers.CLICKHOUSE_IMAGE: clickhouse.port,
                containers.MONGO_IMAGE: mongod.port,
                containers.POSTGRES_IMAGE: postgres.port,
            }
        )


async def create_user(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE ROLE jts SUPERUSER LOGIN")
    await connection.execute("CREATE DATABASE jts OWNER jts")
    await connection.close()


def test_storages_work_on_what_containers_serve(world: World, tmp_path: Path) -> None:
    stack = Stack(containers.ContainerPlan("jts_test", world.container), tmp_path / "scratch")
    asked = frozenset({CLICKHOUSE, MONGO, POSTGRES})
    try:
        stack.clean(asked)
        asyncio.run(write_and_read(stack, frozenset()))
        stack.clean(asked)
        asyncio.run(write_and_read(stack, asked))
        assert all(stack.address(name).can_fail for name in asked)
    finally:
        stack.close()
    assert [container.life for container in world.made] == [["started", "stopped"]] * 3
    passwords = [
        value
        for container in world.made
        for name, value in container.environment.items()
        if name.endswith("PASSWORD")
    ]
    assert len(set(passwords)) == len(passwords) == 2


async def write_and_read(stack: Stack, asked: frozenset[str]) -> None:
    series = make_candles()
    async with storage_over(stack.settings(asked)) as storage:
        assert await storage.candles.count(series.key) == 0
        assert list(await storage.formulas.list()) == []
        assert list(await storage.ingestion.checkpoints.list()) == []
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(series.key, series)
            await uow.formulas.save(make_formula())
            await uow.ingestion.checkpoints.save("collector", {"at": 1})
            await uow.commit()
        assert await storage.candles.count(series.key) == len(series)


def test_a_fresh_mongod_is_made_a_replica_set(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    port = free_port()
    server = containers.MongoContainer(lambda image: PretendedContainer(image, port))
    server.port = port  # as in a container, where the port inside is the one it knows
    program, *options = server.command()
    assert program == "mongod"
    process = subprocess.Popen(
        [find_mongod(), *options, "--dbpath", tmp_path, "--nounixsocket", "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    try:
        engine_used("mongod")
        assert server.start() == f"mongodb://127.0.0.1:{port}/?directConnection=true"
    finally:
        process.kill()
        process.wait()


def test_a_server_that_never_answers_is_given_up_and_its_container_stopped() -> None:
    container = PretendedContainer(containers.POSTGRES_IMAGE, free_port())
    server = containers.PostgresContainer(lambda _: container, patience=0.3)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match=r"postgres:.* did not answer at 127\.0\.0\.1"):
        server.start()
    assert time.monotonic() - began < 10
    assert container.life == ["started", "stopped"]


def test_a_container_that_does_not_start_says_why() -> None:
    class Broken(PretendedContainer):
        def start(self) -> Self:
            raise RuntimeError("no space left on device")

    server = containers.RedisContainer(lambda image: Broken(image, 1))
    with pytest.raises(ConnectionFailed, match=r"redis:.* did not start: no space left"):
        server.start()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_docker_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(InvalidConfiguration, match="--jts-backend=servers"):
        containers.docker_container(containers.POSTGRES_IMAGE)
    gc.collect()  # docker's client leaves the socket of its vain attempt open


def test_containers_run_the_images_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {name: services[name]["image"] for name in ("clickhouse", "mongodb")} == {
        "clickhouse": containers.CLICKHOUSE_IMAGE,
        "mongodb": containers.MONGO_IMAGE,
    }
    assert services["postgres"]["image"] == containers.POSTGRES_IMAGE
    assert {services[name]["image"] for name in ("redis", "redis-limits")} == {
        containers.REDIS_IMAGE
    }
