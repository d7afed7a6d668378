"""Loading the engine and the drivers side by side, before anything needs them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.settings import ClickHouseConfig

_CLICKHOUSE: Final = "jts_storage.clickhouse.manager"
_LIBRARIES: Final = "_chdb*.so"
_RTLD_DEEPBIND: Final = 0x8
"""As chDB opens its library: what both define is the library's own there."""


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
        _open_library()
        import_module("chdb")


def _open_library() -> None:
    """Open the 550 MB of chDB's library while other threads run.

    chDB holds the interpreter as it opens it, but for a library that is open already it is done at
    once. It opens it itself where this did not.
    """
    spec = find_spec("chdb") if sys.platform == "linux" else None
    places = spec.submodule_search_locations if spec is not None else None
    for library in (found for place in places or () for found in Path(place).glob(_LIBRARIES)):
        dlopen = ctypes.CDLL(None).dlopen  # called as any C function, which holds nothing up
        dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
        dlopen.restype = ctypes.c_void_p
        dlopen(os.fsencode(library), sys.getdlopenflags() | _RTLD_DEEPBIND)
