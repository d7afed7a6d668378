"""Transactions as repositories see them: one at a time through a session, none after its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError
from tenacity import AsyncRetrying

from jts_storage._runtime.lifetime import Lifetime
from jts_storage._runtime.retries import repetitions
from jts_storage.errors import (
    ConnectionFailed,
    InvalidConfiguration,
    StorageError,
    outcome_unknown,
)
from jts_storage.mongo.errors import ends_a_transaction, translate
from jts_storage.mongo.manager import MongoDBManager

if TYPE_CHECKING:
    from jts_storage.mongo.revisions import Revisions

T = TypeVar("T")

_UNKNOWN: Final = "UnknownTransactionCommitResult"
_COMMIT_ATTEMPTS: Final = 3
_ATTEMPTS_PER_RETRY: Final = 10
"""A transaction that lost against another is over in a millisecond: it may try more often."""
_FIRST_PAUSE: Final = 0.01
_NO_TRANSACTIONS: Final = 20

_log = logging.getLogger(__name__)


class Transaction:
    """The transaction of a unit of work, which all its repositories share.

    A session takes one operation at a time, and one that begins after the commit would be stored
    at once. So every operation runs in `exclusive`.
    """

    def __init__(
        self,
        session: AsyncClientSession,
        lifetime: Lifetime | None = None,
        revisions: Revisions | None = None,
        before_all: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """
        :param before_all: done once, before the first operation.
        :param lifetime: ended before the commit begins.
        :param revisions: where documents that have a history are noted as they change.
        """
        self.session = session
        self.revisions = revisions
        self._lifetime, self._before_all = lifetime or Lifetime(), before_all
        self.written: set[str] = set()
        """The collections that it writes to."""
        self.lock = asyncio.Lock()
        self.holder: asyncio.Task[object] | None = None

    def exclusive(self) -> AbstractAsyncContextManager[AsyncClientSession]:
        """Hold the session for one operation, or for several that belong together.

        Within the block the same task may enter it again.

        :raises StorageError: the unit of work is over.
        """
        return _Exclusive(self, self._lifetime)

    async def begin(self) -> None:
        """Do what comes before the first operation."""
        if self._before_all is not None:
            await self._before_all()
            self._before_all = None

    async def ended(self) -> None:
        """Wait for the operation that was running when the lifetime ended."""
        async with self.lock:
            pass


class _Exclusive:
    """A class, since each save asks thrice, and a generator takes three times as long."""

    __slots__ = ("_is_nested", "_lifetime", "_transaction")

    def __init__(self, transaction: Transaction, lifetime: Lifetime) -> None:
        self._transaction, self._lifetime = transaction, lifetime
        self._is_nested = False

    async def __aenter__(self) -> AsyncClientSession:
        transaction = self._transaction
        self._lifetime.check()
        task = asyncio.current_task()
        self._is_nested = transaction.holder is task
        if not self._is_nested:
            await transaction.lock.acquire()
            try:
                self._lifetime.check()
                await transaction.begin()
            except BaseException:
                transaction.lock.release()
                raise
            transaction.holder = task
        return transaction.session

    async def __aexit__(self, *_: object) -> None:
        if not self._is_nested:
            self._transaction.holder = None
            self._transaction.lock.release()


async def in_own_transaction(
    manager: MongoDBManager, doing: str, work: Callable[[Transaction | None], Awaitable[T]]
) -> T:
    """Run `work` in a short transaction and commit it; again, where the server broke it off.

    :param work: may be called several times. It gets None from a server without transactions.
    :raises ConnectionFailed: whether it is stored is unknown, as it says.
    """
    if not manager.has_transactions:
        return await work(None)
    config = manager.config
    retrying = AsyncRetrying(
        **repetitions(
            config,
            1 + config.max_retries * _ATTEMPTS_PER_RETRY,
            doing=doing,
            worth=_was_broken_off,
            first_pause=_FIRST_PAUSE,
        )
    )

    async def attempt() -> T:
        return await _attempt(manager, doing, work)

    try:
        return await retrying(attempt)
    except InvalidConfiguration as exc:
        if getattr(exc.__cause__, "code", None) != _NO_TRANSACTIONS:
            raise
    # Asked once: the next save goes without a transaction from the start.
    manager.has_transactions = False
    _log.warning(
        "MongoDB at %s has no transactions: nothing keeps a formula from being deleted while a"
        " strategy that uses it is saved.",
        ", ".join(manager.hosts),
    )
    return await work(None)


async def _attempt(
    manager: MongoDBManager, doing: str, work: Callable[[Transaction | None], Awaitable[T]]
) -> T:
    async with manager.client.start_session() as session:
        await session.start_transaction()
        result = await work(Transaction(session))
        await commit_alone(manager, session, doing)
        return result


async def commit(manager: MongoDBManager, session: AsyncClientSession, doing: str) -> None:
    """Commit; where the answer was lost, ask again: the server commits a transaction once.

    :raises StorageError: of which `may_be_committed` tells whether it is stored all the same.
    """
    for attempt in range(1, _COMMIT_ATTEMPTS + 1):
        try:
            await session.commit_transaction()
        except PyMongoError as exc:
            # The server recognises the transaction, and says again what became of it.
            if exc.has_error_label(_UNKNOWN) and attempt < _COMMIT_ATTEMPTS:
                continue
            raise translate(exc, doing=doing, hosts=manager.hosts) from exc
        return


async def commit_alone(manager: MongoDBManager, session: AsyncClientSession, doing: str) -> None:
    """Commit what touches MongoDB alone.

    :raises ConnectionFailed: whether it is stored is unknown, as it says.
    """
    try:
        await commit(manager, session, doing)
    except StorageError as exc:
        if may_be_committed(exc):
            raise outcome_unknown(exc) from exc
        raise


def may_be_committed(failure: StorageError) -> bool:
    """Return whether a commit that failed so may be stored all the same, now or in a moment."""
    cause = failure.__cause__
    if isinstance(cause, PyMongoError) and cause.has_error_label(_UNKNOWN):
        return True
    return isinstance(failure, ConnectionFailed)


def _was_broken_off(exc: BaseException) -> bool:
    cause = exc.__cause__
    return (
        isinstance(exc, StorageError) and isinstance(cause, Exception) and ends_a_transaction(cause)
    )
