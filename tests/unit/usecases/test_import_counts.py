"""What an import reports does not hang on where its blocks end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jts_storage import Market, Storage, Timeframe
from jts_storage.testing.contracts.samples import examples
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.quality import Action, QualityPolicy, Rule
from jts_storage.usecases.results import COUNTS, ImportResult

SECOND = 1_704_153_600
SIZES = (1, 2, 3, 5, 1_000)
Row = tuple[str, int, int]
"""A symbol, a minute and a price."""


class Killed(BaseException):
    pass


def write(path: Path, rows: list[Row]) -> None:
    lines = (f"{symbol},{SECOND + 60 * at},{p},{p},{p},{p},1\n" for symbol, at, p in rows)
    path.write_text("symbol,t,o,h,l,c,v\n" + "".join(lines))


async def reports(
    path: Path,
    stored: list[Row],
    rows: list[Row],
    size: int,
    *,
    mode: Literal["full", "incremental"] = "full",
    policy: QualityPolicy | None = None,
    killed: bool = False,
) -> list[dict[str, Any]]:
    """The reports of an import into what is stored, and of the same once more."""
    options = ImportOptions(
        create=Market.KOSPI, block_rows=size, mode=mode, policy=policy or QualityPolicy()
    )
    left = [killed]

    def kill(_: ImportProgress) -> None:
        if left.pop() if left else False:
            raise Killed

    async def run() -> ImportResult:
        return await ImportCandles(storage).run(path, Timeframe.M1, options=options, progress=kill)

    async with Storage.in_memory() as storage:
        if stored:
            write(path, stored)
            await ImportCandles(storage).run(
                path, Timeframe.M1, options=ImportOptions(create=Market.KOSPI)
            )
        write(path, rows)
        try:
            results = [await run()]
        except Killed:
            results = [await run()]
        results.append(await run())
    for result in results:
        assert sum(getattr(result, name) for name in COUNTS if name != "read") == result.read
    return [
        {name: getattr(result, name) for name in (*COUNTS, "broken", "by_series")}
        for result in results
    ]


def counts(report: dict[str, Any]) -> dict[str, int]:
    return {name: report[name] for name in COUNTS if report[name]}


def of_a(*rows: tuple[int, int]) -> list[Row]:
    return [("A", at, price) for at, price in rows]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [1, -1])
async def test_a_row_that_comes_again_in_a_new_series_is_a_duplicate(
    tmp_path: Path, size: int, order: int
) -> None:
    rows = of_a((0, 1), (1, 1), (1, 2), (2, 1), (3, 1), (3, 1), (3, 2))[::order]
    first, again = await reports(tmp_path / "p.csv", [], rows, size)
    assert counts(first) == {"read": 7, "inserted": 4, "duplicates": 3}
    assert first["broken"]["duplicate"] == 3
    # Now each meets what stands there: that of the row before it, or of the first import.
    assert again["broken"]["duplicate"] == 3
    assert counts(again) == {"read": 7, "unchanged": 3, "replaced": 4}


@pytest.mark.parametrize("size", SIZES)
async def test_a_row_that_comes_again_after_later_ones_is_out_of_order(
    tmp_path: Path, size: int
) -> None:
    rows = of_a((0, 1), (1, 1), (2, 1), (3, 1), (1, 2), (2, 1), (4, 1))
    (first, _) = await reports(tmp_path / "p.csv", [], rows, size)
    assert counts(first) == {"read": 7, "inserted": 5, "duplicates": 2}
    assert first["broken"] == {"order": 2, "jump": 2}


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_stored_before_is_replaced(tmp_path: Path, size: int) -> None:
    stored = of_a((0, 1), (2, 1))
    rows = of_a((0, 1), (0, 2), (1, 1), (1, 1), (2, 2), (2, 2), (3, 1), (3, 2))
    (first, _) = await reports(tmp_path / "p.csv", stored, rows, size)
    assert counts(first) == {
        "read": 8,
        "inserted": 2,
        "replaced": 2,
        "unchanged": 3,
        "duplicates": 1,
    }


ROWS = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 7), st.sampled_from([1, 2])),
    min_size=1,
    max_size=10,
)
ACTIONS = st.dictionaries(
    st.sampled_from([Rule.DUPLICATE, Rule.ORDER, Rule.OVERLAP, Rule.JUMP]),
    st.sampled_from([Action.REJECT, Action.QUARANTINE, Action.FLAG]),
)


@settings(
    max_examples=examples(6),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(stored=ROWS, rows=ROWS, actions=ACTIONS, mode=st.sampled_from(["full", "incremental"]))
@example(
    stored=[("A", 0, 1)],
    rows=of_a((5, 1), (5, 2), (3, 1), (5, 1), (0, 2), (0, 1)),
    actions={},
    mode="full",
)
async def test_reports_are_the_same_in_blocks_of_any_size(
    tmp_path: Path,
    stored: list[Row],
    rows: list[Row],
    actions: dict[Rule, Action],
    mode: Literal["full", "incremental"],
) -> None:
    policy = QualityPolicy(actions=actions)
    path = tmp_path / "p.csv"
    whole = await reports(path, stored, rows, 1_000, mode=mode, policy=policy)
    for size in (1, 3):
        for killed in (False, True):
            found = await reports(path, stored, rows, size, mode=mode, policy=policy, killed=killed)
            assert found == whole
