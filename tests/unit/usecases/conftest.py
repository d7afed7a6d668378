"""An empty storage in memory, for each test that has no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jts_storage import Storage


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with Storage.in_memory() as storage:
        yield storage
