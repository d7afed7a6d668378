"""Import every file of a folder as a newcomer would, and compare what is stored with pandas.

``python scripts/try_files.py FOLDER``: a refusal names an option, which is added before the next
try. The table says which files were imported at once, which with what options, and which were
refused. Each stored row is read by pandas and Python's decimals again, and compared.
"""

from __future__ import annotations

import asyncio
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage._runtime.surface import use_command_line
from jts_storage.errors import StorageError
from jts_storage.readers import headers
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.import_files import files_of
from jts_storage.usecases.results import ImportResult

TRIES = 7
ZERO = "--volume zero-if-missing"
LIMIT = 10**14  # of Decimal(18, 4)
ALWAYS = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 1, 1, tzinfo=UTC)
PRICES = ("open", "high", "low", "close")
OFFERED = (
    r"--round-prices",
    r"--volume (?:round|zero-if-missing)",
    r"--timezone \S+(?=\.)",
    r"--time-format (?:'[^']+'|\S+[^\s.])",
    r"--on-error quarantine",
)
UNREADABLE = (ValueError, KeyError, TypeError, OSError, pa.ArrowException)
STEPS = [(frame.step_ms, frame) for frame in Timeframe if frame.step_ms is not None]


@dataclass
class Outcome:
    """What became of one file."""

    path: Path
    flags: list[str] = field(default_factory=list)
    result: ImportResult | None = None
    refusal: str = ""
    stored: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        if self.result is None:
            return "refused"
        if self.differences:
            return "WRONG"
        return "with options" if self.flags else "at once"


async def tried(path: Path) -> Outcome:
    outcome = Outcome(path)
    flags = outcome.flags
    for _ in range(TRIES):
        async with Storage.in_memory() as storage:
            try:
                outcome.result = await imported(storage, path, outcome.flags)
            except StorageError as exc:
                outcome.refusal = str(exc)
                offered = next(offers(outcome.refusal, outcome.flags), None)
                if offered is None:
                    break
                outcome.flags.append(offered)
                continue
            if outcome.result.broken.get("missing") == outcome.result.read and ZERO not in flags:
                outcome.flags.append(ZERO)
                continue
            await compare(storage, outcome)
            break
    return outcome


async def imported(storage: Storage, path: Path, flags: list[str]) -> ImportResult:
    use_command_line()
    given = options_of(flags)
    symbol = None if "symbol" in targets_of(path) else "X"
    return await ImportCandles(storage).run(
        path,
        timeframe_of(path),
        symbol=symbol,
        options=ImportOptions(create=Market.KOSPI, **given),
    )


