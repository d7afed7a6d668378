"""Arguments and options of the commands about candles, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from jts_storage.domain import enums
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import member
from jts_storage.errors import InvalidData, NotFound

# These import NumPy: a mistake on the command line is told before.
if TYPE_CHECKING:
    from jts_storage.ports.history import View
    from jts_storage.storage import Storage
    from jts_storage.usecases.quality import Action, QualityPolicy, Rule

_FRAMES = "1m, 3m, 5m, 10m, 15m, 30m, 1h, 2h, 4h, 1d, 1w or 1M."


def complete_timeframes() -> list[str]:
    return [item.value for item in enums.Timeframe]


def complete_markets() -> list[str]:
    return [item.value for item in enums.Market]


def timeframe_of(text: str) -> enums.Timeframe:
    try:
        return enums.Timeframe(text)
    except ValueError:
        known = ", ".join(item.value for item in enums.Timeframe)
        raise typer.BadParameter(f"{text!r} is none of {known}.") from None


def timeframe_named(text: str | None) -> str | None:
    return text and timeframe_of(text).value


def _moment(text: str | None) -> str | None:
    if text is not None:
        moment(text, None)
    return text


def _zone(text: str | None) -> str | None:
    if text is not None:
        try:
            ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise typer.BadParameter(f"{text!r} is no time zone, such as Asia/Seoul.") from None
    return text


def _number(text: str) -> str:
    number(text)
    return text


def _tick(text: str | None) -> str | None:
    return text if text in (None, "krx") else _number(text)


# The callbacks are called as the line is read: what is wrong with it is told first.
_OF_FRAME = typer.Option(
    "--timeframe",
    "-t",
    help=_FRAMES,
    autocompletion=complete_timeframes,
    callback=timeframe_named,
)

Code = Annotated[str | None, typer.Option("--symbol", "-s", help="Code of the symbol.")]
OfTimeframe = Annotated[str | None, _OF_FRAME]
OfExchange = Annotated[str | None, typer.Option("--exchange", "-x", help="Name of the exchange.")]
TimeframeOption = Annotated[str, _OF_FRAME]
Exchange = Annotated[str, typer.Option("--exchange", "-x", help="Name of the exchange.")]
Calendar = Annotated[
    str | None,
    typer.Option(
        help="Trading calendar, such as XKRX, instead of the exchange's;"
        " 'none' for a market that never closes."
    ),
]
Zone = Annotated[str | None, typer.Option(help="Time zone, such as Asia/Seoul.", callback=_zone)]
Start = Annotated[str | None, typer.Option(help="First moment, ISO 8601.", callback=_moment)]
End = Annotated[str | None, typer.Option(help="Last moment, included, ISO 8601.", callback=_moment)]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule", help="RULE=reject|quarantine|flag|ignore, of the quality gate; may be repeated."
    ),
]
Jump = Annotated[
    str, typer.Option(help="Largest change from close to close, as a part.", callback=_number)
]
Tick = Annotated[
    str | None,
    typer.Option(help="Price step, or krx for the Korean exchange's.", callback=_tick),
]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The quality gate that candles pass through."""

    rules: Rules = None
    jump: Jump = "0.3"
    tick: Tick = None
    calendar: Calendar = None

    def policy(self, calendar: str | None) -> QualityPolicy:
        """Return the policy of these options for a market of that calendar."""
        from jts_storage.usecases.quality import Action, QualityPolicy, Rule

        actions: dict[Rule, Action] = {}
        for text in self.rules or []:
            rule, _, action = text.partition("=")
            actions[member(Rule, rule, "rule")] = member(Action, action, "action")
        step = self.tick if self.tick in (None, "krx") else number(self.tick)
        return QualityPolicy(actions=actions, jump=number(self.jump), tick=step, calendar=calendar)


def key_of(text: str) -> SeriesKey:
    try:
        return SeriesKey.parse(text)
    except InvalidData as exc:
        raise typer.BadParameter(str(exc)) from exc


