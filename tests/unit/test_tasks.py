"""Tasks that do not heed the first cancellation."""

from __future__ import annotations

import asyncio
import threading

import pytest

from jts_storage._runtime.tasks import acquired, side_by_side, stopped


@pytest.mark.parametrize("deaf", [0, 1, 3])
async def test_a_task_is_cancelled_until_it_has_ended(deaf: int) -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if swallowed == deaf:
                    raise
                swallowed += 1

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await stopped(task)
    assert task.cancelled()
    assert swallowed == deaf


async def test_what_a_thread_acquires_is_given_back_if_nobody_waits_for_it_any_more() -> None:
    begun, go_on = threading.Event(), threading.Event()
    released: list[str] = []

    def acquire() -> str:
        begun.set()
        assert go_on.wait(10)
        return "a share"

    task = asyncio.create_task(acquired(acquire, released.append))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert released == ["a share"]
    assert await acquired(lambda: "another", released.append) == "another"
    assert released == ["a share"]


async def test_a_task_that_failed_or_ended_is_left_as_it_is() -> None:
    async def fail() -> None:
        raise ValueError("of its own")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await stopped(task)
    with pytest.raises(ValueError, match="of its own"):
        task.result()


async def test_of_what_runs_side_by_side_the_first_failure_ends_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("the first")

    async def run(name: str, failure: Exception | None = None) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
            if failure is not None:
                raise failure

    with pytest.raises(ValueError, match="the first"):
        await side_by_side(run("one"), fail(), run("two", OSError("the second")))
    assert ended == ["one", "two"]
    assert "the second" in caplog.text

    task = asyncio.create_task(side_by_side(run("three"), run("four")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended[2:] == ["three", "four"]