def options_of(flags: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition(" ")
        name, value = name.replace("-", "_"), value.strip("'")
        if name == "volume" and name in given:
            value = f"{given[name]},{value}"
        given[name] = value or True
    return given


def offers(message: str, flags: list[str]) -> Iterator[str]:
    """The options that a refusal names and that were not tried yet."""
    for pattern in OFFERED:
        for found in re.findall(pattern, message):
            # The zone in the message is an example, and nobody knows the right one.
            flag = "--timezone UTC" if found.startswith("--timezone") else found
            if flag not in flags:
                yield flag


def frame_of(path: Path) -> Any:
    """The file as text, read by pandas."""
    if path.suffix in (".parquet", ".feather"):
        read = pd.read_parquet if path.suffix == ".parquet" else pd.read_feather
        return read(path).map(lambda value: str(value) if value == value else "")
    frame = pd.read_csv(
        path,
        sep=None,
        engine="python",
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
        encoding="utf-8-sig",
        on_bad_lines="skip",
        index_col=False,
        quoting=csv.QUOTE_MINIMAL,
    )
    return frame.rename(columns=str.strip)


def targets_of(path: Path) -> dict[str, str]:
    """The column of each target, without the guesses that need values."""
    found: dict[str, str] = {}
    try:
        columns = frame_of(path).columns
    except UNREADABLE:
        return {}
    for header in columns:
        target = headers.target_of(str(header))
        if target is not None:
            found.setdefault(target, header)
    return found


def times_of(path: Path, frame: Any, flags: list[str], timeframe: Timeframe | None = None) -> Any:
    names = targets_of(path)
    form = options_of(flags).get("time_format")
    first = names.get("timestamp") or names.get("date") or names.get("time") or frame.columns[0]
    text = frame[first].str.strip()
    if "timestamp" not in names and {"date", "time"} <= names.keys():
        text = text + " " + frame[names["time"]].str.strip().str.zfill(4)
    if form is None and text.str.fullmatch(r"\d{9,19}(\.0*)?").all():
        digits = len(text.iloc[0].partition(".")[0])
        unit: Any = {9: "s", 10: "s", 12: "ms", 13: "ms", 16: "us", 19: "ns"}[digits]
        return pd.to_datetime(text.str.partition(".")[0].astype("int64"), unit=unit, utc=True)
    if timeframe is None or not timeframe.is_intraday:
        # The date of a daily bar is the one that is written, whatever the offset.
        text = text.str.replace(r"(?<=\d\d:\d\d)(:\d\d)?(Z|[+-]\d\d:?\d\d| UTC)$", "", regex=True)
    return pd.to_datetime(text, format=form or "mixed", utc=True)


def timeframe_of(path: Path) -> Timeframe:
    try:
        times = times_of(path, frame_of(path), []).sort_values().drop_duplicates()
    except UNREADABLE:
        return Timeframe.D1
    step = times.diff().median() / pd.Timedelta(milliseconds=1)
    if step > 20 * 86_400_000:
        return Timeframe.MN1
    return min(STEPS, key=lambda known: abs(known[0] - step))[1]


def number(text: str, places: str) -> Decimal:
    return Decimal(text.strip().replace(",", "")).quantize(Decimal(places), ROUND_HALF_EVEN)


async def compare(storage: Storage, outcome: Outcome) -> None:
    """Note every stored row that is not what pandas reads, and every one that is missing."""
    frame, names = frame_of(outcome.path), targets_of(outcome.path)
    timeframe = timeframe_of(outcome.path)
    times = times_of(outcome.path, frame, outcome.flags, timeframe)
    symbols = frame[names["symbol"]].str.strip() if "symbol" in names else ["X"] * len(frame)
    expected: dict[tuple[str, datetime], tuple[Decimal, ...]] = {}
    for at, (symbol, time) in enumerate(zip(symbols, times, strict=True)):
        row = values(frame.iloc[at], names, "0" if ZERO in outcome.flags else "")
        if row is not None:
            expected[symbol, stamp(time, timeframe)] = row
    stored = {}
    for symbol in set(symbols):
        key = SeriesKey(symbol, timeframe)
        for candle in await storage.candles.get_range(key, *ALWAYS):
            prices = (candle.open, candle.high, candle.low, candle.close)
            stored[symbol, candle.timestamp] = (*prices, Decimal(candle.volume))
    outcome.stored = len(stored)
    for place in sorted(expected.keys() | stored.keys()):
        if expected.get(place) != stored.get(place):
            outcome.differences.append(f"{place}: {expected.get(place)} {stored.get(place)}")


def values(row: Any, names: dict[str, str], empty: str) -> tuple[Decimal, ...] | None:
    """The row as it is to be stored; None for one that no store may hold.

    :param empty: what stands for a volume that is missing.
    """
    try:
        opening, high, low, close = (number(row[names[name]], "0.0001") for name in PRICES)
        volume = number(row[names["volume"]] or empty, "1") if "volume" in names else Decimal(0)
    except InvalidOperation:
        return None
    if not -LIMIT < low <= min(opening, close) <= max(opening, close) <= high < LIMIT:
        return None
    return opening, high, low, close, volume


def stamp(time: Any, timeframe: Timeframe) -> datetime:
    if not timeframe.is_intraday:
        time = time.normalize()
    if timeframe is Timeframe.W1:
        time -= pd.Timedelta(days=time.weekday())
    if timeframe is Timeframe.MN1:
        time = time.replace(day=1)
    moment: datetime = time.to_pydatetime()
    return moment


def line(outcome: Outcome) -> str:
    name = f"{outcome.path.parent.name}/{outcome.path.name}"
    said = " ".join(outcome.flags)
    if outcome.result is None:
        return f"| {name} | refused | {said} | {outcome.refusal.rpartition('/')[2]} |"
    found = outcome.result
    counts = f"{found.read:,} read, {outcome.stored:,} stored"
    more = f", first difference {outcome.differences[0]}" if outcome.differences else ""
    return f"| {name} | {outcome.kind} | {said} | {counts}{more} |"


async def main() -> int:
    print("| file | imported | options | result |\n|---|---|---|---|")
    kinds: Counter[str] = Counter()
    for path in files_of(sys.argv[1:]):
        outcome = await tried(path)
        kinds[outcome.kind] += 1
        print(line(outcome), flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    return 1 if kinds["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
