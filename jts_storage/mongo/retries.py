"""Repetitions of what the driver does not repeat by itself.

The driver repeats an operation once, on another server if need be. It does not repeat a read that
breaks in its middle, a write of many documents, nor anything a second time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from decimal import DecimalException
from typing import Final, TypeAlias, TypeVar

from bson.errors import BSONError
from pymongo.errors import PyMongoError
from tenacity import AsyncRetrying

from jts_storage._runtime.retries import repetitions
from jts_storage.errors import StorageError
from jts_storage.mongo.config import MongoDBConfig
from jts_storage.mongo.errors import translate

T = TypeVar("T")

Operation: TypeAlias = Callable[[], Awaitable[T]]

DRIVER_ERRORS: Final = (
    PyMongoError,
    BSONError,
    OSError,
    OverflowError,
    UnicodeError,
    DecimalException,
)
"""Everything the driver raises for what it was given or met; none of them may leave the kit."""

_log = logging.getLogger(__name__)


class Retries:
    """Runs operations, repeats them as the configuration says, and translates their errors."""

    def __init__(self, config: MongoDBConfig, hosts: Sequence[str]) -> None:
        self._config = config
        self._hosts = hosts

    async def once(self, doing: str, operation: Operation[T]) -> T:
        """Run `operation` without repeating it.

        :raises StorageError: in place of whatever the driver raised.
        """
        return await self._attempt(doing, operation)

    async def repeat(
        self, doing: str, operation: Operation[T], again: Operation[T] | None = None
    ) -> T:
        """Run `operation`; where its outcome is unknown or the server was not ready, run it again.

        :param again: what to run instead from the second attempt on, for an operation that must
            first find out what became of the one before.
        """
        try:
            return await self._attempt(doing, operation)
        except StorageError as exc:
            if not (self._config.max_retries and exc.repeatable):
                raise
            _log.warning("repeating %s after %s", doing, type(exc.__cause__).__name__)
        repeating = AsyncRetrying(
            **repetitions(self._config, self._config.max_retries, doing=doing)
        )
        return await repeating(self._attempt, doing, again or operation)

    async def _attempt(self, doing: str, operation: Operation[T]) -> T:
        try:
            return await operation()
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing=doing, hosts=self._hosts) from exc
