"""Prices and volumes that no store holds are rounded where the caller asks for it, and counted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage import Candle, Market, SeriesKey, Storage, Timeframe
from jts_storage._runtime.surface import use_command_line
from jts_storage.errors import InvalidData
from jts_storage.readers.adjusting import Adjusted, Changes, VolumeRule
from jts_storage.readers.rounding import adjusted_volumes, rounded_prices
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import QualityPolicy
from jts_storage.usecases.results import ImportResult, Tally

HEADER = "t,o,h,l,c,v\n"
KEY = SeriesKey("A", Timeframe.M1)
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
NOTHING = Adjusted()


async def run(storage: Storage, data: Any, **options: Any) -> ImportResult:
    chosen = ImportOptions(create=Market.KOSPI, policy=QualityPolicy(now=ALWAYS[1]), **options)
    return await ImportCandles(storage).run(data, Timeframe.M1, symbol="A", options=chosen)


async def stored(storage: Storage) -> list[Candle]:
    return list(await storage.candles.get_range(KEY, *ALWAYS))


def csv(folder: Path, rows: str, header: str = HEADER) -> Path:
    path = folder / "p.csv"
    path.write_text(header + rows)
    return path


async def test_prices_are_rounded_half_to_even_and_counted(
    storage: Storage, tmp_path: Path
) -> None:
    path = csv(
        tmp_path,
        "1704153600,1.00005,2.000149999,0.99995,1.00015,5\n"
        "1704153660,1.00000,1.5,1.0,1.2345e0,5\n"
        "1704153720,1.5,1.5,6e-5,0.00005000000000000000000000001,5\n",
    )
    result = await run(storage, path, round_prices=True)
    first, second, third = await stored(storage)
    assert [first.open, first.high, first.low, first.close] == [
        Decimal(text) for text in ("1.0000", "2.0001", "1.0000", "1.0002")
    ]
    assert second.close == Decimal("1.2345")
    assert (third.low, third.close) == (Decimal("0.0001"), Decimal("0.0001"))
    assert result.adjusted == Adjusted(prices=Changes(6, Decimal("0.00005")))


@pytest.mark.parametrize("small", ["2.11e-05", "0.00005", "-0.00001"])
async def test_a_price_of_which_nothing_would_be_left_is_refused(
    storage: Storage, tmp_path: Path, small: str
) -> None:
    rows = f"1704153600,1,1,1,1,5\n1704153660,1,1,1,{small},5\n1704153720,0.00000,1,0,1,5\n"
    path = csv(tmp_path, rows)
    with pytest.raises(InvalidData, match=r"line 3.*'c'.*too small.*0 would be left") as refused:
        await run(storage, path, round_prices=True)
    assert "round" not in str(refused.value.remedy)
    result = await run(storage, path, round_prices=True, on_error="quarantine")
    assert result.broken == {"unreadable": 1}
    assert [candle.low for candle in await stored(storage)] == [Decimal(1), Decimal(0)]


async def test_nothing_is_rounded_where_nothing_needs_it(storage: Storage, tmp_path: Path) -> None:
    path = csv(tmp_path, "1704153600,42283.58000000,42283.58000000,7,8.5,1234.00000000\n")
    result = await run(storage, path)
    assert result.adjusted == NOTHING
    result = await run(storage, path, round_prices=True, volume="round")
    assert result.adjusted == NOTHING
    assert (await stored(storage))[0].open == Decimal("42283.58")


@pytest.mark.parametrize("command_line", [False, True])
@pytest.mark.parametrize(
    ("row", "python", "flag"),
    [
        ("1.00001,2,1,1,1", "round_prices=True rounds", "--round-prices rounds"),
        ("1,1,1,1,0.5", "volume='round' rounds", "--volume round rounds"),
        ("1,1,1,1", "volume='zero-if-missing' takes", "--volume zero-if-missing takes"),
    ],
)
async def test_a_refusal_names_the_option_as_the_caller_writes_it(
    storage: Storage, tmp_path: Path, row: str, python: str, flag: str, command_line: bool
) -> None:
    if command_line:
        use_command_line()
    header = HEADER if row.count(",") == 4 else "t,o,h,l,c\n"
    with pytest.raises(InvalidData) as refused:
        await run(storage, csv(tmp_path, f"1704153600,{row}\n", header))
    assert (flag if command_line else python) in str(refused.value)
    assert not await stored(storage)


@pytest.mark.parametrize(
    ("rule", "volumes", "changes"),
    [
        ("round", [0, 2, 2, 10**19], Changes(3, Decimal("0.5"))),
        ("floor", [0, 1, 2, 10**19], Changes(3, Decimal("0.99999999"))),
        ("scale:8", None, None),
        ("scale:1,floor", [5, 19, 25, None], None),
    ],
)
async def test_fractional_volumes(
    storage: Storage,
    tmp_path: Path,
    rule: str,
    volumes: list[int] | None,
    changes: Changes | None,
) -> None:
    written = ["0.5", "1.99999999", "2.5", "10000000000000000000"]
    if changes is None:
        written = written[:3]
    rows = "".join(f"{1704153600 + 60 * n},1,1,1,1,{v}\n" for n, v in enumerate(written))
    result = await run(storage, csv(tmp_path, rows), volume=rule)
    found = [candle.volume for candle in await stored(storage)]
    if volumes is None:
        assert found == [50_000_000, 199_999_999, 250_000_000]
        assert result.adjusted == NOTHING
    else:
        assert found == volumes[: len(written)]
    if changes is not None:
        assert result.adjusted.volumes == changes


@pytest.mark.parametrize(
    ("rule", "volume"),
    [
        ("scale:1", "0.25"),
        ("round", "-0.3"),
        ("floor", "x"),
        ("scale:8", "99999999999999999999"),
        ("scale:2", "0x1F"),
        (None, "0x1F"),
    ],
)
async def test_what_is_no_volume_even_so_is_refused_by_its_line(
    storage: Storage, tmp_path: Path, rule: str | None, volume: str
) -> None:
    path = csv(tmp_path, f"1704153600,1,1,1,1,5\n1704153660,1,1,1,1,{volume}\n")
    with pytest.raises(InvalidData, match="line 3, column 'v'"):
        await run(storage, path, volume=rule)


@pytest.mark.parametrize("rule", ["", "up", "scale:", "scale:19", "round,floor", "round:2"])
def test_a_rule_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(InvalidData, match="must be round, floor, scale:N"):
        ImportOptions(volume=rule)


async def test_a_missing_volume_is_zero_only_where_that_is_asked_for(
    storage: Storage, tmp_path: Path
) -> None:
    path = csv(tmp_path, "1704153600,1,1,1,1\n1704153660,1,1,1,1\n", "t,o,h,l,c\n")
    result = await run(storage, path, volume="zero-if-missing")
    assert (result.inserted, result.adjusted.filled) == (2, 2)
    path = csv(tmp_path, "1704153720,1,1,1,1,\n1704153780,1,1,1,1,7.5\n")
    result = await run(storage, path, volume="round,zero-if-missing")
    assert (result.inserted, result.adjusted.filled) == (2, 1)
    assert [candle.volume for candle in await stored(storage)] == [0, 0, 0, 8]


async def test_a_row_without_its_volume_is_left_out_unless_zero_is_asked_for(
    storage: Storage, tmp_path: Path
) -> None:
    path = csv(tmp_path, "1704153600,1,1,1,1,\n1704153660,1,1,1,1,7\n")
    result = await run(storage, path)
    assert (result.inserted, result.rejected, result.adjusted) == (1, 1, NOTHING)
    assert [candle.volume for candle in await stored(storage)] == [7]


async def test_floats_are_rounded_as_the_decimals_they_are_printed_as(storage: Storage) -> None:
    frame = pd.DataFrame(
        {"open": [78.5, 0.1 + 0.2], "volume": [1.5, 3.0]},
        index=pd.to_datetime([1704153600, 1704153660], unit="s", utc=True),
    ).assign(high=100.00005, low=0.0, close=1.0)
    with pytest.raises(InvalidData, match="round_prices=True rounds them"):
        await run(storage, frame)
    result = await run(storage, frame, round_prices=True, volume="round")
    first, second = await stored(storage)
    assert (first.open, first.high, second.open) == (
        Decimal("78.5"),
        Decimal(100),
        Decimal("0.3"),
    )
    assert result.adjusted.prices == Changes(3, Decimal("0.00005"))
    assert [first.volume, second.volume] == [2, 3]


async def test_what_is_rounded_in_a_block_of_many_series_is_counted_once(
    storage: Storage, tmp_path: Path
) -> None:
    rows = "A,1704153600,1,1,1,1.00001,0.5\nB,1704153600,1,1,1,1.00002,1.5\n"
    options = ImportOptions(create=Market.KOSPI, round_prices=True, volume="floor")
    path = csv(tmp_path, rows, "symbol," + HEADER)
    result = await ImportCandles(storage).run(path, Timeframe.M1, options=options)
    assert result.inserted == 2
    changes = Changes(2, Decimal("0.00002")), Changes(2, Decimal("0.5"))
    assert result.adjusted == Adjusted(*changes)


async def test_counts_survive_an_interruption(storage: Storage, tmp_path: Path) -> None:
    good = "".join(f"{1704153600 + 60 * n},1,1,1,1.00001,{n}.5\n" for n in range(4))
    path = csv(tmp_path, good + "1704153840,1,1,1,x,1\n")
    with pytest.raises(InvalidData):
        await run(storage, path, round_prices=True, volume="floor", block_rows=2)
    tally = Tally(adjusted=Adjusted(Changes(4, Decimal("0.00001")), Changes(4, Decimal("0.5")), 2))
    assert Tally.from_json(tally.to_json()) == tally


decimals = st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=12)


@given(st.lists(decimals, min_size=1, max_size=20))
def test_rounding_is_that_of_exact_decimals(numbers: list[Decimal]) -> None:
    expected = [number.quantize(Decimal("0.0001"), ROUND_HALF_EVEN) for number in numbers]
    column = pa.array([f"{number:f}" for number in numbers])
    if gone := [n for n, each in enumerate(expected) if not each and numbers[n]]:
        with pytest.raises(InvalidData) as refused:
            rounded_prices(column, 4, "close")
        assert refused.value.row == gone[0]
        return
    kept, changes = rounded_prices(column, 4, "close")
    assert kept.to_pylist() == expected
    moved = [abs(a - b) for a, b in zip(numbers, expected, strict=True)]
    assert changes == Changes(sum(map(bool, moved)), max(moved))


@given(st.lists(decimals.map(abs), min_size=1, max_size=20), st.integers(0, 8))
def test_scaled_volumes_are_those_of_exact_decimals(numbers: list[Decimal], places: int) -> None:
    column = pa.array([f"{number:f}" for number in numbers])
    kept, _ = adjusted_volumes(column, VolumeRule("floor", places))
    assert kept.to_pylist() == [
        int((number * 10**places).to_integral_value(ROUND_FLOOR)) for number in numbers
    ]
