"""Bookkeeping that is staged: what it was when it was read, and what ends with its unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.changes import AggregateChange, CheckpointChange, same_aggregate
from jts_storage.errors import Conflict, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.unit_of_work.staged import StagedCheckpoints, StagedSymbolBars

DAY = date(2024, 1, 2)
MADE = datetime(2024, 1, 2, tzinfo=UTC)


class EndsMeanwhile:
    """Stored bookkeeping whose reader's unit of work ends while it is read."""

    def __init__(self, stored: object) -> None:
        self.lifetime = Lifetime()
        self._stored = stored

    async def get(self, *_: object) -> Any:
        self.lifetime.end("is over")
        return self._stored

    async def list(self, *_: object, **__: object) -> Sequence[Any]:
        return []


async def test_what_ends_while_it_is_read_takes_no_change() -> None:
    stored = SymbolBars("A", DAY, version=1, created_at=MADE, updated_at=MADE)
    for is_there in (None, stored):
        reader = EndsMeanwhile(is_there)
        staged = StagedSymbolBars(reader, reader.lifetime)
        with pytest.raises(StorageError, match="is over"):
            await staged.save(is_there or SymbolBars("A", DAY))
        reader = EndsMeanwhile(is_there)
        staged = StagedSymbolBars(reader, reader.lifetime)
        with pytest.raises(StorageError, match="is over"):
            await staged.delete("A", DAY)
        assert staged.changes == []
    checkpoint = Checkpoint("x", {}, MADE)
    for found in (None, checkpoint):
        for change in ("save", "update", "delete"):
            reader = EndsMeanwhile(found)
            checkpoints = StagedCheckpoints(reader, reader.lifetime)
            with pytest.raises(StorageError, match="is over"):
                if change == "save":
                    await checkpoints.save("x", {})
                elif change == "update":
                    await checkpoints.update("x", lambda data: {})
                else:
                    await checkpoints.delete("x")
            assert checkpoints.changes == []


def test_an_aggregate_holds_if_its_version_and_its_making_do() -> None:
    def stored(version: int, made: datetime = MADE) -> SymbolBars:
        return SymbolBars("A", DAY, version=version, created_at=made, updated_at=made)

    later = MADE + timedelta(seconds=1)
    new = AggregateChange("A", DAY, 0, None)
    assert new.still_holds(None)
    assert not new.still_holds(stored(1))
    changed = AggregateChange("A", DAY, 2, None, MADE)
    assert changed.still_holds(stored(2))
    assert not changed.still_holds(stored(3))
    assert not changed.still_holds(stored(2, later))
    assert not changed.still_holds(None)
    of_earlier_releases = AggregateChange("A", DAY, 2, None)
    assert of_earlier_releases.still_holds(stored(2, later))


def test_an_aggregate_is_the_one_that_was_read_unless_it_was_made_anew() -> None:
    stored = SymbolBars("A", DAY, version=1, created_at=MADE)
    assert same_aggregate(stored, SymbolBars("A", DAY, version=1))
    assert same_aggregate(stored, SymbolBars("A", DAY, version=1, created_at=MADE))
    later = SymbolBars("A", DAY, version=1, created_at=MADE + timedelta(seconds=1))
    assert not same_aggregate(stored, later)


def test_a_checkpoint_holds_if_its_data_do() -> None:
    change = CheckpointChange("x", None, {"a": 1, "b": 2})
    assert change.still_holds({"b": 2, "a": 1})
    assert not change.still_holds({"a": True, "b": 2})
    assert not change.still_holds(None)
    assert CheckpointChange("x", None, None).still_holds(None)
    assert not CheckpointChange("x", None, None).still_holds({})
    assert CheckpointChange("x", None, {"a": 1}, knows_base=False).still_holds(None)


async def test_what_a_unit_of_work_wrote_comes_with_what_it_was() -> None:
    backend = InMemoryBackend()
    stored = backend.ingestion.checkpoints
    await stored.save("kept", {"n": 1})
    staged = StagedCheckpoints(stored)
    await staged.save("kept", {"n": 2})
    await staged.save("new", {"n": 3})
    assert await staged.delete("kept") is True
    assert await staged.delete("kept") is False
    assert staged.changes == [
        CheckpointChange("kept", None, {"n": 1}),
        CheckpointChange("new", {"n": 3}, None),
    ]


async def test_a_list_notes_what_it_shows_and_hides_what_is_deleted() -> None:
    backend = InMemoryBackend()
    stored = backend.ingestion.checkpoints
    for name in "abc":
        await stored.save(name, {"n": 0})
    staged = StagedCheckpoints(stored)
    await staged.delete("a")
    assert [checkpoint.name for checkpoint in await staged.list()] == ["b", "c"]
    await stored.save("b", {"n": 1})
    await staged.save("b", {"n": 2})
    assert staged.changes[1].base == {"n": 0}, "as it was listed"


async def test_an_aggregate_that_was_deleted_is_neither_read_nor_listed() -> None:
    backend = InMemoryBackend()
    stored = backend.ingestion.symbol_bars
    first = await stored.save(SymbolBars("A", DAY))
    await stored.save(SymbolBars("A", DAY + timedelta(days=1)))
    staged = StagedSymbolBars(stored)
    assert await staged.delete("A", DAY) is True
    assert await staged.get("A", DAY) is None
    assert [bars.trading_day for bars in await staged.list("A")] == [DAY + timedelta(days=1)]
    assert await staged.list("B") == []
    assert staged.changes == [AggregateChange("A", DAY, 1, None, first.created_at)]
    with pytest.raises(Conflict):
        await staged.save(first)
    again = await staged.save(SymbolBars("A", DAY))
    assert again.version == 1
    [change] = staged.changes
    assert (change.base, change.becomes) == (1, again)
