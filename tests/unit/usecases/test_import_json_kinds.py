"""A broken value at the beginning of JSON does not decide of what kind its column is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.usecases.outcomes import SECOND, outcome, quarantined


def written(path: Path, column: str, values: list[Any], *, is_array: bool = False) -> None:
    rows = [
        {"t": SECOND + 60 * n, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1} | {column: value}
        for n, value in enumerate(values)
    ]
    path.write_text(json.dumps(rows) if is_array else "\n".join(map(json.dumps, rows)) + "\n")


@pytest.mark.parametrize("broken", ["-", "abc", "", "1.2.3", True, [1]])
@pytest.mark.parametrize("column", ["c", "v"])
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_what_is_no_number_does_not_make_text_of_the_others(
    tmp_path: Path, column: str, broken: object, at: int
) -> None:
    path = tmp_path / "p.jsonl"
    written(path, column, [*[1] * at, broken, *[1] * (2 - at)])
    found = await quarantined(path)
    assert len(found["stored"]) == 2
    assert [line for line, _ in found["aside"]] == [at + 1]
    assert f"line {at + 1}, column '{column}'" in (await outcome(path))["refused"]


@pytest.mark.parametrize("is_array", [True, False])
@pytest.mark.parametrize(
    ("moments", "broken"),
    [
        *(([SECOND, SECOND + 60], broken) for broken in ("x", "-", True)),
        *((["2024-01-02 00:00", "2024-01-02 00:01"], broken) for broken in ("x", 7, True)),
    ],
)
async def test_what_is_no_moment_does_not_decide_what_moments_are(
    tmp_path: Path, moments: list[Any], broken: object, is_array: bool
) -> None:
    path = tmp_path / "p.json"
    written(path, "t", [broken, *moments], is_array=is_array)
    found = await quarantined(path, timezone="UTC")
    assert [moment.timestamp() for moment, *_ in found["stored"]] == [SECOND, SECOND + 60]
    assert [line for line, _ in found["aside"]] == [1]


async def test_a_column_may_be_empty_in_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    written(path, "v", [None] * 1_100 + [5])
    found = await outcome(path, 2_000, volume="zero-if-missing")
    assert (found["refused"], [volume for *_, volume in found["stored"]]) == (
        None,
        [0] * 1_100 + [5],
    )
