"""All that the kit uses of Motor and PyMongo beside what they document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient

DEPENDS_ON = {
    "motor.core:AgnosticBase": ("delegate",),
    "pymongo.synchronous.mongo_client:MongoClient": ("_init_kwargs", "_seeds"),
}
"""What is used of a class; an attribute counts that its ``__init__`` sets."""

_MOTORS_OWN = frozenset({"io_loop", "driver"})


def opened_with(motor_client: AsyncIOMotorClient[Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments that a Motor client was made with, and its hosts.

    Neither Motor nor PyMongo offers them: without these names nobody can open a second client like
    the first.
    """
    delegate = motor_client.delegate
    given = {k: v for k, v in delegate._init_kwargs.items() if k not in _MOTORS_OWN}  # noqa: SLF001
    return given, tuple(f"{host}:{port}" for host, port in sorted(delegate._seeds))  # noqa: SLF001
