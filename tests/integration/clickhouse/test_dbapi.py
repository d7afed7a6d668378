"""The connector as PEP 249 and SQLAlchemy see it, over chDB and over the network."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from jts_storage.clickhouse import connector, dbapi_errors
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.dialect import register
from jts_storage.testing.clickhouse_server import ClickHouseServer

_TABLE = """
CREATE OR REPLACE TABLE typed (small UInt8, day Date, id UUID, price Decimal(9, 2),
  CONSTRAINT positive CHECK small > 0) ENGINE = MergeTree ORDER BY small
"""


@pytest.fixture(scope="module")
def addresses(engine_used: Callable[[str], None]) -> Iterator[dict[str, str]]:
    register()  # as the entry points do, wherever the package is installed
    with ClickHouseServer(credentials={"default": "", "reader": "pa55word"}) as server:
        engine_used(f"ClickHouse over TCP (chDB {server.version})")
        yield {
            "embedded": "clickhouse+embedded:///:memory:",
            "tcp": f"clickhouse+jts://default@{server.host}:{server.port}/default",
        }


@pytest.fixture(params=["embedded", "tcp"])
def engine(request: pytest.FixtureRequest, addresses: dict[str, str]) -> Iterator[sa.Engine]:
    made = sa.create_engine(addresses[request.param])
    with made.connect() as connection:
        connection.exec_driver_sql(_TABLE)
    yield made
    made.dispose()


@pytest.mark.parametrize(
    ("column", "value"), [("small", "a text"), ("small", 300), ("id", "no UUID"), ("price", "x")]
)
def test_a_value_of_the_wrong_type_leaves_the_connection_usable(
    engine: sa.Engine, column: str, value: Any
) -> None:
    rows = [{column: value}, {column: value}]
    with engine.connect() as connection:
        before = connection.connection.dbapi_connection
        with pytest.raises((sa.exc.DataError, ArithmeticError)):
            connection.exec_driver_sql(f"INSERT INTO typed ({column}) VALUES", rows)
        assert connection.exec_driver_sql("SELECT count() FROM typed").scalar() == 0
        assert not connection.invalidated
        assert connection.connection.dbapi_connection is before


@pytest.mark.parametrize("value", ["y", 7])
def test_a_value_that_an_enum_lacks_leaves_the_connection_usable(
    engine: sa.Engine, value: Any
) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS states")
        connection.exec_driver_sql(
            "CREATE TABLE states (state Enum8('x' = 1)) ENGINE = MergeTree ORDER BY state"
        )
        with pytest.raises(sa.exc.DBAPIError):
            connection.exec_driver_sql("INSERT INTO states (state) VALUES", [{"state": value}] * 2)
        assert connection.exec_driver_sql("SELECT count() FROM states").scalar() == 0
        assert not connection.invalidated


def test_a_missing_parameter_leaves_the_connection_usable(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(KeyError, match="absent"):
            connection.exec_driver_sql("SELECT %(absent)s", {"present": 1})
        with pytest.raises(sa.exc.StatementError, match="absent"):
            connection.execute(sa.text("SELECT :absent"))
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


@pytest.mark.parametrize(
    ("statement", "kind", "code"),
    [
        ("SELECT FROM WHERE", sa.exc.ProgrammingError, 62),
        ("SELECT * FROM absent", sa.exc.ProgrammingError, 60),
        ("SELECT absent FROM typed", sa.exc.ProgrammingError, 47),
        ("SELECT no_such_function(1)", sa.exc.ProgrammingError, 46),
        ("SELECT toUInt8('x')", sa.exc.DataError, 6),
        ("SELECT intDiv(1, 0)", sa.exc.DataError, 153),
        ("INSERT INTO typed (small) SELECT 0", sa.exc.IntegrityError, 469),
        ("SELECT sleep(3) SETTINGS max_execution_time = 0.1", sa.exc.OperationalError, 159),
        ("SELECT throwIf(1)", sa.exc.DatabaseError, 395),
    ],
)
def test_an_error_has_its_kind_code_text_and_statement(
    engine: sa.Engine, statement: str, kind: type[sa.exc.DBAPIError], code: int
) -> None:
    with engine.connect() as connection:
        with pytest.raises(sa.exc.DBAPIError) as caught:
            connection.exec_driver_sql(statement)
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    assert type(caught.value) is kind
    assert f"Code: {code}. " in str(caught.value.orig)
    assert len(str(caught.value.orig)) > len(f"Code: {code}. ServerException")
    assert f"[SQL: {statement}]" in str(caught.value)
    assert "Stack trace" not in str(caught.value)


def test_a_refused_user_is_named_and_no_password(addresses: dict[str, str]) -> None:
    engine = sa.create_engine(addresses["tcp"].replace("default@", "reader:gu3ss@"))
    with pytest.raises(sa.exc.OperationalError, match=r"Code: 516\. .*reader") as caught:
        engine.connect()
    assert "gu3ss" not in f"{caught.value} {caught.value!r} {caught.value.orig!r}"


def test_the_connector_is_a_module_as_pep_249_describes() -> None:
    said = (connector.apilevel, connector.threadsafety, connector.paramstyle)
    assert said == ("2.0", 1, "pyformat")
    parents = {kind.__name__: kind.__base__.__name__ for kind in dbapi_errors.ALL if kind.__base__}
    below = dict.fromkeys(
        ("DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError"),
        "DatabaseError",
    )
    assert parents == {
        "Warning": "Exception",
        "Error": "Exception",
        "InterfaceError": "Error",
        "DatabaseError": "Error",
        "NotSupportedError": "DatabaseError",
        **below,
    }
    for name in parents:
        assert getattr(connector, name) is getattr(connector.Connection, name)


STREAM = SimpleNamespace(execution_options={"stream_results": True, "max_row_buffer": 1000})
ROWS = 100_000


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[connector.Connection]:
    made = connector.connect(ClickHouseConfig.from_url(engine.url))
    yield made
    made.close()


@pytest.mark.parametrize("rows", [None, [(1,)]])
def test_a_statement_beside_a_stream_is_refused_and_the_stream_goes_on(
    connection: connector.Connection, rows: Any
) -> None:
    first, second = connection.cursor(), connection.cursor()
    first.execute(f"SELECT number FROM numbers({ROWS})", context=STREAM)
    assert first.fetchone() == (0,)
    with pytest.raises(connector.InterfaceError, match="one statement at a time"):
        if rows is None:
            second.execute("SELECT 1")
        else:
            second.executemany("INSERT INTO typed (small) VALUES", rows)
    second.close()
    assert [number for (number,) in first.fetchall()] == [*range(1, ROWS)]
    third = connection.cursor()
    third.execute("SELECT count() FROM typed")
    assert third.fetchall() == [(0,)]


def test_a_stream_that_sqlalchemy_reads_outlives_a_refused_statement(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        streaming = connection.execution_options(stream_results=True)
        rows = streaming.exec_driver_sql(f"SELECT number FROM numbers({ROWS})")
        assert rows.fetchone() == (0,)
        with pytest.raises(sa.exc.InterfaceError, match="one statement at a time"):
            connection.exec_driver_sql("SELECT 1")
        assert not connection.invalidated
        assert len(rows.fetchall()) == ROWS - 1
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


@pytest.mark.parametrize("leave", ["close", "forget", "again"])
def test_a_stream_that_is_left_makes_way(connection: connector.Connection, leave: str) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SELECT number FROM numbers({ROWS})", context=STREAM)
    assert cursor.fetchone() == (0,)
    other = cursor if leave == "again" else connection.cursor()
    if leave == "close":
        cursor.close()
    del cursor
    other.execute("SELECT 2")
    assert other.fetchall() == [(2,)]


def test_a_stream_that_the_connection_has_left_does_not_look_complete(
    connection: connector.Connection,
) -> None:
    first, second = connection.cursor(), connection.cursor()
    first.execute(f"SELECT number FROM numbers({ROWS})", context=STREAM)
    connection.rollback()
    with pytest.raises(connector.InterfaceError, match="gone on to something else"):
        first.fetchall()
    first.execute(f"SELECT number FROM numbers({ROWS})", context=STREAM)
    connection.rollback()
    second.execute("SELECT 2")
    with pytest.raises(connector.InterfaceError, match="gone on to something else"):
        first.fetchall()
    assert second.fetchall() == [(2,)]


def test_what_is_left_of_a_stream_that_failed_does_not_look_complete(
    connection: connector.Connection,
) -> None:
    cursor = connection.cursor()
    failing = f"SELECT throwIf(number = {ROWS * 3 // 4}, 'mid') FROM numbers({ROWS})"
    cursor.execute(failing, context=STREAM)
    with pytest.raises(connector.DatabaseError, match="mid"):
        cursor.fetchall()
    for use in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
        with pytest.raises(connector.InterfaceError, match="fetching them failed"):
            use()
    cursor.execute("SELECT 1")
    assert cursor.fetchall() == [(1,)]


def test_closing_a_cursor_that_was_left_ends_no_other_stream(
    connection: connector.Connection,
) -> None:
    left, other = connection.cursor(), connection.cursor()
    left.execute(f"SELECT number FROM numbers({ROWS})", context=STREAM)
    connection.rollback()
    other.execute(f"SELECT number FROM numbers({ROWS})", context=STREAM)
    left.close()
    assert len(other.fetchall()) == ROWS


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO typed (small) VALUES",
        "/* as */ insert into typed values ; ",
        "-- rows\nINSERT INTO typed\nVALUES\n",
    ],
)
def test_an_insert_without_rows_is_refused_before_it_is_sent(
    connection: connector.Connection, statement: str
) -> None:
    cursor = connection.cursor()
    for given in (None, {"small": 1}):
        with pytest.raises(connector.DatabaseError, match=r"brings no rows|No data to insert"):
            cursor.execute(statement, given)
    cursor.execute("SELECT 'INSERT INTO typed' AS values")
    assert cursor.fetchall() == [("INSERT INTO typed",)]
    cursor.execute("INSERT INTO typed (small) VALUES", [(1,)])
    assert cursor.rowcount == 1


def test_what_is_no_statement_and_no_number_is_refused(connection: connector.Connection) -> None:
    cursor = connection.cursor()
    no_text: Any
    for no_text in (None, b"SELECT 1", 5):
        with pytest.raises(connector.ProgrammingError, match="A statement is a text"):
            cursor.execute(no_text)
        with pytest.raises(connector.ProgrammingError, match="A statement is a text"):
            cursor.executemany(no_text, [(1,)])
    cursor.execute("SELECT 1")
    no_number: Any
    for no_number in (-1, 1.5, "2"):
        with pytest.raises(connector.ProgrammingError, match="number of rows"):
            cursor.fetchmany(no_number)
    assert cursor.fetchall() == [(1,)]


def test_what_is_closed_refuses(connection: connector.Connection) -> None:
    cursor, other = connection.cursor(), connection.cursor()
    cursor.execute("SELECT 1")
    cursor.close()
    cursor.close()
    for use in (cursor.fetchone, cursor.fetchmany, cursor.fetchall, lambda: cursor.execute("x")):
        with pytest.raises(connector.Error, match="The cursor is closed"):
            use()
    connection.close()
    connection.close()
    refused: tuple[Callable[[], Any], ...] = (
        connection.cursor,
        lambda: other.execute("SELECT 1"),
        lambda: other.executemany("INSERT INTO typed (small) VALUES", [(1,)]),
    )
    for use in refused:
        with pytest.raises(connector.Error, match="The connection is closed"):
            use()


def test_values_and_types_have_the_names_of_pep_249(connection: connector.Connection) -> None:
    moment = connector.Timestamp(2024, 1, 2, 3, 4, 5)
    assert moment == datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    ticks = moment.timestamp()
    assert connector.TimestampFromTicks(ticks) == moment
    assert connector.DateFromTicks(ticks) == connector.Date(2024, 1, 2)
    assert connector.TimeFromTicks(ticks) == connector.Time(3, 4, 5)
    assert connector.Binary(b"\xff") == b"\xff"
    cursor = connection.cursor()
    cursor.execute(
        "SELECT 'a', toFixedString('a', 1), toLowCardinality(toNullable('a')), toUInt8(1),"
        " toDecimal64(1, 4), 1.5, toNullable(-1), toDate('2024-01-02'),"
        " toDateTime64(%(moment)s, 3, 'UTC') AS t, [1]",
        {"moment": moment},
    )
    kinds = [column[1] for column in cursor.description]
    named = {"STRING": connector.STRING, "NUMBER": connector.NUMBER, "DATE": connector.DATETIME}
    found = [next((name for name, kind in named.items() if kind == k), None) for k in kinds]
    assert found == [*["STRING"] * 3, *["NUMBER"] * 4, "DATE", "DATE", None]
    assert kinds[0] == connector.BINARY and kinds[0] != connector.NUMBER
    assert connector.ROWID not in kinds
    (row,) = cursor.fetchall()
    assert row[8].replace(tzinfo=datetime.UTC) == moment


def test_the_code_of_an_error_stands_in_it_once(addresses: dict[str, str]) -> None:
    engine = sa.create_engine(addresses["embedded"])
    with engine.connect() as connection:
        connection.exec_driver_sql(_TABLE)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            connection.exec_driver_sql("INSERT INTO typed VALUES")
    engine.dispose()
    assert str(caught.value.orig).count("Code: 108.") == 1


def test_a_cursor_fetches_as_many_rows_as_it_is_told() -> None:
    connection = connector.connect(ClickHouseConfig(embedded_path=":memory:"))
    cursor = connection.cursor()
    with pytest.raises(connector.ProgrammingError, match="no statement"):
        cursor.fetchone()
    cursor.execute("SELECT number FROM numbers(10)")
    assert cursor.fetchmany(0) == []
    assert cursor.fetchmany() == [(0,)]
    cursor.arraysize = 3
    assert cursor.fetchmany() == [(1,), (2,), (3,)]
    assert cursor.fetchmany(2) == [(4,), (5,)]
    assert cursor.fetchone() == (6,)
    assert [row for (row,) in cursor.fetchall()] == [7, 8, 9]
    assert (cursor.fetchone(), cursor.fetchmany(), cursor.fetchall()) == (None, [], [])
    assert cursor.description == [("number", "UInt64", None, None, None, None, True)]
    connection.close()


def test_a_cursor_counts_the_rows_it_writes(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.executemany("INSERT INTO typed (small) VALUES", [{"small": 1}, {"small": 2}])
        assert (cursor.rowcount, cursor.fetchall()) == (2, [])
        cursor.execute("INSERT INTO typed (small) VALUES", [(3,)])
        assert (cursor.rowcount, cursor.fetchall()) == (1, [])
        cursor.execute("SELECT sum(small) FROM typed")
        assert (cursor.rowcount, cursor.fetchall()) == (-1, [(6,)])


def test_a_stream_and_its_settings(engine: sa.Engine) -> None:
    settings = {"max_threads": 1}
    with engine.connect().execution_options(
        stream_results=True, max_row_buffer=10, settings=settings
    ) as connection:
        rows = connection.exec_driver_sql("SELECT number, blockSize() FROM numbers(25)").all()
        assert [number for number, _ in rows] == [*range(25)]
        assert {size for _, size in rows} == {10, 5}
        assert connection.exec_driver_sql("SELECT 1 WHERE 0").all() == []
    assert settings == {"max_threads": 1}


def test_a_table_is_sent_along_with_a_statement(addresses: dict[str, str]) -> None:
    from clickhouse_sqlalchemy import Table, types

    wanted = Table(
        "wanted",
        sa.MetaData(),
        sa.Column("number", types.UInt64),
        clickhouse_data=[{"number": 2}, {"number": 4}],
    )
    query = sa.text("SELECT count() FROM numbers(9) WHERE number IN wanted")
    engine = sa.create_engine(addresses["tcp"])
    with engine.connect() as connection:
        answer = connection.execute(query, execution_options={"external_tables": [wanted]})
        assert answer.scalar() == 2
    engine.dispose()
    embedded = sa.create_engine(addresses["embedded"])
    with (
        embedded.connect() as connection,
        pytest.raises(sa.exc.NotSupportedError, match="need a server"),
    ):
        connection.execute(query, execution_options={"external_tables": [wanted]})
    embedded.dispose()


@pytest.mark.parametrize("rows", [20_000, 200_000])
def test_rows_of_a_query_that_failed_do_not_come_back(rows: int) -> None:
    """chDB keeps what it had read when a query fails in the middle of its result."""
    engine = sa.create_engine("clickhouse+embedded:///:memory:")
    failing = (
        f"SELECT throwIf(number = {rows * 3 // 4}, 'mid'), number FROM numbers({rows})"
        " SETTINGS max_block_size = 1000"
    )
    try:
        with engine.connect() as connection:
            with pytest.raises(sa.exc.DBAPIError, match="mid"):
                connection.exec_driver_sql(failing).fetchall()
            found = connection.exec_driver_sql("SELECT count(), sum(number) FROM numbers(10)")
            assert [tuple(row) for row in found.fetchall()] == [(10, 45)]
    finally:
        engine.dispose()
