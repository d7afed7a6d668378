"""What a test opened and did not close: units of work, storages, pooled connections."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import sysconfig
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Self

from jts_storage.errors import StorageError
from jts_storage.storage import Storage

if TYPE_CHECKING:
    from jts_storage.ports.unit_of_work import UnitOfWork
    from jts_storage.testing.address import Address

_NOT_A_TEST: Final = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"))
_PATIENCE: Final = 1.0


class Watch:
    """Records every storage of the process while it is entered, blocking twins included."""

    def __init__(self) -> None:
        self._units: list[tuple[UnitOfWork, str]] = []
        self._storages: dict[Storage, str] = {}
        self._connections: list[str] = []
        self._original: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name, seen in {
            "unit_of_work": self._unit_of_work,
            "open_stores": self._open_stores,
            "close": self._close,
        }.items():
            self._original[name] = getattr(Storage, name)
            setattr(Storage, name, _method(seen, self._original[name]))
        return self

    def __exit__(self, *_: object) -> None:
        for name, original in self._original.items():
            setattr(Storage, name, original)

    def left_open(self) -> list[str]:
        """What is still open, each with the place in the test where it began."""
        return [
            *(f"a unit of work begun{place}" for uow, place in self._units if _in_use(uow)),
            *(f"a storage opened{place}" for s, place in self._storages.items() if _is_open(s)),
            *self._connections,
        ]

    def forget(self) -> None:
        """Let go of what is still open, its event loop being gone, without a word about it: the
        test that left it has failed, and the next one shall not be blamed."""
        self._units.clear()
        self._storages.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()

    def check_address(self, name: str, address: Address, before: int) -> None:
        """Note connections to `address` that are more than `before` and do not end soon."""
        give_up = time.monotonic() + _PATIENCE
        while address.open_connections > before:
            if time.monotonic() > give_up:
                count = address.open_connections - before
                self._connections.append(f"{_counted(count)} to {name}")
                return
            time.sleep(0.005)

    def _unit_of_work(self, original: Any, storage: Storage, **options: Any) -> UnitOfWork:
        unit: UnitOfWork = original(storage, **options)
        self._units.append((unit, _place()))
        return unit

    async def _open_stores(self, original: Any, storage: Storage) -> None:
        self._storages[storage] = _place()
        await original(storage)

    async def _close(self, original: Any, storage: Storage) -> None:
        if _is_open(storage):
            self._connections += await _held_connections(storage)
        await original(storage)


def _method(seen: Any, original: Any) -> Any:
    if inspect.iscoroutinefunction(original):

        async def asynchronous(storage: Storage) -> None:
            await seen(original, storage)

        return asynchronous

    def blocking(storage: Storage, **options: Any) -> Any:
        return seen(original, storage, **options)

    return blocking


def _in_use(unit: UnitOfWork) -> bool:
    """Whether the unit of work is open: after its end, by its contract, every use raises."""
    try:
        _ = unit.events
    except StorageError:
        return False
    return True


def _is_open(storage: Storage) -> bool:
    try:
        _ = storage.candles
    except StorageError:
        return False
    return True


async def _held_connections(storage: Storage) -> list[str]:
    """Return the pooled connections in use, after those that are ending had time to end."""
    give_up = time.monotonic() + _PATIENCE
    while held := _held(storage):
        if time.monotonic() > give_up:
            break
        await asyncio.sleep(0.005)
    return [f"{_counted(count)} to {name}" for name, count in held.items()]


def _held(storage: Storage) -> dict[str, int]:
    stores = getattr(storage._backend, "stores", None)  # noqa: SLF001 - it has no public name
    if stores is None:
        return {}
    pool = stores.database._pool  # noqa: SLF001 - asking for it would make one
    counts = {
        "ClickHouse": stores.clickhouse.pool_status().in_use,
        "the bookkeeping": pool.active_connections if pool is not None else 0,
    }
    return {name: count for name, count in counts.items() if count}


def _counted(count: int) -> str:
    return f"{count} connection{'s' * (count != 1)}"


def _place() -> str:
    """Return the line of the test that made the current call, as " at file:line".

    Empty where a blocking twin serves the call in a thread of its own: its stack does not show it.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to it
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_A_TEST):
        frame = frame.f_back
    if frame is None:
        return ""
    return f" at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
