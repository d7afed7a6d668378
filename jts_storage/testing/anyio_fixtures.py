"""The asynchronous fixtures for tests of anyio's plugin, which runs plain asynchronous ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jts_storage.ports.unit_of_work import UnitOfWork
    from jts_storage.storage import Storage


@pytest.fixture
async def _jts_storage_in_anyio(
    anyio_backend: object, _jts_unopened: Storage
) -> AsyncIterator[Storage]:
    async with _jts_unopened:
        yield _jts_unopened


@pytest.fixture
async def _jts_memory_storage_in_anyio(
    anyio_backend: object, _jts_memory_unopened: Storage
) -> AsyncIterator[Storage]:
    async with _jts_memory_unopened:
        yield _jts_memory_unopened


@pytest.fixture
async def _jts_uow_in_anyio(
    anyio_backend: object, jts_storage: Storage
) -> AsyncIterator[UnitOfWork]:
    async with jts_storage.unit_of_work() as unit:
        yield unit
