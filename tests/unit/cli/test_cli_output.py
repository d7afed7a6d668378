"""What commands print, and how they end."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
import typer

from jts_storage import Market, SeriesKey, Symbol, Timeframe, cli
from jts_storage.cli import Debug, arguments, main, output
from jts_storage.cli.arguments import Gate
from jts_storage.cli.candles import print_quarantined
from jts_storage.cli.coverage import Listed, Order
from jts_storage.cli.coverage_page import Shown, fitting, page
from jts_storage.cli.import_reports import print_import
from jts_storage.cli.pages import data_of
from jts_storage.domain.gaps import Gap
from jts_storage.domain.plot import palette
from jts_storage.errors import InvalidData, NotFound
from jts_storage.readers.adjusting import Adjusted, Changes
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.coverage import SeriesCoverage
from jts_storage.usecases.quarantine import QuarantinedRow
from jts_storage.usecases.results import ImportResult, Tally


def test_a_row_that_cannot_be_read_is_shown_with_what_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = QuarantinedRow("n", None, "a.json", 1, ("why",), {"text": "x"}, None, None, 3, "row")
    print_quarantined([row, replace(row, place="line", line=7)])
    said = capsys.readouterr().out
    assert "row 3" in said
    assert "line 7" in said


def test_a_file_from_newest_to_oldest_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally(read=1_770, inserted=1_770, broken={"order": 1_769, "jump": 2})
    print_import(ImportResult.of(tally, source="p.csv"))
    said = capsys.readouterr().out
    assert "came from newest to oldest (1,769 before the one above), and are stored by" in said
    assert "Rules broken: jump 2." in said
    for forwards, rejected in ((1, 0), (0, 1_769)):
        tally = Tally(read=1_770, broken={"order": 1_769}, forwards=forwards, rejected=rejected)
        print_import(ImportResult.of(tally, source="p.csv"))
        said = capsys.readouterr().out
        assert "Rules broken: order 1,769." in said
        assert "newest" not in said


def test_a_market_of_ones_own_is_said_to_be_one() -> None:
    assert arguments.market_of("NYSE") is Market.NYSE
    assert arguments.market_of("own:SPOT") is Market.own("SPOT")
    with pytest.raises(typer.BadParameter, match="own:KOPSI"):
        arguments.market_of("KOPSI")


@pytest.mark.parametrize(
    ("given", "exchange", "calendar"),
    [
        (None, "XNAS", "XNYS"),
        ("exchange", "KRX", "XKRX"),
        ("none", "KRX", None),
        ("XTKS", "KRX", "XTKS"),
        (None, "UPBIT", "24/7"),
    ],
)
def test_a_calendar_is_the_one_given_or_that_of_the_exchange(
    given: str | None, exchange: str, calendar: str | None
) -> None:
    assert arguments.calendar_for(given, exchange) == calendar


def test_json_keeps_prices_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(
        {
            "price": Decimal("1.10"),
            "at": datetime(2024, 1, 2, tzinfo=UTC),
            "symbol": Symbol("A", "에이", Market.ETF),
            "path": Path("a"),
        }
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["price"] == "1.10"
    assert printed["at"] == "2024-01-02T00:00:00+00:00"
    assert printed["symbol"]["name"] == "에이"
    assert printed["symbol"]["market"] == "ETF"


def test_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["what", "many"], [("[bold]x[/bold]", 1234567), (None, 2)])
    printed = capsys.readouterr().out
    assert "[bold]x[/bold]" in printed
    assert "1,234,567" in printed


@pytest.mark.parametrize("debug", [True, False])
def test_an_error_is_one_sentence_unless_asked(
    capsys: pytest.CaptureFixture[str], debug: bool
) -> None:
    async def fail() -> None:
        raise NotFound("There is no cake.", remedy="Bake one.")

    Debug.wanted = debug
    try:
        with pytest.raises(typer.Exit) as ended:
            output.finished(fail)
    finally:
        Debug.wanted = False
    assert ended.value.exit_code == output.FAILED
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == "Error: There is no cake. Bake one."
    assert ("Traceback" in printed.err) == debug
    assert printed.out == ""


@pytest.mark.parametrize("debug", [True, False])
def test_a_mistake_in_the_kit_is_told_without_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("division by zero.")

    monkeypatch.setattr(main, "app", fail)
    Debug.wanted = debug
    try:
        with pytest.raises(SystemExit) as ended:
            main.main()
    finally:
        Debug.wanted = False
    assert ended.value.code == output.FAILED
    printed = capsys.readouterr().err
    assert "Error: ZeroDivisionError: division by zero. This was not expected" in printed
    assert ("Traceback" in printed) == debug


def test_what_the_system_refuses_is_no_mistake_in_the_kit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        Path("/dev/null/files").mkdir()

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == output.FAILED
    assert capsys.readouterr().err == "Error: /dev/null/files: Not a directory.\n"


def test_an_interrupt_before_anything_began_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.command()
    assert ended.value.code == output.INTERRUPTED
    assert capsys.readouterr().err == "Stopped before it began.\n"


def test_an_interrupt_says_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        output.finished(interrupted, stopped=lambda: "Stopped after 5 rows.")
    assert ended.value.exit_code == output.INTERRUPTED
    assert capsys.readouterr().err == "Stopped after 5 rows.\n"


def test_an_import_tells_its_series_and_the_corrections_it_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally(read=30, skipped=30, differing=2)
    print_import(ImportResult.of(tally, source="p.csv"))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "2 of those skipped are stored with other values; "
        "without --incremental they would be replaced."
    ]


def test_an_import_tells_what_became_of_each_series(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(read=12_000, inserted=11_000, rejected=1_000)
    tally.series = {f"{n:06}/1m": {"read": 1_000, "inserted": 1_000} for n in range(11)}
    tally.series["000002/1m"] = {"read": 1_000, "rejected": 1_000}
    tally.series["000011/1m"] = {"read": 1_000, "inserted": 1_000}
    print_import(ImportResult.of(tally, source="p.csv"))
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert told[1] == "series read inserted rejected"
    assert told[3:5] == ["000001/1m 1,000 1,000 0", "000002/1m 1,000 0 1,000"]
    assert told[-1] == "... and 2 more series."


def test_an_import_tells_what_it_changed(capsys: pytest.CaptureFixture[str]) -> None:
    adjusted = Adjusted(Changes(1_234, Decimal("0.00005")), Changes(2, Decimal("0.5")), 3)
    print_import(ImportResult.of(Tally(adjusted=adjusted), source="p.csv"))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Rounded: 1,234 prices, the largest change 0.00005.",
        "Rounded: 2 volumes, the largest change 0.5.",
        "Missing: 3 volumes, stored as zero.",
    ]


@pytest.mark.parametrize("duplicates", [50, 51])
def test_series_that_were_mixed_are_suspected(
    capsys: pytest.CaptureFixture[str], duplicates: int
) -> None:
    print_import(ImportResult.of(Tally(read=100, duplicates=duplicates), source="p.csv"))
    assert ("--column symbol=HEADER" in capsys.readouterr().out) == (duplicates > 50)


@pytest.mark.parametrize("missing", [50, 51])
def test_volumes_that_are_missing_are_suspected(
    capsys: pytest.CaptureFixture[str], missing: int
) -> None:
    print_import(ImportResult.of(Tally(read=100, broken={"missing": missing}), source="p.csv"))
    assert ("--volume zero-if-missing" in capsys.readouterr().out) == (missing > 50)


def test_a_meter_is_quiet_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with output.meter("Working") as bar:
        bar.update(5, 0.5)
    assert bar.rows == 5
    assert capsys.readouterr() == ("", "")


def test_moments_of_arguments() -> None:
    assert arguments.moment("2024-01-02", None) == datetime(2024, 1, 2, tzinfo=UTC)
    seoul = arguments.moment("2024-01-02 09:00", "Asia/Seoul")
    assert seoul == datetime(2024, 1, 2, tzinfo=UTC)
    end = arguments.moment("2024-01-02", None, is_end=True)
    assert end == datetime(2024, 1, 2, 23, 59, 59, 999_000, tzinfo=UTC)
    assert arguments.moment(None, None) is None
    for wrong in ("tomorrow", "2024-13-01"):
        with pytest.raises(typer.BadParameter):
            arguments.moment(wrong, None)


def test_rules_of_arguments() -> None:
    policy = Gate(rules=["tick=reject"], jump="0.1", tick="5").policy(None)
    assert policy.tick == Decimal(5)
    for rules, jump, tick in ((["x=reject"], "1", None), (["tick=x"], "1", None)):
        with pytest.raises(InvalidData):
            Gate(rules=rules, jump=jump, tick=tick).policy(None)
    with pytest.raises(typer.BadParameter):
        Gate(jump="much").policy(None)


def test_the_page_holds_everything_and_fetches_nothing() -> None:
    key = SeriesKey("</script>", Timeframe.D1, "KRX")
    series = make_candles(key, 30)
    assert series.start is not None
    gap = Gap(series.start, series.start, 1)
    coverage = SeriesCoverage(
        key=key,
        rows=30,
        first=series.start,
        last=series.end,
        gaps=(gap,),
        known_empty=(),
        by_day={date(2024, 1, 2): 30},
    )
    text = page([Shown(coverage=coverage, candles=series, calendar="XKRX")])
    assert text.count("</script>") == 2, "data must not end the element that holds it"
    (shown,) = data_of(text)["series"]
    assert shown["name"] == "KRX:</script>/1d"
    assert shown["colors"] == list(palette("KRX"))
    safe = page([Shown(coverage=coverage, candles=series, colors="colorblind")])
    assert data_of(safe)["series"][0]["colors"] == list(palette("KRX", "colorblind"))
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert len(fitting(make_candles(key, 3_000))) <= 800


def one_of(number: int, of: int = 1, days: int = 500) -> Shown:
    """A series of days, of which one in 97 is missing."""
    key = SeriesKey(f"S{number:03}", Timeframe.D1, "KRX")
    series = make_candles(key, days, seed=number)
    assert series.start is not None
    stamps = [candle.timestamp for candle in series]
    gaps = tuple(Gap(at, at, 1) for at in stamps[number % 97 :: 97])
    coverage = SeriesCoverage(
        key=key,
        rows=days,
        first=series.start,
        last=series.end,
        gaps=gaps,
        known_empty=(),
        by_day={at.date(): 330 + at.day * number % 60 for at in stamps},
    )
    return Shown(coverage=coverage, candles=fitting(series, of=of), calendar="XKRX")


def test_a_page_of_300_series_is_small_and_soon_made() -> None:
    series = [one_of(number, of=300) for number in range(300)]
    begun = time.process_time()
    text = page(series)
    assert time.process_time() - begun < 5
    assert len(text.encode()) < 1_000_000
    shown = data_of(text)["series"]
    assert [one["name"] for one in shown] == [str(one.coverage.key) for one in series]
    assert all(one["candles"] and one["gaps"] for one in shown)


def test_the_worst_series_comes_first_and_others_are_left_out() -> None:
    some = [one_of(number) for number in range(4)]
    gaps = some[0].coverage.gaps
    found = [
        replace(one, coverage=replace(one.coverage, gaps=gaps[:keep], rows=100 * number))
        for number, (one, keep) in enumerate(zip(some, (1, 0, 5, 1), strict=True), start=1)
    ]

    def named(listed: Listed) -> list[str]:
        return [one.coverage.key.symbol for one in listed.of(found)]

    assert named(Listed()) == ["S002", "S000", "S003", "S001"]
    assert named(Listed(sort=Order.NAME)) == ["S000", "S001", "S002", "S003"]
    assert named(Listed(sort=Order.MISSING)) == ["S002", "S000", "S003", "S001"]
    assert named(Listed(sort=Order.ROWS)) == ["S000", "S001", "S002", "S003"]
    assert named(Listed(incomplete=True)) == ["S002", "S000", "S003"]
    key = SeriesKey("005930", Timeframe.D1, "KRX")
    for text in ("krx", "59", "/1D", "전자", ""):
        assert Listed(containing=text).is_named(key, "삼성전자")
    assert not Listed(containing="1m").is_named(key, "삼성전자")


@pytest.mark.parametrize("text", [r"\[/red]boo", r"\[red]boo", "a:100:b", "[bold]x", "x" * 300])
def test_text_in_tables_is_no_markup_and_is_whole(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    output.print_table(["name", "id"], [(text, "0123456789abcdef01234567")])
    shown = capsys.readouterr().out
    assert text in shown
    assert "0123456789abcdef01234567" in shown


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "shown"), [(0.6, True), (0.02, False)])
def test_a_terminal_sees_that_something_takes_longer_than_a_moment(
    monkeypatch: pytest.MonkeyPatch, seconds: float, shown: bool
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with output.waiting("Opening the stores"):
        time.sleep(seconds)
    written = terminal.getvalue()
    assert ("Opening the stores" in written) is shown
    time.sleep(0.4)
    assert terminal.getvalue() == written  # nothing comes late


def test_no_spinner_goes_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with output.waiting("Opening the stores"):
        time.sleep(0.4)
    assert capsys.readouterr() == ("", "")


def test_long_series_take_no_more_of_a_page_than_short_ones() -> None:
    whole = make_candles(SeriesKey("A", Timeframe.D1, "KRX"), 2_500)
    weeks = fitting(whole)
    assert weeks.key.timeframe is Timeframe.W1
    for series in (whole, weeks):
        assert len(fitting(series, of=300)) == 60
    days = one_of(1, of=300, days=2_500)
    alike = replace(days.coverage, by_day=dict.fromkeys(days.coverage.by_day, 1))
    (steps, rows), (_, ones) = (
        shown["days"] for shown in data_of(page([days, replace(days, coverage=alike)]))["series"]
    )
    assert (len(steps), len(rows), ones) == (2_500, 2_500, 1)
    assert sum(steps[1:]) >= 2_499
