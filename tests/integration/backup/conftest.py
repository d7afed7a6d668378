"""Storages whose backups are made and restored, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jts_storage import StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from tests.prepared import Prepared


@pytest.fixture(scope="module")
def mongod(shared_mongod: LocalMongod) -> LocalMongod:
    return shared_mongod


@pytest.fixture
def settings(fresh_settings: StorageSettings) -> StorageSettings:
    return fresh_settings


@pytest.fixture
def empty_settings(prepared: Prepared, tmp_path: Path) -> Iterator[StorageSettings]:
    """Of other stores, which are up to date and empty, to restore into."""
    with prepared.stores(tmp_path / "empty") as settings:
        yield settings


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Apart from the data folder of a test, which is all of its own folder."""
    return tmp_path_factory.mktemp("backups") / "repository"
