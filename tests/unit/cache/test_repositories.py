"""What a cached repository keeps apart, and asks anew; what is wrong is refused behind it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from jts_storage.cache.answers import Answers
from jts_storage.cache.local import LocalCoherence
from jts_storage.cache.repositories import CachedCandles, scopes_written
from jts_storage.cache.writers import Writers
from jts_storage.domain.cache_statistics import Counters
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.errors import InvalidData
from jts_storage.settings.redis import RedisConfig
from jts_storage.testing.factories import make_candles


async def test_ranges_of_no_list_of_keys_are_refused_by_the_repository() -> None:
    class Repository:
        async def get_ranges(self, keys: Any, *_: object, **__: object) -> Any:
            assert keys is None
            raise InvalidData("are no keys", field="keys", value=keys)

    repository: Any = Repository()
    cached = CachedCandles(repository, Answers(LocalCoherence(), Counters(), 30.0))
    first = make_candles(1)[0].timestamp
    nothing: Any = None
    with pytest.raises(InvalidData, match="keys"):
        await cached.get_ranges(nothing, first, first)


KEY: Final = SeriesKey("AAPL", Timeframe.M1, "X")
DAY: Final = make_candles(KEY, 3)
ENDS: Final = (DAY[0].timestamp, DAY[-1].timestamp)
PANEL: Final = ("get_panel", Timeframe.M1, *ENDS)
LATEST: Final = ("get_latest_panel", Timeframe.M1)
RESAMPLED: Final = ("resample_panel", Timeframe.M1, Timeframe.H1, *ENDS)


class Counting:
    """Candles and symbols, of which it is known how often the stores were asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        async def read(*_: object, **__: object) -> Any:
            self.asked += 1
            if name.endswith("panel"):
                return CandlePanel(Timeframe.M1, [DAY])
            return {DAY[0].timestamp.date(): 3} if name == "coverage_by_day" else DAY

        return read


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def coherence() -> LocalCoherence:
    return LocalCoherence()


@pytest.fixture
def cached(counting: Counting, coherence: LocalCoherence) -> CachedCandles:
    stores: Any = counting
    return CachedCandles(stores, Answers(coherence, Counters(), 30.0))


async def read(cached: CachedCandles, question: tuple[Any, ...], **more: Any) -> Any:
    method, *arguments = question
    return await getattr(cached, method)(*arguments, **more)


@pytest.mark.parametrize("question", [PANEL, LATEST, RESAMPLED])
async def test_a_panel_of_a_market_is_asked_anew_once_symbols_are_written(
    cached: CachedCandles, counting: Counting, coherence: LocalCoherence, question: Any
) -> None:
    """A symbol may have come to the market, or left it, and no candle was written."""
    writers = Writers(coherence, Counters(), RedisConfig())
    asked = []
    for _ in range(2):
        for market in (Market.KOSPI, None):
            await read(cached, question, market=market)
            asked.append(counting.asked)
        async with writers.writing(scopes_written([], symbols=True), may_refuse=True):
            pass
    assert asked == [1, 2, 3, 3], "those of all markets are kept"


@pytest.mark.parametrize(
    ("question", "others"),
    [
        (
            PANEL,
            [
                {"keys": [KEY]},
                {"exchange": "X"},
                {"market": Market.KOSPI},
                {"fields": ("close",)},
                {"last": 2},
            ],
        ),
        (
            LATEST,
            [
                {"count": 2},
                {"keys": [KEY]},
                {"exchange": "X"},
                {"market": Market.KOSPI},
                {"fields": ("close",)},
            ],
        ),
        (
            RESAMPLED,
            [
                {"keys": [KEY]},
                {"exchange": "X"},
                {"market": Market.KOSPI},
                {"timezone": "Asia/Seoul"},
            ],
        ),
        (("resample", KEY, Timeframe.H1, *ENDS), [{"timezone": "Asia/Seoul"}]),
        (("coverage_by_day", KEY), [{"timezone": "Asia/Seoul"}]),
        (("get_latest", KEY), [{"count": 2}]),
    ],
)
async def test_what_is_asked_otherwise_is_another_question(
    cached: CachedCandles, counting: Counting, question: Any, others: list[dict[str, Any]]
) -> None:
    for _ in range(2):
        for more in ({}, *others):
            await read(cached, question, **more)
    assert counting.asked == 1 + len(others)


async def test_what_callers_do_to_an_answer_is_not_done_to_what_is_kept(
    cached: CachedCandles,
) -> None:
    for _ in range(3):
        days = await cached.coverage_by_day(KEY)
        assert len(days) == 1
        days.clear()
