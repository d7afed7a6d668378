from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.errors import InvalidData

DAY = date(2024, 1, 2)
MOMENT = datetime(2024, 1, 2, tzinfo=UTC)


def test_bars_are_collected_and_completed() -> None:
    fresh = SymbolBars("A", DAY)
    done = fresh.start_collection().add_bars(200).add_bars(190).complete()
    assert (done.bar_count, done.collection_started, done.is_complete) == (390, True, True)
    assert (fresh.bar_count, fresh.collection_started, fresh.is_complete) == (0, False, False)


def test_a_transition_keeps_the_version_that_was_read() -> None:
    assert SymbolBars("A", DAY, version=4).start_collection().version == 4


def test_a_collection_starts_once() -> None:
    with pytest.raises(InvalidData, match="has started already"):
        SymbolBars("A", DAY).start_collection().start_collection()


def test_nothing_is_added_before_the_start() -> None:
    for change in (SymbolBars("A", DAY).complete, lambda: SymbolBars("A", DAY).add_bars(1)):
        with pytest.raises(InvalidData, match="has not started"):
            change()


def test_nothing_is_added_after_the_end() -> None:
    done = SymbolBars("A", DAY).start_collection().complete()
    for change in (done.complete, lambda: done.add_bars(1)):
        with pytest.raises(InvalidData, match="is complete"):
            change()


def test_bars_are_not_taken_away() -> None:
    with pytest.raises(InvalidData, match="count"):
        SymbolBars("A", DAY).start_collection().add_bars(-1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbol", ""),
        ("trading_day", MOMENT),
        ("version", -1),
        ("bar_count", -1),
        ("bar_count", 1.0),
        ("is_complete", True),
        ("created_at", datetime(2024, 1, 2)),
        ("updated_at", datetime(2024, 1, 2)),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    values: dict[str, Any] = {"symbol": "A", "trading_day": DAY}
    with pytest.raises(InvalidData) as caught:
        SymbolBars(**values | {field: value})
    assert caught.value.field == field


def test_the_moments_of_bars_are_kept() -> None:
    given = SymbolBars("A", DAY, created_at=MOMENT, updated_at=MOMENT)
    assert (given.created_at, given.updated_at) == (MOMENT, MOMENT)


def test_a_checkpoint_holds_a_copy_of_its_data() -> None:
    data: dict[str, Any] = {"last": [1]}
    checkpoint = Checkpoint("A", data, MOMENT)
    data["last"].append(2)
    assert checkpoint.data == {"last": [1]}
    assert checkpoint.updated_at == MOMENT


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (("", {}), "name"),
        (("A", []), "data"),
        (("A", None), "data"),
        (("A", {"x": float("nan")}), "data.x"),
        (("A", {}, datetime(2024, 1, 2)), "updated_at"),
    ],
)
def test_a_bad_checkpoint_is_refused(fields: Any, field: str) -> None:
    with pytest.raises(InvalidData) as caught:
        Checkpoint(*fields)
    assert caught.value.field == field
