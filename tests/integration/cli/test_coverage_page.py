"""The page of `coverage --html`, opened in a real browser without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from jts_storage import Market, SeriesKey, Storage, Symbol, Timeframe
from jts_storage.cli.coverage_looks import look
from jts_storage.cli.coverage_page import page
from jts_storage.testing.factories import START, make_candles
from jts_storage.usecases.coverage import Coverage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = Path(__file__).parents[3] / "build"
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--hide-scrollbars",
    "--virtual-time-budget=10000",  # the data is unpacked after the page has been loaded
    "--window-size=1280,1500",
)
DARK = "--blink-settings=preferredColorScheme=0"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")

MINUTES = SeriesKey("005930", Timeframe.M1, "KRX")
DAYS = SeriesKey("AAPL", Timeframe.D1, "NASDAQ")
OPENING = START.replace(hour=1)  # the first session of that year opens at ten in Seoul


def opened(path: Path, profile: Path, *options: str) -> tuple[str, str]:
    """What the browser has made of the page, and what was written to its console."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *options, path.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/dev/null"},
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(console)


async def test_the_page_shows_map_gap_and_candles_and_no_error(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    path = tmp_path / "coverage.html"
    path.write_text(await made(), encoding="utf-8")
    document, console = opened(path, tmp_path / "profile", "--dump-dom")
    engine_used("Chromium")
    assert console == ""
    assert 'data-ready="yes"' in document
    minutes, days = document.split("<section id=")[2:]

    assert 'data-series="KRX:005930/1m"' in minutes
    assert minutes.count('class="heatmap"') == 1
    assert 'class="day gap" data-day="2024-01-02" data-rows="296"' in minutes
    assert minutes.count('class="day') == 1
    assert 'data-start="2024-01-02 10:03"' in minutes, "the gap, in the time of the exchange"
    assert "삼성전자" in minutes
    assert minutes.count('class="bar"') == 1

    assert days.count('class="bar"') == 60
    assert days.count('class="day gap"') == 2
    assert days.count("known to be empty") >= 2, "in the legend and at its day"
    assert 'data-start="2024-01-09"' in days, "a daily bar has a date, the same everywhere"


@pytest.mark.parametrize("look", ["light", "dark"])
async def test_a_picture_of_the_page_is_kept(tmp_path: Path, look: str) -> None:
    path = tmp_path / "coverage.html"
    path.write_text(await made(), encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    picture = PICTURES / f"coverage-{look}.png"
    picture.unlink(missing_ok=True)
    options = [f"--screenshot={picture}", *([DARK] if look == "dark" else [])]
    opened(path, tmp_path / "profile", *options)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000, "an empty page is smaller"


@pytest.mark.parametrize("width", [400, 1400])
async def test_the_page_fits_a_phone_and_a_desk(tmp_path: Path, width: int) -> None:
    (tmp_path / "coverage.html").write_text(await made(), encoding="utf-8")
    # A window is at least 500 wide here, so a frame of the width is looked at.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body style="margin:0"><iframe src="coverage.html" style="border:0;width:{width}px;'
        'height:1400px"></iframe><script>onload = () => setTimeout(() => {'
        "const page = document.querySelector('iframe').contentDocument;"
        "const over = [...page.querySelectorAll('html, section')].map("
        "(each) => each.scrollWidth - each.clientWidth);"
        "document.body.dataset.over = Math.max(...over)}, 3000)</script>",
        encoding="utf-8",
    )
    options = ("--allow-file-access-from-files", f"--window-size={max(width, 500)},1400")
    document, console = opened(frame, tmp_path / "profile", "--dump-dom", *options)
    assert console == ""
    assert 'data-over="0"' in document, "nothing but a map of days scrolls sideways"


async def test_an_error_in_the_page_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "coverage.html"
    path.write_text((await made()).replace("series.gaps", "series.no_gaps"), encoding="utf-8")
    document, console = opened(path, tmp_path / "profile", "--dump-dom")
    assert "TypeError" in console
    assert 'data-ready="yes"' not in document


async def made() -> str:
    """A session of minutes with a gap, and days of which some are missing, one of them for good."""
    async with Storage.in_memory() as storage:
        minutes = make_candles(MINUTES, 300, start=OPENING)
        january = {date(2024, 1, day) for day in (9, 10, 11)}
        traded = [
            candle
            for candle in make_candles(DAYS, 90, start=START)
            if candle.timestamp.weekday() < 5 and candle.timestamp.date() not in january
        ]
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(Symbol(MINUTES.symbol, "삼성전자", Market.KOSPI))
            await uow.candles.save_many(MINUTES, minutes[:3].merge(minutes[7:]))
            await uow.candles.save_many(DAYS, traded[:60])
            await uow.commit()
        eleventh = START.replace(day=11)
        await Coverage(storage).record_empty(DAYS, eleventh, eleventh)
        return page([await look(storage, key, with_candles=True) for key in (MINUTES, DAYS)])
