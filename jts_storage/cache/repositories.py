"""The readers of a storage, which give answers that are kept where they may.

A question whose arguments are not as they should be goes to the stores, which say so. So does what
is read as of a moment, what is large, and what comes in parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any, Final, TypeVar

from jts_storage.cache import values
from jts_storage.cache.answers import Answers
from jts_storage.cache.values import Codec, SeriesCodec
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import series_name
from jts_storage.domain.correction import Correction
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.moments import AsOf
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.results import Coverage, Page
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import InvalidData
from jts_storage.ports.candles import CandleStore
from jts_storage.ports.lake import Lake
from jts_storage.ports.symbols import SymbolReader

T = TypeVar("T")

CANDLES: Final = "all candles"
"""The scope that every write of candles changes."""

MANY: Final = "many series"
"""The scope that a write of more series than are named changes."""

SYMBOLS: Final = "all symbols"

_CLOSED: Final = 8
"""How many times longer a range may be than its candles would be without a pause: markets close."""


def scopes_written(series: Iterable[str] | None, *, symbols: bool) -> list[str]:
    """The scopes that a write changes.

    :param series: names of the series that it writes; None if there are too many to name.
    """
    scopes = [MANY] if series is None else list(series)
    if scopes:
        scopes.append(CANDLES)
    return [*scopes, SYMBOLS] if symbols else scopes


def _of_series(key: SeriesKey) -> tuple[str, str]:
    return series_name(key), MANY


def _name(method: str, *arguments: object) -> str:
    text = repr(arguments).encode()
    return f"{method}:{hashlib.blake2b(text, digest_size=16).hexdigest()}"


def _is_short(key: SeriesKey, first: int, last: int) -> bool:
    step = key.timeframe.step_ms
    return step is None or (last - first) // step <= _CLOSED * values.MOST_ROWS


class CachedCandles:
    """A `CandleStore` over another."""

    def __init__(self, candles: CandleStore, answers: Answers) -> None:
        self._candles, self._answers = candles, answers

    async def get_range(
        self, key: SeriesKey, start: datetime, end: datetime, *, as_of: AsOf | None = None
    ) -> CandleSeries:
        async def ask() -> CandleSeries:
            return await self._candles.get_range(key, start, end, as_of=as_of)

        ends = _ends(start, end)
        if as_of is not None or ends is None or not _is_key(key) or not _is_short(key, *ends):
            return await ask()
        name = f"range:{ends[0]}:{ends[1]}"
        return await self._answers.get(_of_series(key), name, ask, SeriesCodec(key))

    async def get_ranges(
        self,
        keys: Iterable[SeriesKey],
        start: datetime,
        end: datetime,
        *,
        as_of: AsOf | None = None,
    ) -> dict[SeriesKey, CandleSeries]:
        named = _listed(keys)
        ends = _ends(start, end)
        timeframes = {key.timeframe for key in named or ()} if _are_keys(named) else set()
        if as_of is not None or ends is None or len(timeframes) != 1:
            return await self._candles.get_ranges(named, start, end, as_of=as_of)
        (timeframe,) = timeframes
        unique: list[SeriesKey] = list(dict.fromkeys(named))

        async def ask() -> CandlePanel:
            found = await self._candles.get_ranges(unique, start, end)
            return CandlePanel(timeframe, found.values())

        name = _name("ranges", sorted(map(str, unique)), ends)
        panel = await self._panel(name, ask, None)
        return {key: panel[key] if key in panel else CandleSeries.empty(key) for key in unique}

    async def get_panel(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        last: int | None = None,
        as_of: AsOf | None = None,
    ) -> CandlePanel:
        named, wanted = _listed(keys), _listed(fields)

        async def ask() -> CandlePanel:
            return await self._candles.get_panel(
                timeframe,
                start,
                end,
                keys=named,
                exchange=exchange,
                market=market,
                fields=wanted,
                last=last,
                as_of=as_of,
            )

        ends = _ends(start, end)
        if as_of is not None or ends is None or not _are_keys(named):
            return await ask()
        name = _name("panel", timeframe, ends, _texts(named), exchange, market, wanted, last)
        return await self._panel(name, ask, market)

    async def get_latest_panel(
        self,
        timeframe: Timeframe,
        count: int = 1,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        as_of: AsOf | None = None,
    ) -> CandlePanel:
        named, wanted = _listed(keys), _listed(fields)

        async def ask() -> CandlePanel:
            return await self._candles.get_latest_panel(
                timeframe,
                count,
                keys=named,
                exchange=exchange,
                market=market,
                fields=wanted,
                as_of=as_of,
            )

        if as_of is not None or not _are_keys(named):
            return await ask()
        name = _name("latest panel", timeframe, count, _texts(named), exchange, market, wanted)
        return await self._panel(name, ask, market)

    async def resample_panel(
        self,
        timeframe: Timeframe,
        target: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        timezone: str = "UTC",
        as_of: AsOf | None = None,
    ) -> CandlePanel:
        named = _listed(keys)

        async def ask() -> CandlePanel:
            return await self._candles.resample_panel(
                timeframe,
                target,
                start,
                end,
                keys=named,
                exchange=exchange,
                market=market,
                timezone=timezone,
                as_of=as_of,
            )

        ends = _ends(start, end)
        if as_of is not None or ends is None or not _are_keys(named):
            return await ask()
        asked = (timeframe, target, ends, _texts(named), exchange, market, timezone)
        return await self._panel(_name("resampled panel", *asked), ask, market)

    def stream_panels(
        self, timeframe: Timeframe, start: datetime, end: datetime, **more: Any
    ) -> AsyncIterator[CandlePanel]:
        return self._candles.stream_panels(timeframe, start, end, **more)

    async def get_latest(
        self, key: SeriesKey, count: int = 1, *, as_of: AsOf | None = None
    ) -> CandleSeries:
        async def ask() -> CandleSeries:
            return await self._candles.get_latest(key, count, as_of=as_of)

        if as_of is not None or not _is_key(key) or not _is_whole(count):
            return await ask()
        return await self._answers.get(_of_series(key), f"latest:{count}", ask, SeriesCodec(key))

    async def get_coverage(self, key: SeriesKey, *, as_of: AsOf | None = None) -> Coverage:
        async def ask() -> Coverage:
            return await self._candles.get_coverage(key, as_of=as_of)

        if as_of is not None or not _is_key(key):
            return await ask()
        return await self._answers.get(_of_series(key), "coverage", ask, values.COVERAGE)

    async def coverage_by_day(
        self, key: SeriesKey, *, timezone: str = "UTC", as_of: AsOf | None = None
    ) -> dict[date, int]:
        async def ask() -> dict[date, int]:
            return await self._candles.coverage_by_day(key, timezone=timezone, as_of=as_of)

        if as_of is not None or not _is_key(key):
            return await ask()
        name = _name("days", timezone)
        return await self._answers.get(_of_series(key), name, ask, values.DAYS)

    async def count(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        as_of: AsOf | None = None,
    ) -> int:
        async def ask() -> int:
            return await self._candles.count(key, start, end, as_of=as_of)

        ends = _ends(start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP)
        if as_of is not None or not _is_key(key) or ends is None:
            return await ask()
        name = f"count:{ends[0]}:{ends[1]}"
        return await self._answers.get(_of_series(key), name, ask, values.COUNT)

    async def resample(
        self,
        key: SeriesKey,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        timezone: str = "UTC",
        as_of: AsOf | None = None,
    ) -> CandleSeries:
        async def ask() -> CandleSeries:
            return await self._candles.resample(
                key, timeframe, start, end, timezone=timezone, as_of=as_of
            )

        ends = _ends(start, end)
        is_named = _is_key(key) and _is_timeframe(timeframe)
        if as_of is not None or ends is None or not is_named:
            return await ask()
        codec = SeriesCodec(SeriesKey(key.symbol, timeframe, key.exchange))
        name = _name("resampled", timeframe, ends, timezone)
        return await self._answers.get(_of_series(key), name, ask, codec)

    def stream(
        self, key: SeriesKey, start: datetime, end: datetime, **more: Any
    ) -> AsyncIterator[CandleSeries]:
        return self._candles.stream(key, start, end, **more)

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None, as_of: AsOf | None = None
    ) -> Page[SeriesKey]:
        async def ask() -> Page[SeriesKey]:
            return await self._candles.list_keys(limit=limit, after=after, as_of=as_of)

        is_known = after is None or isinstance(after, SeriesKey)
        if as_of is not None or not _is_whole(limit) or not is_known:
            return await ask()
        name = _name("keys", limit, None if after is None else str(after))
        return await self._answers.get((CANDLES,), name, ask, values.KEYS)

    async def changes(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        **more: Any,
    ) -> Page[Correction]:
        return await self._candles.changes(key, start, end, **more)

    async def purge_history(self, keys: Iterable[SeriesKey] | None = None, **more: Any) -> int:
        return await self._candles.purge_history(keys, **more)

    async def import_lake(self, lake: Lake, job_id: str) -> int:
        return await self._candles.import_lake(lake, job_id)

    async def _panel(
        self, name: str, ask: Callable[[], Awaitable[CandlePanel]], market: Market | None
    ) -> CandlePanel:
        # Which symbols a market has, is asked of the symbols.
        scopes = (CANDLES,) if market is None else (CANDLES, SYMBOLS)
        return await self._answers.get(scopes, name, ask, values.PANEL)


class CachedSymbols:
    """A `SymbolReader` over another."""

    def __init__(self, symbols: SymbolReader, answers: Answers) -> None:
        self._symbols, self._answers = symbols, answers

    async def get_by_code(self, code: str) -> Symbol | None:
        async def ask() -> Symbol | None:
            return await self._symbols.get_by_code(code)

        return await self._get(_name("code", code), ask, values.SYMBOL)

    async def get_by_market(
        self, market: Market, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Symbol]:
        async def ask() -> Sequence[Symbol]:
            return await self._symbols.get_by_market(market, limit=limit, after=after)

        return await self._get(_name("market", market, limit, after), ask, values.SYMBOLS)

    async def get_all_active(
        self, *, limit: int = 10_000, after: str | None = None
    ) -> Sequence[Symbol]:
        async def ask() -> Sequence[Symbol]:
            return await self._symbols.get_all_active(limit=limit, after=after)

        return await self._get(_name("active", limit, after), ask, values.SYMBOLS)

    async def search(
        self, query: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[Symbol]:
        return await self._symbols.search(query, limit=limit, after=after)

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Symbol]:
        async def ask() -> Sequence[Symbol]:
            return await self._symbols.list(limit=limit, after=after)

        return await self._get(_name("list", limit, after), ask, values.SYMBOLS)

    async def _get(self, name: str, ask: Callable[[], Awaitable[T]], codec: Codec[T]) -> T:
        return await self._answers.get((SYMBOLS,), name, ask, codec)


def _ends(start: datetime, end: datetime) -> tuple[int, int] | None:
    """None for what is no range, as the store will say."""
    try:
        return checks.range_ms(start, end)
    except InvalidData:
        return None


def _is_key(value: object) -> bool:
    return isinstance(value, SeriesKey)


def _is_timeframe(value: object) -> bool:
    return isinstance(value, Timeframe)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(given: Any) -> Any:
    """What can be gone through several times."""
    is_one = given is None or isinstance(given, str | SeriesKey) or not isinstance(given, Iterable)
    return given if is_one else tuple(given)


def _are_keys(given: Any) -> bool:
    if given is None:
        return True
    return isinstance(given, tuple) and all(isinstance(each, SeriesKey) for each in given)


def _texts(keys: Sequence[SeriesKey] | None) -> list[str] | None:
    return None if keys is None else list(map(str, keys))
