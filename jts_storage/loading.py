"""Loading the engine and the drivers side by side, before anything needs them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

from jts_storage.loading_internals import import_engine

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.settings import ClickHouseConfig

_CLICKHOUSE: Final = "jts_storage.clickhouse.manager"


async def loaded_clickhouse(config: ClickHouseConfig) -> ClickHouseManager:
    """A manager, not connected yet; engine and drivers are imported side by side."""
    drivers = asyncio.to_thread(import_module, _CLICKHOUSE)
    if config.is_embedded:
        await asyncio.gather(asyncio.to_thread(_load_engine), drivers)
    else:
        await drivers
    from jts_storage.clickhouse.manager import ClickHouseManager

    return ClickHouseManager(config)


def _load_engine() -> None:
    """Load the library of the embedded engine; that it is missing is told as it opens."""
    with suppress(ImportError):
        import_engine()
