"""The asynchronous fixtures for tests of pytest-asyncio, in strict mode or auto.

A fixture is bound to one of its loop scopes, so there is one of each; `plugin` picks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest_asyncio

if TYPE_CHECKING:
    from jts_storage.ports.unit_of_work import UnitOfWork
    from jts_storage.storage import Storage

Scope = Literal["function", "class", "module", "package", "session"]
SCOPES: Final[tuple[Scope, ...]] = ("function", "class", "module", "package", "session")


def _fixtures(scope: Scope) -> dict[str, Any]:
    async def storage(_jts_unopened: Storage) -> AsyncIterator[Storage]:
        async with _jts_unopened:
            yield _jts_unopened

    async def memory(_jts_memory_unopened: Storage) -> AsyncIterator[Storage]:
        async with _jts_memory_unopened:
            yield _jts_memory_unopened

    async def uow(jts_storage: Storage) -> AsyncIterator[UnitOfWork]:
        async with jts_storage.unit_of_work() as unit:
            yield unit

    functions = {"storage": storage, "memory_storage": memory, "uow": uow}
    return {
        f"_jts_{name}_in_{scope}_loop": pytest_asyncio.fixture(
            function, name=f"_jts_{name}_in_{scope}_loop", loop_scope=scope
        )
        for name, function in functions.items()
    }


for _scope in SCOPES:
    globals().update(_fixtures(_scope))
