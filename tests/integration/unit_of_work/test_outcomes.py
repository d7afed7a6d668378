"""Units of work whose answers are lost find out by themselves what became of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Binary
from pymongo.errors import AutoReconnect

from jts_storage import SeriesKey, Storage, Timeframe, new_unit_id
from jts_storage.domain.outcomes import Outcome, first_id_of
from jts_storage.errors import ConnectionFailed, OutcomeUnknown, StorageError
from jts_storage.mongo import transaction
from jts_storage.mongo.errors import translate
from jts_storage.ports import UnitOfWork
from jts_storage.testing.contracts.samples import FOREVER, candle
from jts_storage.testing.factories import make_formula
from jts_storage.unit_of_work.clock import CommitClock
from jts_storage.unit_of_work.journal import Journal
from jts_storage.unit_of_work.outcomes import OUTCOMES, StoredOutcomes
from jts_storage.unit_of_work.recovery import Recovery

KEY = SeriesKey("005930", Timeframe.M1, "KRX")


async def write(uow: UnitOfWork) -> None:
    await uow.candles.save_many(KEY, [candle(0)])
    await uow.formulas.save(make_formula())


@pytest.fixture
def answers_are_lost(monkeypatch: pytest.MonkeyPatch, is_stored: bool) -> None:
    """The decision comes to MongoDB, or not, and nobody can say which."""
    decide = transaction.commit

    async def lost(*given: Any) -> None:
        if is_stored:
            await decide(*given)
        raise translate(AutoReconnect("cut"), doing="committing")

    async def away(*_: Any) -> bool:
        raise StorageError("MongoDB is away")

    monkeypatch.setattr("jts_storage.unit_of_work.commit.commit", lost)
    monkeypatch.setattr(Journal, "is_decided", away)


@pytest.mark.parametrize("is_stored", [True])
@pytest.mark.usefixtures("answers_are_lost")
async def test_what_was_stored_is_a_commit_like_any_other(storage: Storage) -> None:
    identity = new_unit_id()
    async with storage.unit_of_work(id=identity) as uow:
        await write(uow)
        result = await uow.commit()
    assert (await storage.outcome(identity)).result() == result
    assert len(await storage.candles.get_range(KEY, *FOREVER)) == 1
    assert (await storage.health()).unfinished == 0


@pytest.mark.parametrize("is_stored", [True])
@pytest.mark.usefixtures("answers_are_lost")
async def test_what_was_stored_and_cannot_be_finished_is_told_as_decided(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> int:
        raise StorageError("ClickHouse is away")

    identity = new_unit_id()
    with monkeypatch.context() as patch:
        patch.setattr(Recovery, "recover", away)
        with pytest.raises(StorageError, match=r"is decided.*Do not repeat it"):
            async with storage.unit_of_work(id=identity) as uow:
                await write(uow)
                await uow.commit()
    assert (await storage.outcome(identity)).is_committed
    await storage.recover()
    assert len(await storage.candles.get_range(KEY, *FOREVER)) == 1


@pytest.mark.parametrize("is_stored", [False])
@pytest.mark.usefixtures("answers_are_lost")
async def test_what_was_not_is_given_up_and_may_be_repeated(storage: Storage) -> None:
    identity = new_unit_id()
    with pytest.raises(ConnectionFailed, match="given up, and nothing of it is stored") as caught:
        async with storage.unit_of_work(id=identity) as uow:
            await write(uow)
            await uow.commit()
    assert caught.value.transient
    assert not (await storage.outcome(identity)).is_committed
    assert not await storage.candles.get_range(KEY, *FOREVER)


@pytest.mark.parametrize("is_stored", [False])
@pytest.mark.usefixtures("answers_are_lost")
async def test_what_was_given_up_is_waited_for_no_more(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB was killed in the middle: only later can it be asked what became of the commit."""

    async def away(*_: Any) -> Outcome:
        raise StorageError("MongoDB is away")

    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    identity, other = new_unit_id(), {"_id": new_unit_id(), "session": Binary(b"x" * 16, 4)}
    async with clock.place(unit=other) as place:
        with monkeypatch.context() as patch:
            patch.setattr(StoredOutcomes, "settle", away)
            with pytest.raises(OutcomeUnknown):
                async with storage.unit_of_work(id=identity) as uow:
                    await write(uow)
                    await uow.commit()
        assert len(await clock.under_way()) == 2
        assert not (await storage.outcome(identity)).is_committed
        assert [each.id for each in await clock.under_way()] == [place.id]


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.usefixtures("answers_are_lost")
async def test_without_an_id_it_stays_unknown(storage: Storage) -> None:
    with pytest.raises(OutcomeUnknown, match="unknown"):
        async with storage.unit_of_work() as uow:
            await write(uow)
            await uow.commit()


