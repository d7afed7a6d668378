"""A cluster of two shards, and stores whose candles lie on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from jts_storage import StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.testing.backends import Stack
from tests.integration.cluster.played import played
from tests.integration.cluster.servers import Shards
from tests.prepared import stack_of


@pytest.fixture(scope="session")
def shards(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[Shards]:
    with Shards(tmp_path_factory.mktemp("shards")) as shards, played(shards):
        engine_used("two servers of chDB's engine as shards")
        yield shards


@pytest.fixture(scope="session")
def sharded(
    shards: Shards, shared_mongod: LocalMongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """All stores, up to date: candles and symbols on the cluster."""
    settings = StorageSettings(
        clickhouse_url=SecretStr(shards.url("jts")),
        mongo_url=SecretStr(shared_mongod.uri),
        mongo_database="sharded_test",
    )
    stack = stack_of(settings, tmp_path_factory.mktemp("sharded"))
    yield stack
    stack.close()
