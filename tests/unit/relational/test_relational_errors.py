"""Errors of the drivers in the kit's words."""

from __future__ import annotations

import asyncio
import sqlite3

import asyncpg
import pytest
from sqlalchemy import exc as sa

from jts_storage.errors import (
    Conflict,
    ConnectionFailed,
    InvalidData,
    NotFound,
    SchemaDrift,
    StorageError,
)
from jts_storage.relational.errors import (
    POSTGRES,
    SQLITE,
    innermost,
    is_callers,
    is_driver_error,
    spares_connection,
    translate,
)


@pytest.mark.parametrize(
    ("cause", "kind", "later"),
    [
        (asyncpg.SerializationError("x"), Conflict, False),
        (asyncpg.DeadlockDetectedError("x"), Conflict, False),
        (asyncpg.LockNotAvailableError("x"), Conflict, False),
        (asyncpg.UniqueViolationError("x"), Conflict, False),
        (asyncpg.NotNullViolationError("x"), InvalidData, False),
        (asyncpg.NumericValueOutOfRangeError("x"), InvalidData, False),
        (asyncpg.UndefinedTableError("x"), SchemaDrift, False),
        (asyncpg.UndefinedColumnError("x"), SchemaDrift, False),
        (asyncpg.InvalidPasswordError("x"), ConnectionFailed, False),
        (asyncpg.InvalidCatalogNameError("x"), ConnectionFailed, False),
        (asyncpg.AdminShutdownError("x"), ConnectionFailed, True),
        (asyncpg.CannotConnectNowError("x"), ConnectionFailed, True),
        (asyncpg.TooManyConnectionsError("x"), ConnectionFailed, True),
        (asyncpg.ConnectionDoesNotExistError("x"), ConnectionFailed, True),
        (asyncpg.InterfaceError("connection is closed"), ConnectionFailed, True),
        (
            asyncpg.TargetServerAttributeNotMatched(
                "None of the hosts match the target attribute requirement 'read-write'"
            ),
            ConnectionFailed,
            True,
        ),
        (asyncpg.QueryCanceledError("x"), StorageError, False),
        (asyncpg.DiskFullError("x"), StorageError, False),
        (asyncpg.SyntaxOrAccessError("x"), StorageError, False),
        (ConnectionRefusedError(111, "refused"), ConnectionFailed, True),
        (TimeoutError(), ConnectionFailed, True),
        (sqlite3.OperationalError("no such table: x"), SchemaDrift, False),
        (sqlite3.OperationalError('near "x": syntax error'), StorageError, False),
        (ValueError("no active connection"), ConnectionFailed, True),
    ],
)
def test_each_cause_has_its_kind(cause: Exception, kind: type[StorageError], later: bool) -> None:
    assert is_driver_error(cause)
    error = translate(cause, doing="saving", hosts=("db:5432",))
    assert type(error) is kind
    assert "saving" in str(error)
    assert error.repeatable is later


def test_wrapped_causes_are_found() -> None:
    wrapped = sa.OperationalError("SELECT 1", {}, asyncpg.SerializationError("x"))
    assert type(translate(wrapped, doing="saving")) is Conflict


def test_errors_of_ours_and_of_others_pass() -> None:
    ours = NotFound("gone")
    assert translate(ours, doing="saving") is ours
    assert not is_driver_error(ours)
    assert not is_driver_error(ValueError("a bug"))
    assert not is_driver_error(KeyError("a bug"))


def test_busy_and_full_files_are_told_apart(tmp_path: object) -> None:
    first = sqlite3.connect(f"{tmp_path}/x.db", isolation_level=None)
    second = sqlite3.connect(f"{tmp_path}/x.db", isolation_level=None, timeout=0)
    first.execute("CREATE TABLE x (n INTEGER PRIMARY KEY CHECK (n > 0))")
    with pytest.raises(sqlite3.IntegrityError) as check:
        first.execute("INSERT INTO x VALUES (0)")
    assert type(translate(check.value, doing="saving")) is InvalidData
    first.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as busy:
        second.execute("BEGIN IMMEDIATE")
    assert type(translate(busy.value, doing="saving")) is Conflict
    first.close()
    second.close()


AGAIN = "Another writer changes the same rows; read them again and repeat."
REACH = "Check that the server is up and reachable."
DRIFT = "Apply the migrations, or point the configuration at the right database."
VALUE = "Correct the value; nothing was written."
REFUSED = "Check the user and the password of the configuration."
NO_DATABASE = "There is no such database on the server; create it."

