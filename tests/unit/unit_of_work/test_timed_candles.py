"""Reads as of a moment ask for all that they were asked for, and never tell half of what was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from jts_storage import CandleSeries, SeriesKey, Timeframe
from jts_storage.domain.beginnings import Reach
from jts_storage.domain.correction import end_of
from jts_storage.domain.enums import Market
from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work.kept_candles import KeptCandles
from jts_storage.unit_of_work.timed_candles import TimedCandles

KEY = SeriesKey("A", Timeframe.M1)
THEN = Commit(7)
SEOUL = {"timezone": "Asia/Seoul"}
WHICH = {"keys": [KEY], "exchange": "X", "market": Market.KOSPI}


class Reader:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def read(*given: Any, **more: Any) -> None:
            self.asked.append((given, more))

        async def parts(*given: Any, **more: Any) -> AsyncIterator[None]:
            self.asked.append((given, more))
            yield None

        return parts if name.startswith("stream") else read


@pytest.mark.parametrize(
    ("name", "given", "more"),
    [
        ("get_panel", (Timeframe.M1, *FOREVER), WHICH | {"fields": ["close"], "last": 3}),
        ("get_latest_panel", (Timeframe.M1, 4), WHICH | {"fields": ["close"]}),
        ("resample_panel", (Timeframe.M1, Timeframe.D1, *FOREVER), WHICH | SEOUL),
        (
            "stream_panels",
            (Timeframe.M1, *FOREVER),
            WHICH | {"fields": ["close"], "block_rows": 5},
        ),
        ("get_latest", (KEY, 6), {}),
        ("coverage_by_day", (KEY,), SEOUL),
        ("count", (KEY, *FOREVER), {}),
        ("resample", (KEY, Timeframe.D1, *FOREVER), SEOUL),
        ("stream", (KEY, *FOREVER), {"block_rows": 8}),
        ("list_keys", (), {"limit": 9, "after": KEY}),
    ],
)
async def test_all_that_is_asked_is_asked_of_the_moment(
    name: str, given: tuple[Any, ...], more: dict[str, Any]
) -> None:
    now, then = Reader(), Reader()

    async def view(_: object) -> Any:
        return SimpleNamespace(candles=then)

    candles: Any = TimedCandles(now, view, Purged(0))  # type: ignore[arg-type]
    answer = getattr(candles, name)(*given, as_of=THEN, **more)
    if name.startswith("stream"):
        assert [part async for part in answer] == [None]
    else:
        await answer
    assert (now.asked, then.asked) == ([], [(given, more)])


class Purged:
    """A history that begins later each time, until there are no more times."""

    def __init__(self, *began: int) -> None:
        self._began = list(began)

    async def began(self, _: SeriesKey) -> int:
        return self._began.pop(0) if len(self._began) > 1 else self._began[0]

    async def reach(self, key: SeriesKey) -> Reach:
        return Reach(await self.began(key))

    async def check(self, commit: Commit, _: object) -> None:
        if commit.version < await self.began(KEY):
            raise InvalidData("it was purged")


async def test_corrections_that_are_purged_meanwhile_are_asked_for_again() -> None:
    asked: list[Any] = []

    async def corrections(_key: object, _first: int, _last: int, since: Any, _limit: int) -> None:
        asked.append(since)

    now: Any = SimpleNamespace(corrections=corrections)
    purges: Any = Purged(0, 5, 5)
    unused: Any = None
    await TimedCandles(now, unused, purges).changes(KEY)
    assert asked == [end_of(0), end_of(5)]


async def test_a_piece_that_was_read_of_what_is_purged_meanwhile_is_not_given() -> None:
    series = make_candles(KEY, 4)

    async def read_pieces(*_: object) -> AsyncIterator[CandleSeries]:
        yield series[:2]
        yield series[2:]

    candles: Any = SimpleNamespace(read_pieces=read_pieces)
    purges: Any = Purged(0, 9)
    reading = KeptCandles(candles, THEN, purges).stream(KEY, *FOREVER, block_rows=1)
    assert [await anext(reading), await anext(reading)] == [series[:1], series[1:2]]
    with pytest.raises(InvalidData, match="it was purged"):
        await anext(reading)
