"""Fixtures of servers, made for a session or a module by who needs one: `pytest.fixture(...)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jts_storage.local_servers.mongod import LocalMongod


def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    with LocalMongod.acquire(tmp_path_factory.mktemp("mongod")) as server:
        engine_used("mongod")
        yield server
