"""The contract of units of work that are given an id: what became of each can be told, for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.outcomes import Outcome, first_id_of, new_unit_id
from jts_storage.errors import Conflict, InvalidData, StorageError
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.contracts.samples import FOREVER, candle, fresh
from jts_storage.testing.factories import make_formula, make_symbol

_PARTS = ("nothing", "candles", "symbols", "documents", "bookkeeping", "everything")


def _key() -> SeriesKey:
    return SeriesKey(f"OUTCOME{next(fresh)}", Timeframe.M1)


async def _write(uow: UnitOfWork, part: str, key: SeriesKey) -> None:
    if part in ("candles", "everything"):
        await uow.candles.save_many(key, [candle(0)])
    if part in ("symbols", "everything"):
        await uow.symbols.save(make_symbol(key.symbol))
    if part in ("documents", "everything"):
        await uow.formulas.save(make_formula(key.symbol))
    if part in ("bookkeeping", "everything"):
        await uow.ingestion.checkpoints.save(key.symbol, {"at": 1})


class OutcomeContract:
    """Give it a fixture `storage`, open and without other writers."""

    async def test_what_is_committed_is_told_with_its_commit(self, storage: Storage) -> None:
        for part in _PARTS:
            identity = new_unit_id()
            async with storage.unit_of_work(id=identity) as uow:
                await _write(uow, part, _key())
                result = await uow.commit()
            assert result.commit is not None
            for _ in range(2):
                assert await storage.outcome(identity) == Outcome(identity, result.commit), part

    async def test_what_was_rolled_back_or_never_begun_is_given_up(self, storage: Storage) -> None:
        identity = new_unit_id()
        async with storage.unit_of_work(id=identity) as uow:
            await _write(uow, "everything", _key())
            await uow.rollback()
        assert not (await storage.outcome(identity)).is_committed
        assert not (await storage.outcome(new_unit_id())).is_committed

    async def test_what_was_given_up_is_never_committed(self, storage: Storage) -> None:
        for part in _PARTS:
            key, identity = _key(), new_unit_id()
            await storage.outcome(identity)
            async with storage.unit_of_work(id=identity) as uow:
                await _write(uow, part, key)
                with pytest.raises(StorageError, match=f"{identity} was given up"):
                    await uow.commit()
            assert not (await storage.outcome(identity)).is_committed, part
            await self._check_nothing_of(storage, key)

    async def test_who_asks_during_it_gives_it_up(self, storage: Storage) -> None:
        key, identity = _key(), new_unit_id()
        async with storage.unit_of_work(id=identity) as uow:
            await _write(uow, "everything", key)
            assert not (await storage.outcome(identity)).is_committed
            with pytest.raises(StorageError, match=f"{identity} was given up"):
                await uow.commit()
        assert not (await storage.outcome(identity)).is_committed
        await self._check_nothing_of(storage, key)

    async def test_a_second_one_of_the_same_id_stores_nothing(self, storage: Storage) -> None:
        key, other, identity = _key(), _key(), new_unit_id()
        async with storage.unit_of_work(id=identity) as uow:
            await _write(uow, "everything", key)
            first = await uow.commit()
        async with storage.unit_of_work(id=identity) as uow:
            await _write(uow, "everything", other)
            assert await uow.commit() == first
        await self._check_nothing_of(storage, other)
        assert len(await storage.candles.get_range(key, *FOREVER)) == 1

    async def test_of_two_at_once_with_one_id_one_is_stored(self, storage: Storage) -> None:
        keys, identity = [_key(), _key()], new_unit_id()
        async with (
            storage.unit_of_work(id=identity) as one,
            storage.unit_of_work(id=identity) as two,
        ):
            for uow, key in zip((one, two), keys, strict=True):
                await _write(uow, "candles", key)
            for uow in (one, two):
                try:
                    await uow.commit()
                except StorageError:
                    continue
        outcome = await storage.outcome(identity)
        stored = [len(await storage.candles.get_range(key, *FOREVER)) for key in keys]
        assert outcome.is_committed
        assert sorted(stored) == [0, 1]

    async def test_what_met_a_conflict_may_be_tried_again(self, storage: Storage) -> None:
        name, identity = _key().symbol, new_unit_id()
        async with storage.unit_of_work(id=identity) as uow:
            await uow.ingestion.checkpoints.get(name)
            async with storage.unit_of_work() as other:
                await other.ingestion.checkpoints.save(name, {"at": 1})
                await other.commit()
            await uow.ingestion.checkpoints.save(name, {"at": 2})
            with pytest.raises(Conflict):
                await uow.commit()
        async with storage.unit_of_work(id=identity) as uow:
            await uow.ingestion.checkpoints.save(name, {"at": 3})
            result = await uow.commit()
        assert await storage.outcome(identity) == Outcome(identity, result.commit)

    async def test_what_is_no_id_is_refused(self, storage: Storage) -> None:
        identities: list[Any] = ["", "x", 7, None, "00000000-0000-4000-8000-000000000000"]
        for wrong in identities:
            with pytest.raises(InvalidData, match="'id'"):
                await storage.outcome(wrong)

    async def test_an_id_of_another_time_is_refused(self, storage: Storage) -> None:
        for days in (-8, 2):
            old = first_id_of(checks.now() + timedelta(days=days))
            with pytest.raises(InvalidData, match="kept for 7 days"):
                await storage.outcome(old)
            with pytest.raises(InvalidData, match="kept for 7 days"):
                storage.unit_of_work(id=old)

    async def _check_nothing_of(self, storage: Storage, key: SeriesKey) -> None:
        assert not await storage.candles.get_range(key, *FOREVER)
        assert await storage.symbols.get_by_code(key.symbol) is None
        assert key.symbol not in {each.name for each in await storage.formulas.list()}
        assert await storage.ingestion.checkpoints.get(key.symbol) is None