STATES: dict[str, tuple[type[StorageError], str, bool]] = {
    **dict.fromkeys(("08", "08006", "25P03", "57P", "57P01"), (ConnectionFailed, REACH, True)),
    **dict.fromkeys(("22", "22003", "23", "23502"), (InvalidData, VALUE, False)),
    **dict.fromkeys(("23505", "40", "40001", "40P01", "55P03"), (Conflict, AGAIN, False)),
    **dict.fromkeys(("3F000", "42703", "42P01", "42P10", "42804"), (SchemaDrift, DRIFT, False)),
    **dict.fromkeys(("28", "28P01"), (ConnectionFailed, REFUSED, False)),
    "3D000": (ConnectionFailed, NO_DATABASE, False),
    "25006": (StorageError, "The database is read-only", False),
    "42501": (StorageError, "lacks a grant", False),
    "53300": (ConnectionFailed, "no connection left", True),
    **dict.fromkeys(("53", "53100"), (StorageError, "lacks disk", False)),
    "57014": (StorageError, "raise statement_timeout", False),
    "42601": (StorageError, "The database refused", False),
}

NAMES: dict[str, tuple[type[StorageError], str]] = {
    **dict.fromkeys(
        ("SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT"),
        (Conflict, f"Another writer held the file for too long. {AGAIN}"),
    ),
    "SQLITE_LOCKED": (Conflict, AGAIN),
    "SQLITE_CONSTRAINT_UNIQUE": (Conflict, AGAIN),
    "SQLITE_CONSTRAINT_PRIMARYKEY": (Conflict, AGAIN),
    **dict.fromkeys(
        ("SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_CHECK", "SQLITE_TOOBIG"), (InvalidData, VALUE)
    ),
    "SQLITE_CORRUPT": (StorageError, "The file is damaged"),
    "SQLITE_NOTADB": (ConnectionFailed, "The file is no SQLite database"),
    "SQLITE_CANTOPEN": (ConnectionFailed, "Check that the folder is there"),
    "SQLITE_READONLY": (StorageError, "is read-only"),
    "SQLITE_FULL": (StorageError, "The disk is full"),
    "SQLITE_IOERR": (StorageError, "The disk failed"),
    "SQLITE_MISMATCH": (StorageError, "The database refused"),
}


def postgres_error(state: str, text: str = "no") -> Exception:
    error = asyncpg.PostgresError(text)
    setattr(error, "sqlstate", state)  # noqa: B010 - asyncpg has a class for each
    return error


def sqlite_error(name: str, text: str = "no") -> sqlite3.Error:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    return error


def test_the_tables_hold_the_codes_that_are_known() -> None:
    assert POSTGRES.keys() <= STATES.keys()
    assert SQLITE.keys() <= NAMES.keys()


@pytest.mark.parametrize(("state", "wanted"), STATES.items())
def test_each_state_of_postgresql(state: str, wanted: tuple[type[StorageError], str, bool]) -> None:
    kind, remedy, later = wanted
    error = translate(postgres_error(state), doing="saving")
    assert type(error) is kind
    assert remedy in str(error)
    assert error.code == state
    assert error.repeatable is later


@pytest.mark.parametrize(("name", "wanted"), NAMES.items())
def test_each_code_of_sqlite(name: str, wanted: tuple[type[StorageError], str]) -> None:
    kind, remedy = wanted
    error = translate(sqlite_error(name), doing="saving")
    assert type(error) is kind
    assert remedy in str(error)
    assert error.code == name
    assert not error.repeatable


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("no such table: x", SchemaDrift),
        ("no such column: x", SchemaDrift),
        ("table x has no column named y", SchemaDrift),
        ("ON CONFLICT clause does not match any PRIMARY KEY", SchemaDrift),
        ('near "x": syntax error', StorageError),
    ],
)
@pytest.mark.parametrize("name", ["SQLITE_ERROR", None])
def test_what_sqlite_says_in_words_only(
    text: str, kind: type[StorageError], name: str | None
) -> None:
    error = sqlite3.OperationalError(text)
    if name is not None:
        error.sqlite_errorname = name
    translated = translate(error, doing="saving")
    assert type(translated) is kind
    assert translated.code == name


