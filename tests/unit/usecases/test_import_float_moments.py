"""Moments that are floats: each is a whole number, or cannot be read by itself."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.usecases.outcomes import SECOND, outcome, quarantined

MOMENTS = [SECOND * 1e3, SECOND * 1e3 + 60_000]


def written(path: Path, moments: list[float | None], kind: pa.DataType) -> None:
    ones = ["1"] * len(moments)
    columns = dict.fromkeys(("open", "high", "low", "close"), ones)
    stamps = {"timestamp": pa.array(moments, kind)}
    pq.write_table(pa.table(stamps | columns | {"volume": range(len(moments))}), path)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        float("nan"),
        float("inf"),
        float("-inf"),
        1e300,
        1e20,
        2.0**63,
        SECOND * 1e3 + 30_000.25,
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_one_that_is_no_whole_number_says_nothing_of_others(
    tmp_path: Path, broken: float | None, at: int
) -> None:
    path = tmp_path / "p.parquet"
    written(path, [*MOMENTS[:at], broken, *MOMENTS[at:]], pa.float64())
    found = await quarantined(path)
    assert [moment.timestamp() * 1e3 for moment, *_ in found["stored"]] == MOMENTS
    assert [line for line, _ in found["aside"]] == [at + 1]


async def test_a_fraction_of_a_moment_is_never_dropped(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    written(path, [float(SECOND), SECOND + 60.0004], pa.float64())
    found = await outcome(path)
    assert "row 2" in found["refused"]
    assert found["stored"] == []


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
async def test_whole_floats_are_moments(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "p.parquet"
    stamps = [1_704_153_600.0, 1_704_153_728.0]  # both are held by 32 bits
    written(path, list(stamps), kind)
    found = await quarantined(path)
    assert [moment.timestamp() for moment, *_ in found["stored"]] == stamps
