"""The kit's errors for those of the driver, the server and the embedded engine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from clickhouse_driver import errors as driver
from sqlalchemy import exc as sa

from jts_storage._runtime.meanings import UNKNOWN, Meaning
from jts_storage.clickhouse import dbapi_errors
from jts_storage.errors import (
    ConnectionFailed,
    InvalidConfiguration,
    PoolTimeout,
    SchemaDrift,
    StorageError,
)

_MIGRATE = "Apply the migrations, or point the configuration at the right database."
_CREDENTIALS = "Check the user and the password of the configuration."
_KEEPER = "The cluster's coordination is not available right now; it is tried again."
_unreachable = Meaning(
    ConnectionFailed, "Check that the server is up and reachable.", repeatable=True
)
_shard_away = Meaning(
    ConnectionFailed,
    "The server that was asked could not reach another one of its cluster, which the text names:"
    " bring that one back. Reads are refused meanwhile, for they would lack its rows.",
    repeatable=True,
)
_schema = Meaning(SchemaDrift, _MIGRATE)
_refused = Meaning(ConnectionFailed, _CREDENTIALS)
_keeper = Meaning(remedy=_KEEPER, repeatable=True)
_disk_full = Meaning(remedy="The disk is full; free some space, and write again.")

_OUT_OF_MEMORY = 241

MEANINGS: dict[int, Meaning] = {
    10: _schema,  # NOT_FOUND_COLUMN_IN_BLOCK
    16: _schema,  # NO_SUCH_COLUMN_IN_TABLE
    47: _schema,  # UNKNOWN_IDENTIFIER
    60: _schema,  # UNKNOWN_TABLE
    81: _schema,  # UNKNOWN_DATABASE
    62: Meaning(remedy="Correct the statement; it is not repeated."),
    115: Meaning(InvalidConfiguration, "The server knows no such setting; remove it."),
    159: Meaning(remedy="Ask for less at once, or raise max_execution_time."),
    160: Meaning(remedy="Ask for less at once, or raise max_execution_time."),
    164: Meaning(remedy="The user or the connection may only read; use one that may write."),
    242: Meaning(remedy="The table is read-only until its replica recovers.", repeatable=True),
    192: _refused,
    193: _refused,
    194: _refused,
    516: _refused,  # AUTHENTICATION_FAILED
    195: Meaning(ConnectionFailed, "The server admits no connections from this address."),
    201: Meaning(remedy="The user's quota is spent; wait, or raise it."),
    202: Meaning(remedy="The server is busy; lower pool_size or raise its limit.", repeatable=True),
    203: _unreachable,
    209: _unreachable,  # SOCKET_TIMEOUT
    210: _unreachable,  # NETWORK_ERROR
    279: _shard_away,  # ALL_CONNECTION_TRIES_FAILED
    519: _shard_away,  # NO_REMOTE_SHARD_AVAILABLE
    198: Meaning(
        ConnectionFailed, "The host's name cannot be resolved; check it.", repeatable=True
    ),
    100: _unreachable,  # UNKNOWN_PACKET_FROM_SERVER: whoever answers speaks no ClickHouse
    102: _unreachable,
    236: Meaning(
        remedy="The server gave up the statement, as it does at shutdown.", repeatable=True
    ),
    _OUT_OF_MEMORY: Meaning(
        remedy="Ask for less at once, write smaller batches, or raise max_memory_usage."
    ),
    243: _disk_full,
    252: Meaning(remedy="Write fewer and larger batches; merges lag behind.", repeatable=True),
    225: _keeper,
    999: _keeper,  # KEEPER_EXCEPTION
    285: _keeper,  # TOO_FEW_LIVE_REPLICAS
    319: _keeper,  # UNKNOWN_STATUS_OF_INSERT
    291: Meaning(remedy="The user has no rights on this database; grant them."),
    497: Meaning(remedy="The user lacks a grant for this statement."),
}
"""Server codes with a meaning of their own; any other is a plain `StorageError` with its code."""

_OF_VALUES = (
    driver.TypeMismatchError,
    driver.TooLargeStringSize,
    driver.UnknownTypeError,
    driver.CannotParseUuidError,
    driver.CannotParseDomainError,
    driver.LogicalError,  # a value that an Enum does not have
)
"""About values, and found on this side: the driver itself leaves nothing half sent."""

_FROM_OUTSIDE = (driver.Error, dbapi_errors.Error, sa.SQLAlchemyError, OSError, EOFError)
# chDB puts the code twice before the text of some errors.
_EXCEPTION = r"(?:DB::Exception:\s*)?"
_CODE = re.compile(rf"Code:\s*(\d+)\.\s*{_EXCEPTION}(?:Code:\s*\1\.\s*{_EXCEPTION})?")
_NO_SPACE = "No space left on device"  # has no code of its own where a file cannot be made
_MEMORY_LIMIT_TOTAL = "(total)"
_LONGEST = 600


class EmbeddedError(driver.ServerException):  # type: ignore[misc]
    """An error of the embedded engine, shaped like the one a server would have sent."""

    @classmethod
    def parse(cls, text: str) -> EmbeddedError:
        found = _CODE.search(text)
        if found is None:
            return cls(text, 1002)  # ClickHouse's own code for an unknown exception
        return cls(text[found.end() :], int(found[1]))


def translate(exc: BaseException, *, doing: str, hosts: Sequence[str] = ()) -> StorageError:
    """Our error for a driver's; raise it ``from exc``. Errors of ours come back untouched.

    :param doing: what was tried, such as ``"reading candles"``.
    :param hosts: the hosts of the configuration, for the message.
    """
    cause = _innermost(exc)
    if isinstance(cause, StorageError):
        return cause
    if isinstance(cause, sa.TimeoutError):
        return PoolTimeout(
            f"No free ClickHouse connection for {doing}: the pool stayed busy.",
            remedy="Raise pool_size or pool_timeout, or hold connections for less long.",
        )
    if isinstance(cause, driver.PartiallyConsumedQueryError):
        return StorageError(
            f"ClickHouse refused {doing}: the connection still carries an unfinished result.",
            remedy="Read the stream to its end or close it first.",
        )
    if isinstance(cause, driver.Error):
        return _from_code(cause, doing, hosts)
    if isinstance(cause, OSError | EOFError):
        what = shown(cause)
        return _unreachable.error(what, store="ClickHouse", doing=doing, hosts=hosts)
    return StorageError(f"ClickHouse failed at {doing}: {shown(cause)}")


def is_disconnect(exc: BaseException) -> bool:
    """Return whether the connection that raised this can carry nothing more."""
    cause = _innermost(exc)
    if isinstance(cause, (driver.ServerException, *_OF_VALUES)):
        return False
    return isinstance(cause, OSError | EOFError | driver.Error)


@contextmanager
def translated(doing: str, hosts: Sequence[str] = ()) -> Iterator[None]:
    """Let nothing but the kit's errors out of the block."""
    try:
        yield
    except StorageError:
        raise
    except _FROM_OUTSIDE as exc:
        error = translate(exc, doing=doing, hosts=hosts)
        raise error from (error.__cause__ if error is _innermost(exc) else exc)


