"""Arrow arrays that are made without Arrow's own converter, which imports pandas."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jts_storage.domain.arrow import plain_array, texts_of
from jts_storage.models.columns import rows_of

TEXTS = ["005930", "삼성전자", "", "a\0b"]


def objects(*values: Any) -> Any:
    made = np.empty(len(values), object)
    made[:] = values
    return made


@pytest.mark.parametrize(
    ("values", "declared"),
    [
        (objects(*TEXTS), pa.string()),
        (objects(), pa.string()),
        (np.arange(5), pa.int64()),
        (np.arange(10)[::2], pa.int64()),
        (np.array([0, 255], np.uint8), pa.uint8()),
        (np.array([0.1, np.nan, np.inf]), pa.float64()),
    ],
    ids=str,
)
def test_it_is_what_arrow_makes(values: Any, declared: pa.DataType) -> None:
    made = plain_array(values, declared)
    made.validate(full=True)
    assert made.type == declared
    assert made.null_count == 0
    assert str(made.to_pylist()) == str(pa.array(values, declared).to_pylist())


@pytest.mark.parametrize(
    ("values", "declared"),
    [
        (objects("a", None), pa.string()),
        (objects("a", b"b"), pa.string()),
        (objects("\ud800"), pa.string()),
        (objects(1, 2), pa.int64()),
        (np.arange(3), pa.int32()),
        (np.array([True]), pa.bool_()),
        (np.arange(3).astype(">i8"), pa.int64()),
        (np.array([0.5]).astype(">f8"), pa.float64()),
        (objects(*["a"] * 10_001), pa.string()),
        (objects("a"), pa.binary()),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_rest_is_left_to_arrow(values: Any, declared: pa.DataType) -> None:
    assert plain_array(values, declared) is None


def test_texts_come_from_lists_too() -> None:
    assert texts_of(TEXTS, pa.string()).to_pylist() == TEXTS


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("missing", [False, True])
def test_rows_hold_the_values_of_their_columns(unit: Any, missing: bool) -> None:
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    columns: dict[str, tuple[Any, pa.DataType]] = {
        "at": (moment, pa.timestamp(unit, "UTC")),
        "exact": (1_700_000_000_000_000_001, pa.timestamp("ns", "UTC")),
        "day": (date(2024, 1, 2), pa.date32()),
        "price": (Decimal("1.5000"), pa.decimal128(18, 4)),
        "name": ("삼성", pa.string()),
        "count": (2**63, pa.uint64()),
        "ratio": (0.1, pa.float64()),
    }
    more: list[Any] = [None] if missing else []
    table = pa.table(
        {name: pa.array([value, value, *more], kind) for name, (value, kind) in columns.items()}
    )
    parts = pa.concat_tables([table.slice(1), table.slice(0, 1)])
    row = {name: value for name, (value, _) in columns.items()}
    assert rows_of(parts) == [row, *([dict.fromkeys(row)] * len(more)), row]
    assert rows_of(table.slice(0, 0)) == []
    assert rows_of(table)[0]["at"].tzinfo is UTC


def test_texts_and_moments_become_rows_without_pandas() -> None:
    script = """
import sys
from datetime import UTC, datetime
import numpy as np, pyarrow as pa
from jts_storage.domain.arrow import plain_array
from jts_storage.models.columns import rows_of
kind = pa.timestamp("ms", "UTC")
columns = [plain_array(np.array(["a"], object), pa.string())]
columns.append(plain_array(np.array([1_000]), pa.int64()).view(kind))
rows = rows_of(pa.Table.from_arrays(columns, ["name", "at"]))
assert rows == [{"name": "a", "at": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)}]
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
