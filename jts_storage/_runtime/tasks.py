"""What asyncio's tasks need beyond asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 4.0


async def stopped(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once may not be enough: on Python 3.11 `asyncio.wait_for`, with which the driver of MongoDB
    waits for answers, swallows a cancellation that comes together with its result. The pauses
    grow, so that a task which did notice has time to clean up.
    """
    pause = _FIRST_WAIT_SECONDS
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=pause)
        pause = min(2 * pause, _LONGEST_WAIT_SECONDS)


def is_being_cancelled() -> bool:
    """Whether a cancellation is meant for who runs, and not for something it waited for."""
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())


async def run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work` to its end; a cancellation meanwhile is raised after it."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task)
        # The caller gets the cancellation, so a failure would be lost.
        if not task.cancelled() and task.exception() is not None:
            log.warning("What was cancelled has failed.", exc_info=task.exception())
        raise


@asynccontextmanager
async def alongside(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run `work` beside the block, which may wait for it; when the block has ended, so has it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await _ended(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it has it; else it is not what ended the block


async def acquired(acquire: Callable[[], T], release: Callable[[T], object]) -> T:
    """Call `acquire` in a thread; if the caller is cancelled meanwhile, release what it gave."""
    waiting = asyncio.create_task(asyncio.to_thread(acquire))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await _ended(waiting)
        # A thread cannot be interrupted: it has acquired by now, for nobody.
        if waiting.exception() is None:
            await asyncio.to_thread(release, waiting.result())
        raise


async def side_by_side(*works: Coroutine[Any, Any, object]) -> None:
    """Wait for all of them; of one that fails the error is raised, once the others have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException as raised:
        for task in tasks:
            task.cancel()  # once: a second one would disturb what cleans up
        for task in tasks:
            await _ended(task)
            failure = None if task.cancelled() else task.exception()
            if failure is not None and failure is not raised:
                log.warning("Another part failed as well.", exc_info=failure)
        raise


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait until the task has ended, even if the caller is cancelled again while it waits."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
