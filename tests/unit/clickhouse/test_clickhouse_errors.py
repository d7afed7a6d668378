"""What drivers report, in the kit's words."""

from __future__ import annotations

import socket

import pytest
from clickhouse_driver import errors as driver
from sqlalchemy import exc as sa

from jts_storage.clickhouse.errors import (
    EmbeddedError,
    WrappedDriverError,
    is_disconnect,
    is_retryable,
    translate,
    translated,
)
from jts_storage.errors import (
    ConnectionFailed,
    InvalidConfiguration,
    NotFound,
    PoolTimeout,
    SchemaDrift,
    StorageError,
)


@pytest.mark.parametrize(
    ("code", "kind", "again"),
    [
        (60, SchemaDrift, False),
        (47, SchemaDrift, False),
        (16, SchemaDrift, False),
        (81, SchemaDrift, False),
        (62, StorageError, False),
        (115, InvalidConfiguration, False),
        (159, StorageError, False),
        (164, StorageError, False),
        (193, ConnectionFailed, False),
        (516, ConnectionFailed, False),
        (202, StorageError, True),
        (241, StorageError, False),
        (242, StorageError, True),
        (252, StorageError, True),
        (999, StorageError, True),
        (4321, StorageError, False),
    ],
)
def test_a_servers_code(code: int, kind: type[StorageError], again: bool) -> None:
    failure = driver.ServerException("DB::Exception: no. Stack trace:\n\n0. f()", code)
    error = translate(failure, doing="reading candles", hosts=("h:9000",))
    assert type(error) is kind
    assert "Stack trace" not in str(error)
    assert "reading candles" in str(error)
    assert is_retryable(error) is again
    if kind is not InvalidConfiguration:
        assert error.code == code


def test_a_server_short_of_memory_as_a_whole_may_have_some_later() -> None:
    total = driver.ServerException("Memory limit (total) exceeded", 241)
    query = driver.ServerException("Memory limit (for query) exceeded", 241)
    assert is_retryable(translate(total, doing="x"))
    assert not is_retryable(translate(query, doing="x"))
    assert "smaller batches" in str(translate(query, doing="x"))


def test_a_lost_connection_names_the_hosts() -> None:
    for failure in (EOFError(), ConnectionResetError("reset"), TimeoutError("timed out")):
        hosts = ("h1:9000", "h2:9000")
        with pytest.raises(ConnectionFailed) as caught, translated("reading", hosts):
            raise failure
        assert str(caught.value).startswith("ClickHouse connection failed")
        assert caught.value.hosts == ("h1:9000", "h2:9000")
        assert "h1:9000, h2:9000" in str(caught.value)
        assert caught.value.__cause__ is failure
        assert is_retryable(caught.value)
        assert is_disconnect(failure)


def test_the_embedded_engines_text_is_read_like_a_servers_code() -> None:
    failure = EmbeddedError.parse("Code: 60. DB::Exception: Unknown table t. (UNKNOWN_TABLE)")
    assert failure.code == 60
    error = translate(failure, doing="x")
    assert isinstance(error, SchemaDrift)
    assert "Code: 60. DB" not in str(error)
    assert not is_disconnect(failure)
    assert EmbeddedError.parse("something else").code == 1002


def test_what_sqlalchemy_wraps_is_unwrapped() -> None:
    inner = driver.ServerException("no table", 60)
    coat = WrappedDriverError("x")
    coat.__cause__ = inner
    wrapped = sa.DatabaseError("SELECT 1", {}, coat)
    assert isinstance(translate(wrapped, doing="x"), SchemaDrift)
    assert not is_disconnect(wrapped)
    assert isinstance(translate(sa.TimeoutError("full"), doing="x"), PoolTimeout)


def test_our_own_errors_pass_untouched() -> None:
    ours = NotFound("gone")
    coat = WrappedDriverError("x")
    coat.__cause__ = ours
    with pytest.raises(NotFound) as caught, translated("x"):
        raise coat
    assert caught.value is ours
    assert caught.value.__cause__ is None
    assert not is_retryable(ours)
    assert not is_retryable(ValueError())


def test_bugs_are_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), translated("x"):
        _ = 1 // 0


def test_a_refused_name_is_a_failed_connection() -> None:
    error = translate(socket.gaierror(-2, "Name or service not known"), doing="x", hosts=("h",))
    assert isinstance(error, ConnectionFailed)