def _from_code(cause: driver.Error, doing: str, hosts: Sequence[str]) -> StorageError:
    code, what = cause.code, shown(cause)
    meaning = MEANINGS.get(code, _disk_full if _NO_SPACE in what else UNKNOWN)
    if code == _OUT_OF_MEMORY and _MEMORY_LIMIT_TOTAL in what:
        meaning = replace(meaning, repeatable=True)  # of all that runs there, not of this statement
    return meaning.error(what, store="ClickHouse", doing=doing, hosts=hosts, code=code)


def _innermost(exc: BaseException) -> BaseException:
    """The driver's own error below what SQLAlchemy and the connector wrapped around it."""
    while True:
        if isinstance(exc, sa.DBAPIError) and exc.orig is not None:
            exc = exc.orig
        elif isinstance(exc, dbapi_errors.Error) and exc.__cause__ is not None:
            exc = exc.__cause__
        else:
            return exc


def shown(cause: BaseException) -> str:
    """Return what an error of the driver says, without the stack of the server."""
    text = getattr(cause, "message", None) or str(cause) or type(cause).__name__
    text = str(text).partition("Stack trace:")[0].strip()
    if isinstance(cause, EOFError):
        text = "the server closed the connection"
    if len(text) > _LONGEST:
        return f"{text[:_LONGEST]}..."
    return text if text.endswith((".", "!", "?")) else f"{text}."
