"""What drivers report, in the kit's words."""

from __future__ import annotations

import socket

import pytest
from clickhouse_driver import errors as driver
from sqlalchemy import exc as sa

from jts_storage.clickhouse.dbapi_errors import Error as WrappedDriverError
from jts_storage.clickhouse.errors import (
    MEANINGS,
    EmbeddedError,
    is_disconnect,
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

MIGRATE = "Apply the migrations, or point the configuration at the right database."
REACH = "Check that the server is up and reachable."
CREDENTIALS = "Check the user and the password of the configuration."
KEEPER = "The cluster's coordination is not available right now"
LESS = "Ask for less at once, or raise max_execution_time."

CODES: dict[int, tuple[type[StorageError], str, bool]] = {
    **dict.fromkeys((10, 16, 47, 60, 81), (SchemaDrift, MIGRATE, False)),
    **dict.fromkeys((100, 102, 203, 209, 210), (ConnectionFailed, REACH, True)),
    **dict.fromkeys((279, 519), (ConnectionFailed, "bring that one back", True)),
    **dict.fromkeys((192, 193, 194, 516), (ConnectionFailed, CREDENTIALS, False)),
    **dict.fromkeys((225, 285, 319, 999), (StorageError, KEEPER, True)),
    **dict.fromkeys((159, 160), (StorageError, LESS, False)),
    62: (StorageError, "Correct the statement", False),
    115: (InvalidConfiguration, "knows no such setting", False),
    164: (StorageError, "may only read", False),
    195: (ConnectionFailed, "admits no connections", False),
    198: (ConnectionFailed, "cannot be resolved", True),
    201: (StorageError, "quota is spent", False),
    202: (StorageError, "The server is busy", True),
    236: (StorageError, "gave up the statement", True),
    241: (StorageError, "write smaller batches", False),
    242: (StorageError, "read-only until its replica recovers", True),
    243: (StorageError, "disk is full", False),
    252: (StorageError, "fewer and larger batches", True),
    291: (StorageError, "no rights on this database", False),
    497: (StorageError, "lacks a grant", False),
}


def test_the_table_holds_the_codes_that_are_known() -> None:
    assert MEANINGS.keys() == CODES.keys()


@pytest.mark.parametrize(
    ("code", "wanted"), [*CODES.items(), (4321, (StorageError, "code 4321", False))]
)
def test_a_servers_code(code: int, wanted: tuple[type[StorageError], str, bool]) -> None:
    kind, remedy, again = wanted
    failure = driver.ServerException("DB::Exception: no. Stack trace:\n\n0. f()", code)
    error = translate(failure, doing="reading candles", hosts=("h:9000",))
    assert type(error) is kind
    assert "Stack trace" not in str(error)
    assert "reading candles" in str(error)
    assert remedy in str(error)
    assert error.repeatable is again
    if kind is not InvalidConfiguration:
        assert error.code == code
    if isinstance(error, ConnectionFailed):
        assert error.hosts == ("h:9000",)


def test_a_server_short_of_memory_as_a_whole_may_have_some_later() -> None:
    total = driver.ServerException("Memory limit (total) exceeded", 241)
    query = driver.ServerException("Memory limit (for query) exceeded", 241)
    assert translate(total, doing="x").repeatable
    assert not translate(query, doing="x").repeatable
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
        assert caught.value.repeatable
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
    assert not ours.repeatable


def test_bugs_are_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), translated("x"):
        _ = 1 // 0


def test_a_refused_name_is_a_failed_connection() -> None:
    error = translate(socket.gaierror(-2, "Name or service not known"), doing="x", hosts=("h",))
    assert isinstance(error, ConnectionFailed)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            driver.ServerException("DB::Exception: no such table", 60),
            f"ClickHouse refused reading (code 60): DB::Exception: no such table. {MIGRATE}",
        ),
        (
            driver.ServerException("busy", 210),
            f"ClickHouse connection failed at reading (tried a:1, b:2): busy. {REACH}",
        ),
        (
            driver.ServerException("unknown", 115),
            "Invalid configuration: unknown (at reading, code 115). "
            "The server knows no such setting; remove it.",
        ),
        (
            EOFError("Unexpected EOF"),
            "ClickHouse connection failed at reading (tried a:1, b:2): "
            f"the server closed the connection. {REACH}",
        ),
        (
            sa.TimeoutError("full"),
            "No free ClickHouse connection for reading: the pool stayed busy. "
            "Raise pool_size or pool_timeout, or hold connections for less long.",
        ),
        (
            driver.PartiallyConsumedQueryError(),
            "ClickHouse refused reading: the connection still carries an unfinished result. "
            "Read the stream to its end or close it first.",
        ),
        (sa.InvalidRequestError("closed"), "ClickHouse failed at reading: closed."),
        (RuntimeError(), "ClickHouse failed at reading: RuntimeError."),
        (RuntimeError("why?"), "ClickHouse failed at reading: why?"),
        (RuntimeError("no!"), "ClickHouse failed at reading: no!"),
        (RuntimeError("x" * 600), f"ClickHouse failed at reading: {'x' * 600}."),
        (RuntimeError("x" * 601), f"ClickHouse failed at reading: {'x' * 600}..."),
    ],
)
def test_messages_say_what_was_tried_on_what(failure: Exception, message: str) -> None:
    assert str(translate(failure, doing="reading", hosts=("a:1", "b:2"))) == message


def test_without_hosts_it_says_so() -> None:
    for failure in (EOFError(), driver.ServerException("x", 210)):
        assert "(tried no host)" in str(translate(failure, doing="reading"))


@pytest.mark.parametrize(
    ("failure", "ends"),
    [
        (driver.ServerException("x", 60), False),
        (driver.NetworkError("x"), True),
        (driver.PartiallyConsumedQueryError(), True),
        (driver.TypeMismatchError("x"), False),
        (driver.CannotParseUuidError("x"), False),
        (driver.UnknownTypeError("x"), False),
        (EOFError(), True),
        (BrokenPipeError(), True),
        (sa.InvalidRequestError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_what_ends_a_connection(failure: Exception, ends: bool) -> None:
    assert is_disconnect(failure) is ends


def test_a_wrapped_cause_is_chained_once() -> None:
    inner = driver.ServerException("no table", 60)
    coat = WrappedDriverError("x")
    coat.__cause__ = inner
    with pytest.raises(SchemaDrift) as caught, translated("x"):
        raise coat
    assert caught.value.__cause__ is coat
    empty = WrappedDriverError("bare")
    assert str(translate(empty, doing="x")) == "ClickHouse failed at x: bare."


def test_our_own_errors_leave_the_block_as_they_came() -> None:
    ours = NotFound("gone")
    with pytest.raises(NotFound) as caught, translated("x"):
        raise ours
    assert caught.value is ours
    assert caught.value.__cause__ is None
