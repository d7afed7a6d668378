"""A row that is set aside waits once, however often and in whatever blocks its file is read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jts_storage import Market, Storage, Timeframe
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import Action, QualityPolicy, Rule
from jts_storage.usecases.quarantine import Quarantine

SECOND = 1_704_153_600


@pytest.mark.parametrize("sizes", [(1_000, 1), (1, 1_000), (2, 1, 3)])
async def test_a_row_seen_for_other_reasons_is_not_another(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        f"t,o,h,l,c,v\n{SECOND},1,1,1,1,1\n{SECOND + 60},1,1,1,1,2\n{SECOND},9,9,9,9,3\n"
    )
    policy = QualityPolicy(actions={Rule.JUMP: Action.QUARANTINE})
    async with Storage.in_memory() as storage:
        for size in sizes:
            options = ImportOptions(create=Market.KOSPI, block_rows=size, policy=policy)
            await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
        assert [row.row for row in await Quarantine(storage).review()] == [2]
        assert await Quarantine(storage).release() == (1, 0)


async def test_a_volume_beyond_64_signed_bits_is_kept_as_text(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    prices = {name: ["1", "1"] for name in ("open", "high", "close")} | {"low": ["2", "1"]}
    volume = pa.array([2**63, 5], pa.uint64())
    pq.write_table(
        pa.table({"timestamp": [SECOND, SECOND + 60]} | prices | {"volume": volume}), path
    )
    async with Storage.in_memory() as storage:
        options = ImportOptions(create=Market.KOSPI)
        result = await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
        assert (result.inserted, result.quarantined) == (1, 1)
        (row,) = await Quarantine(storage).review()
    assert row.came_as["volume"] == str(2**63)
    assert row.scaled is not None and row.scaled[-1] == 2**63


async def test_a_row_with_a_nul_in_another_column_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"t,market,o,h,l,c,v\n{SECOND},K\0,1,1,2,1,1\n")
    async with Storage.in_memory() as storage:
        options = ImportOptions(create=Market.KOSPI)
        result = await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
        assert (result.inserted, result.quarantined) == (0, 1)
        (row,) = await Quarantine(storage).review()
    assert row.came_as["market"] == "K\N{SYMBOL FOR NULL}"