def market_of(text: str) -> enums.Market:
    """Return the market of that name; ``own:SPOT`` is one of the user's own."""
    if text.startswith("own:"):
        return enums.Market.own(text.removeprefix("own:"))
    try:
        return enums.Market(text)
    except ValueError:
        known = ", ".join(item.value for item in enums.Market)
        raise typer.BadParameter(
            f"{text!r} is none of {known}. A market of your own is written own:{text}."
        ) from None


def moment(text: str | None, timezone: str | None, *, is_end: bool = False) -> datetime | None:
    """A moment; one without an offset is of the time zone given, or of UTC."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date or moment of ISO 8601.") from None
    # A date alone, as the end of a range that includes it, means its last millisecond.
    if is_end and len(text) <= 10:
        value = value.replace(hour=23, minute=59, second=59, microsecond=999_000)
    if value.tzinfo:
        return value
    if timezone is None:
        return value.replace(tzinfo=UTC)
    from jts_storage.domain.resampling import zone

    return value.replace(tzinfo=zone(timezone))


def zone_of(timeframe: enums.Timeframe, given: str | None) -> str | None:
    """The zone asked for; none for bars of a day or longer, whose date is theirs everywhere."""
    return given if timeframe.is_intraday else None


def calendar_for(given: str | None, exchange: str) -> str | None:
    """The calendar asked for, or that of the exchange."""
    from jts_storage.domain.calendar import BY_EXCHANGE, calendar_of

    if given in (None, BY_EXCHANGE):
        return calendar_of(exchange)
    return None if given.lower() == "none" else given


def number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no number.") from None


async def chosen(
    storage: Storage, symbol: str | None, timeframe: str | None, exchange: str | None
) -> list[SeriesKey]:
    """The stored series that all of the given options fit.

    :raises NotFound: none is of the symbol or exchange given.
    """
    from jts_storage.usecases.coverage import Coverage

    wanted = timeframe_of(timeframe) if timeframe else None
    found = [
        key
        for key in await Coverage(storage).keys()
        if symbol in (None, key.symbol)
        and wanted in (None, key.timeframe)
        and exchange in (None, key.exchange)
    ]
    if not found and (symbol is not None or exchange is not None):
        raise nothing_stored(" ".join(filter(None, (exchange, symbol, timeframe))))
    return found


async def check_stored(key: SeriesKey, *storages: Storage | View) -> None:
    """:raises NotFound: none of these has a candle of the series that options name."""
    if not await _is_stored(key, storages):
        raise nothing_stored(key)


async def check_named(key: SeriesKey, storage: Storage, *others: Storage | View) -> None:
    """As `check_stored`, of a series that is written in one word, as KRX:005930/1d."""
    if await _is_stored(key, (storage, *others)):
        return
    from jts_storage.usecases.coverage import Coverage

    asked = key.symbol, key.timeframe
    like = [str(k) for k in await Coverage(storage).keys() if (k.symbol, k.timeframe) == asked]
    remedy = "`jts-storage coverage` lists what is."
    if like:
        remedy = f"The exchange is part of a series: write {' or '.join(like)}."
    elif not key.exchange:
        example = SeriesKey(key.symbol, key.timeframe, "KRX")
        remedy += f" The exchange is part of a series, as in {example}."
    raise NotFound(f"No candles of {key} are stored.", remedy=remedy)


async def _is_stored(key: SeriesKey, storages: Iterable[Storage | View]) -> bool:
    for storage in storages:
        if (await storage.candles.get_coverage(key)).first is not None:
            return True
    return False


def nothing_stored(series: object) -> NotFound:
    """Return the error for a series that is not stored, perhaps because its name is misspelled."""
    return NotFound(
        f"No candles of {series} are stored.",
        remedy="`jts-storage coverage` lists what is; --exchange is part of a series.",
    )