@pytest.mark.parametrize(
    "text", ["closed", "lost", "reset", "released", "cannot switch to state 3"]
)
def test_what_asyncpg_says_in_words_only(text: str) -> None:
    error = translate(asyncpg.InterfaceError(text), doing="saving")
    assert type(error) is ConnectionFailed
    assert error.code is None
    assert type(translate(asyncpg.InterfaceError("odd"), doing="saving")) is StorageError


@pytest.mark.parametrize("text", ["Connection closed", "no active connection"])
def test_what_aiosqlite_says_in_words_only(text: str) -> None:
    assert is_driver_error(ValueError(text))
    assert type(translate(ValueError(text), doing="saving")) is ConnectionFailed
    assert type(translate(TypeError(text), doing="saving")) is StorageError


def test_messages_say_what_was_tried_on_what() -> None:
    lost = translate(ConnectionResetError("reset"), doing="saving", hosts=("a:1", "b:2"))
    assert isinstance(lost, ConnectionFailed)
    assert lost.hosts == ("a:1", "b:2")
    assert str(lost) == f"The database connection failed at saving (tried a:1, b:2): reset. {REACH}"
    assert "(tried no host)" in str(translate(EOFError(), doing="saving"))
    assert str(translate(postgres_error("42601", "odd.\nDETAIL: x"), doing="saving")) == (
        "The database refused saving (code 42601): odd."
    )
    assert str(translate(postgres_error("22003", ""), doing="saving")) == (
        f"The database refused saving: PostgresError. {VALUE}"
    )


def test_long_texts_are_shortened() -> None:
    for length, shown in ((400, "x" * 400), (401, "x" * 400 + "...")):
        error = translate(postgres_error("42601", "x" * length), doing="saving")
        assert str(error) == f"The database refused saving (code 42601): {shown}."


def test_whose_an_error_of_the_system_is() -> None:
    """By the packages it came through: the driver's own reads fail with the same errors."""
    try:
        raise TimeoutError("the caller's")
    except TimeoutError as exc:
        ours = exc
    assert is_callers(ours)
    assert not is_callers(ValueError("no error of the system"))
    for package in ("asyncpg", "aiosqlite", "sqlalchemy", "sqlite3"):
        frame = {"__name__": f"{package}.connection"}
        with pytest.raises(OSError, match="below") as caught:
            exec("raise OSError('below')", frame)
        assert not is_callers(caught.value), package
    with pytest.raises(EOFError) as ended:
        exec("raise EOFError", {"__name__": "somebody"})
    assert is_callers(ended.value)


@pytest.mark.parametrize(
    ("exc", "spared"),
    [
        (postgres_error("23505"), True),
        (sqlite_error("SQLITE_BUSY"), True),
        (KeyError("a bug of the caller"), True),
        (postgres_error("57P01"), False),  # the server ended it
        (asyncpg.InterfaceError("another operation is in progress"), False),
        (sa.InvalidRequestError("odd"), False),
        (sa.OperationalError("SELECT 1", {}, postgres_error("40001")), True),
        (ConnectionResetError(), False),
        (asyncio.CancelledError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_which_errors_leave_a_connection_fit_for_use(exc: BaseException, spared: bool) -> None:
    assert spares_connection(exc, translate(exc, doing="saving")) is spared


def test_the_innermost_error_is_found_whatever_lies_around_it() -> None:
    inner = postgres_error("40001")
    adapted = type("Error", (Exception,), {"__module__": "sqlalchemy.dialects.postgresql"})("x")
    adapted.__cause__ = inner
    assert innermost(sa.OperationalError("SELECT 1", {}, adapted)) is inner
    bare = type("Error", (Exception,), {"__module__": "sqlalchemy.dialects.postgresql"})("x")
    assert innermost(bare) is bare
    other = Exception("x")
    other.__cause__ = inner
    assert innermost(other) is other


@pytest.mark.parametrize(
    ("exc", "is_drivers"),
    [
        (sa.InvalidRequestError("x"), True),
        (sqlite3.ProgrammingError("x"), True),
        (asyncpg.InterfaceError("x"), True),
        (OSError(), True),
        (EOFError(), True),
        (ValueError("closed"), False),
        (StorageError("x"), False),
    ],
)
def test_what_comes_from_below(exc: BaseException, is_drivers: bool) -> None:
    assert is_driver_error(exc) is is_drivers
