"""Charts show every candle, in the colours of its market."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from jts_storage import CandleSeries, SeriesKey, Timeframe
from jts_storage.domain.plot import palette
from jts_storage.errors import InvalidConfiguration, InvalidData
from jts_storage.testing.factories import make_candles

RED, GREEN, BLUE = "#d32f2f", "#2e7d32", "#1565c0"
KEY = SeriesKey("005930", Timeframe.D1, exchange="KRX")


@pytest.fixture(scope="module", autouse=True)
def _matplotlib() -> Iterator[None]:
    try:
        import matplotlib as mpl
    except ImportError:
        pytest.fail("matplotlib is missing: install jts-storage[plot]", pytrace=False)
    mpl.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.mark.parametrize(
    ("exchange", "up", "down"),
    [
        ("KRX", RED, BLUE),
        ("KOSDAQ", RED, BLUE),
        ("XKRX", RED, BLUE),
        ("UPBIT", RED, BLUE),
        ("SSE", RED, GREEN),
        ("NYSE", GREEN, RED),
        ("BINANCE", GREEN, RED),
        ("elsewhere", GREEN, RED),
    ],
)
def test_colours_are_those_of_the_market(exchange: str, up: str, down: str) -> None:
    assert palette(exchange) == (up, down)


def test_colours_can_be_chosen() -> None:
    assert palette("NYSE", "korea") == (RED, BLUE)
    assert palette("KRX", "west") == (GREEN, RED)
    with pytest.raises(InvalidData, match="market, korea, west, colorblind"):
        palette("KRX", "pink")  # type: ignore[arg-type]


def luminance(color: str) -> float:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def test_colours_for_the_colour_blind_differ_in_grey() -> None:
    up, down = palette("KRX", "colorblind")
    assert luminance(up) - luminance(down) > 0.25


def bodies(axes: Any) -> list[tuple[float, float, float, bool]]:
    """Of each candle its place, its lower and upper end, and whether it is hollow."""
    found = []
    for body in axes.patches:
        middle, low = body.get_x() + body.get_width() / 2, body.get_y()
        hollow = body.get_facecolor()[3] == 0
        found.append((round(middle, 6), low, low + body.get_height(), hollow))
    return sorted(found)


def test_each_candle_has_its_body_and_its_wicks() -> None:
    series = make_candles(KEY, 60)
    axes = series.plot()
    expected = [
        (at, *sorted((float(c.open), float(c.close))), c.close > c.open)
        for at, c in enumerate(series)
    ]
    assert np.allclose(bodies(axes), expected)
    ends = np.concatenate([path.vertices for c in axes.collections for path in c.get_paths()])
    assert ends[:, 1].max() == max(float(c.high) for c in series)
    assert ends[:, 1].min() == min(float(c.low) for c in series)
    assert axes.get_title(loc="left") == "KRX:005930/1d"


def test_it_draws_into_axes_that_are_given() -> None:
    from matplotlib.figure import Figure

    above, below = Figure().subplots(2)
    assert make_candles(KEY, 3).plot(ax=below, colors="colorblind") is below
    assert (len(above.patches), len(below.patches)) == (0, 3)


def test_ticks_are_the_times_of_candles() -> None:
    axes = make_candles(3).plot()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["01-02 00:00", "01-02 00:01", "01-02 00:02"]


def test_an_empty_series_is_an_empty_chart() -> None:
    axes = CandleSeries.empty(KEY).plot()
    assert len(axes.patches) == 0


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(InvalidConfiguration, match=r"Install jts-storage\[plot\]"):
        make_candles(3).plot()
