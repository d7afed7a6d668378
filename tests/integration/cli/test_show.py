"""What people look at first: a series, a question of their own, a symbol they add."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shell, shell_in, stores_in
from tests.prepared import Prepared

SERIES = ("--symbol", "005930", "--timeframe", "1m", "--exchange", "KRX")


def filled(run: Shell) -> Shell:
    run("symbols", "add", "005930", "Samsung", "KOSPI", "--sector", "Tech")
    run("import", "prices.csv", *SERIES)
    return run


@pytest.fixture
def stored(run: Shell) -> Shell:
    return filled(run)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("show")


@pytest.fixture(scope="module")
def reader(shared_folder: Path, calendars: Path, prepared: Prepared) -> Iterator[Shell]:
    """For tests that only read."""
    with (
        stores_in(shared_folder, calendars, prepared) as settings,
        shell_in(shared_folder, settings, holds=True) as shell,
    ):
        yield filled(shell)


def test_a_series_is_shown(reader: Shell) -> None:
    shown = reader("show", "KRX:005930/1m").out.splitlines()
    assert shown[-1].startswith("close ▁")
    assert [line.split()[1] for line in shown[1:-1]] == ["01:00", "01:01", "01:05"]

    rows = list(csv.DictReader(reader("show", "KRX:005930/1m", "--last", "1", "--csv").out.split()))
    assert [(row["close"], row["volume"]) for row in rows] == [("78800.0000", "0")]

    ranges = {
        ("--start", "2024-01-02T01:01:00Z"): ["78700.0000", "78800.0000"],
        ("--end", "2024-01-02T01:04:00Z", "--last", "1"): ["78700.0000"],
        ("--start", "2024-01-02T10:05:00", "--timezone", "Asia/Seoul"): ["78800.0000"],
    }
    for asked, closes in ranges.items():
        found = json.loads(reader("show", "KRX:005930/1m", *asked, "--json").out)
        assert [row["close"] for row in found] == closes, asked
    assert found[0]["timestamp"] == "2024-01-02T10:05:00+09:00"

    drawn = reader("show", "KRX:005930/1m", "--chart").out
    assert "░" in drawn and "3 candles" in drawn
    nothing = reader("show", "KRX:005930/1m", "--start", "2025-01-01").out
    assert nothing == "No candles of KRX:005930/1m there.\n"
    assert "No candles of 005930/1m are stored" in reader("show", "005930/1m", code=2).err
    mistyped = reader("show", "005930", code=2).err
    assert "must read as KRX:005930/1m" in mistyped and "`jts-storage coverage`" in mistyped


def test_a_question_is_answered_and_nothing_is_written(reader: Shell, shared_folder: Path) -> None:
    asked = "SELECT symbol, count() AS n, max(close) AS most FROM candles GROUP BY symbol"
    assert json.loads(reader("query", asked, "--json").out) == [
        {"symbol": "005930", "n": 3, "most": "78800"}
    ]
    assert reader("query", asked, "--csv").out == "symbol,n,most\n005930,3,78800\n"
    few = reader("query", "SELECT volume FROM candles", "--limit", "2")
    assert (len(few.out.splitlines()), few.err) == (
        3,
        "There are more than 2 rows: --limit 0 prints all.\n",
    )
    endless = reader("query", "SELECT number FROM numbers(1000000000000)", "--limit", "1", "--csv")
    assert endless.out == "number\n0\n"
    for statement in (
        "DROP TABLE candles",
        "INSERT INTO symbols SELECT * FROM symbols",
        "SELECT 1; DROP TABLE candles",
        "SELECT 1 INTO OUTFILE 'stolen.csv'",
        "INSERT INTO FUNCTION file('stolen.csv') SELECT 1",
        "SET readonly = 0",
    ):
        assert "only reads" in reader("query", statement, code=2).err, statement
    assert not list(shared_folder.rglob("stolen.csv"))
    refused = reader("query", "SELECT 1 SETTINGS readonly = 0", code=2).err
    assert "READONLY" in refused
    assert json.loads(reader("query", asked, "--json").out)[0]["n"] == 3


def test_a_table_that_is_not_there_is_told_with_those_that_are(reader: Shell) -> None:
    told = reader("query", "SELECT * FROM candle", code=2).err
    assert "There is no table candle. Did you mean candles? There are" in told
    assert "symbols" in told and "migrat" not in told
    told = reader("query", "SELECT * FROM nothing_like_it", code=2).err
    assert "There is no table nothing_like_it. There are" in told
    assert "There is no table" in reader("query", "DESCRIBE nowhere", code=2).err


def test_nothing_and_no_number_are_told_apart(reader: Shell) -> None:
    asked = "SELECT NULL AS a, nan AS b, -inf AS c, [nan, 1.5] AS d"
    assert reader("query", asked).out.split("\n")[1].split() == [
        "-",
        "nan",
        "-inf",
        "[null,",
        "1.5]",
    ]
    assert reader("query", asked, "--csv").out == 'a,b,c,d\n,nan,-inf,"[null, 1.5]"\n'
    assert json.loads(reader("query", asked, "--json").out) == [
        {"a": None, "b": None, "c": None, "d": [None, 1.5]}
    ]


def test_a_symbol_is_added_and_replaced(stored: Shell) -> None:
    added = json.loads(stored("symbols", "add", "005930", "Samsung E.", "KOSPI", "--json").out)
    assert (added["name"], added["sector"]) == ("Samsung E.", None)
    (listed,) = json.loads(stored("symbols", "list", "--json").out)
    assert listed["name"] == "Samsung E."
    refused = stored("symbols", "add", "X", "X", "NOWHERE", code=2).err
    assert "is none of KOSPI" in refused


def test_keys_are_completed(stored: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.close()  # the shell asks in a process of its own
    from jts_storage.cli import completion

    monkeypatch.setenv("JTS_DATA_DIR", str(folder / "data"))
    assert completion.keys("KRX") == ["KRX:005930/1m"]
    assert completion.keys("NYSE") == []
    monkeypatch.setenv("JTS_DATA_DIR", "/dev/null/nowhere")
    assert completion.keys("") == []


def test_the_dates_of_day_bars_are_those_of_every_zone(stored: Shell, folder: Path) -> None:
    (folder / "days.csv").write_text(
        "date,open,high,low,close,volume\n"
        + "".join(f"2024-03-0{day},1,9,1,{day},7\n" for day in (4, 5, 6))
    )
    stored("import", "days.csv", "-s", "005930", "-t", "1d", "-x", "NASDAQ")
    one_day = ("--start", "2024-03-05", "--end", "2024-03-05", "--timezone", "America/New_York")
    shown = json.loads(stored("show", "NASDAQ:005930/1d", *one_day, "--json").out)
    assert [(row["timestamp"], row["close"]) for row in shown] == [
        ("2024-03-05T00:00:00+00:00", "5.0000")
    ]
    series = ("-s", "005930", "-t", "1d", "-x", "NASDAQ")
    stored("export", "day.csv", *series, *one_day)
    (row,) = csv.DictReader((folder / "day.csv").read_text().splitlines())
    assert (row["timestamp"], row["close"]) == ("2024-03-05T00:00:00.000Z", "5.0000")


def test_every_value_of_a_question_can_be_shown(reader: Shell) -> None:
    asked = (
        "SELECT toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0') AS u, nan AS n,"
        " toIPv4('1.2.3.4') AS i, [1.5] AS a,"
        " toStartOfDay(toDateTime64('2024-01-02 10:00:00', 3, 'UTC'), 'Asia/Seoul') AS d"
    )
    (row,) = json.loads(reader("query", asked, "--json").out)
    assert (row["u"], row["n"], row["i"], row["a"]) == (
        "61f0c404-5cb3-11e7-907b-a6006ad3dba0",
        None,
        "1.2.3.4",
        [1.5],
    )
    assert row["d"] == "2024-01-01T15:00:00+00:00"
    assert "2024-01-01 15:00:00+00:00" in reader("query", asked).out
    assert "--csv or --json" in reader("query", "SELECT 1 FORMAT CSV", code=2).err


def test_nested_values_are_printed_as_json(reader: Shell) -> None:
    """Also maps of maps, whose type the driver cannot read, and nothing that Python writes."""
    asked = (
        "SELECT map('k', map('z', toDecimal64(1.5, 2))) AS deep, map(1, map(2, map(3, 4))) AS more,"
        " [toDate('2024-01-02'), NULL] AS days, tuple('가', [1]) AS pair"
    )
    (row,) = json.loads(reader("query", asked, "--json").out)
    assert row == {
        "deep": {"k": {"z": "1.5"}},
        "more": {"1": {"2": {"3": 4}}},
        "days": ["2024-01-02", None],
        "pair": ["가", [1]],
    }
    (told,) = csv.DictReader(reader("query", asked, "--csv").out.splitlines())
    assert {name: json.loads(text) for name, text in told.items()} == row
    assert '{"k": {"z": "1.5"}}' in reader("query", asked).out
    assert '["2024-01-02", null]' in reader("query", asked).out


def test_what_only_looks_like_a_format_is_asked(reader: Shell) -> None:
    for asked in (
        "SELECT 'FORMAT CSV'",
        "SELECT 1 -- in this FORMAT please",
        "SELECT 'INTO OUTFILE'",
        "SELECT 'it\\'s FORMAT CSV'",
        'SELECT 1 AS "FORMAT CSV"',
        "SELECT $a$ FORMAT CSV$a$ /* FORMAT CSV */",
    ):
        assert reader("query", asked, "--csv").out
