"""Errors of the drivers in the kit's words."""

from __future__ import annotations

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
from jts_storage.relational.errors import is_driver_error, is_later, translate


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
    assert is_later(error) is later


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
