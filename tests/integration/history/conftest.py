"""A storage on an engine of its own, and a database of its own of the mongod of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.unit_of_work import clock
from tests.prepared import Prepared


@pytest.fixture
async def storage(fresh_settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage.open(fresh_settings) as storage:
        yield storage


@pytest.fixture
def held_mongod(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """That of the folder, held here: those who are killed do not start it each."""
    prepared.copy(tmp_path)
    # What the engine of a dead process had not stored is on its way no more.
    monkeypatch.setattr(clock, "LANDING", timedelta(seconds=0.1))
    with LocalMongod.acquire(tmp_path / "mongo"):
        yield
