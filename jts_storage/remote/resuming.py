"""Streams that go on behind the last value when a gateway was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.series import CandleSeries

Arguments = Mapping[str, Any]
One = Callable[[str, Arguments], Awaitable[Any]]

_STEP: Final = timedelta(milliseconds=1)
_MOST: Final = 20
"""So often in a row a stream goes on without a new value."""

_KEYS_AT_ONCE: Final = 10_000
_OF_A_MOMENT: Final = ("view", "as_of")


class Resuming:
    """One stream of values, and what to ask for when it breaks."""

    def __init__(self, method: str, arguments: Arguments) -> None:
        self._arguments = dict(arguments)
        self._service, _, self._method = method.partition("/")
        self._failures = 0
        self._items = 0
        self._skip = 0
        self._is_known = True
        self._has_moved = False
        self._last: tuple[SeriesKey, int] | None = None
        """Of panels: the last series, and its last timestamp."""

        if arguments.get("keys") is not None:  # an iterator could be asked for them only once
            self._arguments["keys"] = list(arguments["keys"])

    def new(self, value: Any) -> Iterable[Any]:
        """What of a value its reader has not had."""
        self._failures = 0
        if isinstance(value, CandleSeries):
            assert value.end is not None
            self._arguments["start"] = value.end + _STEP
            self._has_moved = True
            return [value]
        if isinstance(value, CandlePanel):
            if value.rows:
                self._last = list(value.keys())[-1], int(value.column("timestamp")[-1])
            return [value]
        if isinstance(value, list):
            fresh = value[self._skip :]
            self._skip = max(0, self._skip - len(value))
            self._items += len(fresh)
            return fresh
        self._is_known = False  # rows of tables: the next would be other blocks
        return [value]

    def goes_on(self) -> bool:
        """Whether the rest can be asked for; what comes then is behind what was read."""
        self._failures += 1
        self._skip = self._items
        return self._is_known and self._failures <= _MOST

    async def rest(self, one: One) -> AsyncIterator[Arguments]:
        """The arguments of the calls that give all that is left, one after the other.

        :param one: calls a method that gives one value.
        """
        asked = self._arguments
        if self._last is None:
            if not self._has_moved or asked["start"] <= asked["end"]:
                yield asked
            return
        key, last = self._last
        if isinstance(asked.get("asked"), PanelQuery):  # of one series
            if last < asked["asked"].last:
                yield {**asked, "asked": replace(asked["asked"], first=last + 1)}
            return
        start = checks.from_ms(last) + _STEP
        if start <= asked["end"]:
            yield {**asked, "start": start, "keys": [key]}
        # Read when it is its turn: a break before asks for the first part again.
        if behind := await self._keys_behind(key, one):
            yield {**asked, "keys": behind}

    async def _keys_behind(self, last: SeriesKey, one: One) -> list[SeriesKey]:
        """Those whose panels come behind that of `last`: panels come in the order of their keys."""
        asked = self._arguments
        if asked.get("keys") is not None:
            return [key for key in asked["keys"] if key.sort_key > last.sort_key]
        moment: Arguments = {name: asked[name] for name in _OF_A_MOMENT if name in asked}
        found: list[SeriesKey] = []
        after, has_more = last, True
        while has_more:
            page = await one(
                f"{self._service}/ListKeys", {"limit": _KEYS_AT_ONCE, "after": after, **moment}
            )
            found += [key for key in page if key.timeframe is last.timeframe]
            has_more = bool(page) and page.has_more
            after = page[-1] if page else after
        return found
