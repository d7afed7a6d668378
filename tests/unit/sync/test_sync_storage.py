"""The blocking storage: the same names as the asynchronous one, usable from any thread."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from jts_storage import new_unit_id
from jts_storage import storage as asynchronous
from jts_storage.domain.events import IngestionCompleted
from jts_storage.errors import Conflict, InvalidData, StorageError
from jts_storage.sync import Storage, UnitOfWork
from jts_storage.sync.portal import Portal
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_formula

SAMPLE_DAY = date(2024, 1, 2)
ROOT = Path(__file__).resolve().parents[3]


def test_the_twins_are_what_the_ports_say() -> None:
    script = ROOT / "scripts" / "generate_sync.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True, timeout=60)


def test_has_the_methods_of_the_asynchronous_storage_with_the_same_parameters() -> None:
    for name, member in inspect.getmembers(asynchronous.Storage):
        if name.startswith("_"):
            continue
        twin = getattr(Storage, name)
        if callable(member):
            expected = list(inspect.signature(member).parameters)
            assert list(inspect.signature(twin).parameters) == expected, name
            assert inspect.getdoc(twin) is not None


def test_writes_and_reads_without_a_loop() -> None:
    series = make_candles(count=5)
    with Storage.in_memory() as storage:
        with storage.unit_of_work() as uow:
            uow.candles.save_many(SAMPLE_KEY, series)
            formula = uow.formulas.save(make_formula())
            uow.commit()
        assert storage.candles.get_latest(SAMPLE_KEY, 9) == series
        assert storage.formulas.get_by_id(formula.id or "") == formula
        assert storage.health() == {"memory": True}
        assert storage.recover() == 0


def test_rolls_back_by_default() -> None:
    with Storage.in_memory() as storage:
        with storage.unit_of_work() as uow:
            uow.candles.save_many(SAMPLE_KEY, make_candles(count=5))
        assert storage.candles.count(SAMPLE_KEY) == 0


def test_run_repeats_on_conflicts_between_threads() -> None:
    with Storage.in_memory() as storage:
        with storage.unit_of_work() as uow:
            formula = uow.formulas.save(make_formula())
            uow.commit()

        def rename(uow: UnitOfWork) -> None:
            found = uow.formulas.get_by_id(formula.id or "")
            assert found is not None
            uow.formulas.save(replace(found, name=found.name + "!"))

        with ThreadPoolExecutor(8) as threads:
            done = [threads.submit(storage.run, rename, attempts=100) for _ in range(16)]
            for future in done:
                future.result(timeout=30)
        found = storage.formulas.get_by_id(formula.id or "")
        assert found is not None
        assert found.version == 17


def test_what_became_of_a_unit_of_work_is_told() -> None:
    with Storage.in_memory() as storage:
        given_up, committed = new_unit_id(), new_unit_id()
        assert not storage.outcome(given_up).is_committed
        with storage.unit_of_work(id=committed) as uow:
            uow.formulas.save(make_formula())
            result = uow.commit()
        assert storage.outcome(committed).result() == result
        with (
            pytest.raises(StorageError, match="given up"),
            storage.unit_of_work(id=given_up) as uow,
        ):
            uow.commit()


def test_run_gives_up_after_so_many_attempts() -> None:
    calls: list[int] = []

    def conflict(uow: UnitOfWork) -> None:
        calls.append(1)
        raise Conflict("always")

    with Storage.in_memory() as storage, pytest.raises(Conflict):
        storage.run(conflict, attempts=3)
    assert len(calls) == 3


def test_handlers_are_called() -> None:
    seen: list[IngestionCompleted] = []
    with Storage.in_memory() as storage:
        storage.events.register_handler(IngestionCompleted, seen.append)
        event = IngestionCompleted(symbol="A", trading_day=SAMPLE_DAY, bar_count=1)
        with storage.unit_of_work() as uow:
            uow.events.add(event)
            uow.commit()
    assert seen == [event]


def test_is_of_no_use_when_closed() -> None:
    storage = Storage.in_memory()
    with pytest.raises(StorageError, match="not open"):
        storage.health()
    with storage:
        pass
    storage.close()
    with pytest.raises(StorageError, match="not open"):
        _ = storage.candles


def test_can_be_opened_again() -> None:
    storage = Storage.in_memory()
    for _ in range(2):
        with storage:
            storage.open_stores()
            assert storage.candles.count(SAMPLE_KEY) == 0


def test_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with Storage.in_memory() as storage:
        storage.health()
    assert threading.active_count() == before


def test_a_blocking_call_within_the_loop_is_refused_instead_of_waiting_for_itself() -> None:
    errors: list[StorageError] = []

    with Storage.in_memory() as storage:

        def handler(event: IngestionCompleted) -> None:
            try:
                storage.candles.count(SAMPLE_KEY)
            except StorageError as error:
                errors.append(error)

        storage.events.register_handler(IngestionCompleted, handler)
        with storage.unit_of_work() as uow:
            uow.events.add(IngestionCompleted(symbol="A", trading_day=SAMPLE_DAY, bar_count=1))
            uow.commit()
    assert len(errors) == 1
    assert "own event loop" in str(errors[0])


def test_leaving_a_loop_early_closes_its_source() -> None:
    closed = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            closed.set()

    portal = Portal()
    portal.start()
    items = portal.iterate(numbers())
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    portal.stop()


def test_an_interrupt_waits_for_what_it_interrupts() -> None:
    ended: list[str] = []

    async def tidy() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            ended.append("tidied")

    portal = Portal()
    portal.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            portal.call(tidy())
        assert ended == ["tidied"]
    finally:
        portal.stop()


def test_a_forked_child_is_told_instead_of_waiting_for_ever() -> None:
    with Storage.in_memory() as storage:
        told, child = multiprocessing.Pipe(duplex=False)

        def ask() -> None:
            try:
                storage.formulas.list()
            except StorageError as exc:
                child.send(str(exc))

        process = multiprocessing.get_context("fork").Process(target=ask)
        process.start()
        assert told.poll(20)
        assert "fork" in told.recv()
        process.join(20)
        assert process.exitcode == 0
        assert storage.formulas.list() == []


def test_threads_that_open_at_once_open_once() -> None:
    storage = Storage.in_memory()
    before = threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.open_stores(), range(8)))
        assert sum(thread.name == "jts-storage" for thread in threading.enumerate()) == 1
    storage.close()
    assert threading.active_count() == before


def test_what_runs_when_the_storage_is_closed_is_told_so() -> None:
    portal = Portal()
    portal.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.call, asyncio.sleep(600))
        portal.call(asyncio.sleep(0.01))
        portal.stop()
        with pytest.raises(StorageError, match="closed meanwhile"):
            waiting.result(20)


@pytest.mark.parametrize("attempts", [0, -1, "3"])
def test_a_number_of_attempts_that_is_none_is_refused(attempts: int) -> None:
    with Storage.in_memory() as storage, pytest.raises(InvalidData, match="attempts"):
        storage.run(lambda uow: None, attempts=attempts)


def test_a_coroutine_function_is_refused_instead_of_never_called() -> None:
    async def work(uow: UnitOfWork) -> None:
        raise AssertionError(uow)

    with Storage.in_memory() as storage, pytest.raises(InvalidData, match="plain function"):
        storage.run(work)  # type: ignore[unused-coroutine]


def test_stopping_cancels_what_still_runs() -> None:
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    portal = Portal()
    portal.start()

    async def begin() -> None:
        background.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    background: list[asyncio.Task[None]] = []
    portal.call(begin())
    portal.stop()
    assert cancelled.is_set()
    portal.stop()
