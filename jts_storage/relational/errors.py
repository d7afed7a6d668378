"""Errors of the drivers and the databases, translated into the kit's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sqlalchemy import exc as sa

from jts_storage._runtime.meanings import UNKNOWN, Meaning
from jts_storage.errors import (
    Conflict,
    ConnectionFailed,
    InvalidData,
    SchemaDrift,
    StorageError,
    came_through,
)

_DRIVERS = ("asyncpg", "aiosqlite", "sqlalchemy", "sqlite3")


_AGAIN = "Another writer changes the same rows; read them again and repeat."
_MIGRATE = "Apply the migrations, or point the configuration at the right database."
_unreachable = Meaning(
    ConnectionFailed, "Check that the server is up and reachable.", repeatable=True
)
_no_primary = Meaning(
    ConnectionFailed,
    "Promote a standby, or ask for another role by target_session_attrs in the URL.",
    repeatable=True,
)
_lost_race = Meaning(Conflict, _AGAIN)
_schema = Meaning(SchemaDrift, _MIGRATE)
_refused = Meaning(ConnectionFailed, "Check the user and the password of the configuration.")
_value = Meaning(InvalidData, "Correct the value; nothing was written.")

POSTGRES: dict[str, Meaning] = {
    "08": _unreachable,
    "22": _value,
    "23": _value,
    "23505": _lost_race,  # unique_violation
    "25006": Meaning(
        remedy="The database is read-only: a standby, which target_session_attrs=read-write in the"
        " URL passes over, or the user may only read."
    ),
    "25P03": _unreachable,  # idle_in_transaction_session_timeout
    "28": _refused,
    "3D000": Meaning(ConnectionFailed, "There is no such database on the server; create it."),
    "3F000": _schema,
    "40": _lost_race,  # serialization_failure, deadlock_detected
    "42501": Meaning(remedy="The user lacks a grant for this statement."),
    "42703": _schema,  # undefined_column
    "42P01": _schema,  # undefined_table
    "42P10": _schema,  # no unique constraint as ON CONFLICT names it
    "42804": _schema,  # datatype_mismatch
    "53300": Meaning(
        ConnectionFailed, "The server has no connection left; lower pool_size.", repeatable=True
    ),
    "53": Meaning(remedy="The server lacks disk, memory or connections; free some."),
    "55P03": _lost_race,  # lock_not_available
    "57014": Meaning(remedy="Ask for less at once, or raise statement_timeout."),
    "57P": _unreachable,  # admin_shutdown, crash_shutdown, cannot_connect_now
}
"""By SQLSTATE or a prefix of it; the longest match wins."""

SQLITE: dict[str, Meaning] = {
    "SQLITE_BUSY": Meaning(Conflict, f"Another writer held the file for too long. {_AGAIN}"),
    "SQLITE_LOCKED": _lost_race,
    "SQLITE_CONSTRAINT": _value,
    "SQLITE_CONSTRAINT_UNIQUE": _lost_race,
    "SQLITE_CONSTRAINT_PRIMARYKEY": _lost_race,
    "SQLITE_CORRUPT": Meaning(remedy="The file is damaged; restore it from a backup."),
    "SQLITE_NOTADB": Meaning(ConnectionFailed, "The file is no SQLite database; check the path."),
    "SQLITE_CANTOPEN": Meaning(ConnectionFailed, "Check that the folder is there and writable."),
    "SQLITE_READONLY": Meaning(remedy="The file or its folder is read-only."),
    "SQLITE_FULL": Meaning(remedy="The disk is full; free some space."),
    "SQLITE_IOERR": Meaning(remedy="The disk failed; nothing of the transaction was stored."),
    "SQLITE_TOOBIG": _value,
}
"""By the name of the result code, or the beginning of an extended one."""

_NO_SUCH = ("no such table", "no such column", "has no column", "ON CONFLICT clause does not")
_OF_NO_ROLE = "None of the hosts match"
"""asyncpg, when each host answers and none is what was asked for, as between two primaries."""
_GONE = ("closed", "lost", "reset", "released", "cannot switch to state")
_LONGEST = 400


def translate(exc: BaseException, *, doing: str, hosts: Sequence[str] = ()) -> StorageError:
    """Our error for a driver's; raise it ``from exc``. Errors of ours come back untouched.

    :param doing: what was tried, such as ``"saving a checkpoint"``.
    :param hosts: server or file, for the message.
    """
    cause = innermost(exc)
    if isinstance(cause, StorageError):
        return cause
    code, meaning = _meaning(cause)
    text = f"{_shown(cause)}."
    return meaning.error(text, store="The database", doing=doing, hosts=hosts, code=code)


def is_driver_error(exc: BaseException) -> bool:
    """Whether a driver or the system raised this, so that it must be translated."""
    if isinstance(exc, sa.SQLAlchemyError | sqlite3.Error | OSError | EOFError):
        return True
    return type(exc).__module__.partition(".")[0] == "asyncpg" or _is_closed_sqlite(exc)


def is_callers(exc: BaseException) -> bool:
    """Whether the caller's own code raised this error of the system, not the driver."""
    return isinstance(exc, OSError | EOFError) and not came_through(exc, *_DRIVERS)


def spares_connection(exc: BaseException, error: StorageError) -> bool:
    """Whether the connection is fit for use after `exc`, which means `error`.

    It is after an error that the database itself reported. After any other error of a driver, and
    after a cancellation, half an answer may be left on the connection.
    """
    if not isinstance(exc, Exception) or isinstance(error, ConnectionFailed):
        return False
    return not is_driver_error(exc) or _is_reported(innermost(exc))


def innermost(exc: BaseException) -> BaseException:
    """The driver's own error below what SQLAlchemy wrapped around it."""
    while True:
        if isinstance(exc, sa.DBAPIError) and exc.orig is not None:
            exc = exc.orig
        elif type(exc).__module__.startswith("sqlalchemy.dialects") and exc.__cause__ is not None:
            exc = exc.__cause__
        else:
            return exc


def _meaning(cause: BaseException) -> tuple[str | None, Meaning]:
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return state, _lookup(POSTGRES, state)
    name = getattr(cause, "sqlite_errorname", None)
    if isinstance(name, str) and name != "SQLITE_ERROR":
        return name, _lookup(SQLITE, name)
    if isinstance(cause, sqlite3.Error):
        drift = any(text in str(cause) for text in _NO_SUCH)
        return name, _schema if drift else UNKNOWN
    if _OF_NO_ROLE in str(cause):
        return None, _no_primary
    if isinstance(cause, OSError | EOFError) or _is_closed(cause):
        return None, _unreachable
    return None, UNKNOWN


def _lookup(table: dict[str, Meaning], code: str) -> Meaning:
    fitting = [known for known in table if code.startswith(known)]
    return table[max(fitting, key=len)] if fitting else UNKNOWN


def _is_reported(cause: BaseException) -> bool:
    return isinstance(cause, sqlite3.Error) or isinstance(getattr(cause, "sqlstate", None), str)


def _is_closed(cause: BaseException) -> bool:
    """asyncpg and aiosqlite report a lost connection in the message only, without a code."""
    text = str(cause)
    if type(cause).__module__.startswith("asyncpg"):
        return any(word in text for word in _GONE)
    return _is_closed_sqlite(cause)


def _is_closed_sqlite(cause: BaseException) -> bool:
    return isinstance(cause, ValueError) and str(cause) in (
        "Connection closed",
        "no active connection",
    )


def _shown(cause: BaseException) -> str:
    text = (str(cause) or type(cause).__name__).partition("\n")[0].strip().rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