async def test_a_transaction_that_goes_on_is_broken_off(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a process that was paused between its last write and its decision."""
    identity, asked = new_unit_id(), []

    async def ask(*_: Any) -> None:
        asked.append(await storage.outcome(identity))

    decide = transaction.commit

    async def paused(*given: Any) -> None:
        await ask()
        await decide(*given)

    monkeypatch.setattr("jts_storage.unit_of_work.commit.commit", paused)
    with pytest.raises(StorageError, match=f"{identity} was given up"):
        async with storage.unit_of_work(id=identity) as uow:
            await write(uow)
            await uow.commit()
    assert [outcome.is_committed for outcome in asked] == [False]
    assert not (await storage.outcome(identity)).is_committed
    assert not await storage.candles.get_range(KEY, *FOREVER)
    assert not await storage.formulas.list()


async def test_outcomes_are_forgotten_once_nobody_may_ask(storage: Storage) -> None:
    kept, old = new_unit_id(), first_id_of(datetime(2020, 1, 1, tzinfo=UTC))
    notes = storage.mongo.db[OUTCOMES]
    await notes.insert_one({"_id": old, "isCommitted": False})
    await storage.outcome(kept)
    await storage.recover()
    assert [each["_id"] async for each in notes.find()] == [kept]


async def test_without_documents_a_commit_that_hangs_is_broken_off(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has noted nothing before: what ends its session is listed by the commit clock."""
    await storage.outcome(new_unit_id())  # MongoDB makes the collection, which nobody waits for
    identity, asked = new_unit_id(), []
    decide = transaction.commit

    async def paused(*given: Any) -> None:
        asked.append(await storage.outcome(identity))
        await decide(*given)

    monkeypatch.setattr("jts_storage.unit_of_work.commit.commit", paused)
    with pytest.raises(StorageError, match=f"{identity} was given up"):
        async with storage.unit_of_work(id=identity) as uow:
            await uow.candles.save_many(KEY, [candle(0)])
            await uow.commit()
    assert [outcome.is_committed for outcome in asked] == [False]
    assert not (await storage.outcome(identity)).is_committed
    assert not await storage.candles.get_range(KEY, *FOREVER)


@pytest.mark.parametrize("has_documents", [True, False])
async def test_a_note_is_written_before_the_decision_only_for_documents(
    storage: Storage, has_documents: bool
) -> None:
    """Nothing else is locked before it, and the note is a durable write."""
    identity = new_unit_id()
    async with storage.unit_of_work(id=identity) as uow:
        await uow.candles.save_many(KEY, [candle(0)])
        if has_documents:
            await uow.formulas.list()
        noted = await storage.mongo.db[OUTCOMES].find_one({"_id": identity})
        assert (noted is not None) == has_documents


async def test_the_session_of_a_commit_whose_process_died_is_ended_before_it_is_forgotten(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = storage._backend.stores  # type: ignore[attr-defined]
    monkeypatch.setattr("jts_storage.unit_of_work.clock.LANDING", timedelta())
    notes, identity = storage.mongo.db[OUTCOMES], new_unit_id()
    its_clock = CommitClock(storage.mongo, stores.latest_version)
    await storage.outcome(new_unit_id())
    async with storage.mongo.client.start_session() as session:
        await session.start_transaction()
        await notes.insert_one({"_id": identity, "isCommitted": True}, session=session)
        unit = {"_id": identity, "session": session.session_id["id"]}
        with suppress(KeyboardInterrupt):
            async with its_clock.place(unit=unit) as place:
                place.decided_in = session  # and so it stays listed
                raise KeyboardInterrupt
        monkeypatch.setattr("jts_storage.unit_of_work.other_commits.may_be_alive", lambda _: False)
        await stores.clock.purge()
        assert not await stores.clock.under_way()
        assert not (await storage.outcome(identity)).is_committed
