"""What asyncio's tasks need beyond asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

_HEED_SECONDS = 0.25
_LONGEST_HEED_SECONDS = 4.0


async def stopped(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once may not be enough: on Python 3.11 `asyncio.wait_for`, with which the driver of MongoDB
    waits for answers, swallows a cancellation that comes together with its result. The pauses
    grow, so that a task which heeded it can also tidy up.
    """
    pause = _HEED_SECONDS
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=pause)
        pause = min(2 * pause, _LONGEST_HEED_SECONDS)


async def undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work` to its end; a cancellation meanwhile is raised after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue  # once is enough: one is raised below
        if not task.cancelled() and task.exception() is not None:
            log.warning("What was cancelled has failed.", exc_info=task.exception())
        raise


async def acquired(acquire: Callable[[], T], release: Callable[[T], object]) -> T:
    """What `acquire` gives in a thread; given back at once if who waits for it is cancelled."""
    waiting = asyncio.ensure_future(asyncio.to_thread(acquire))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        while not waiting.done():
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError:
                continue  # a thread cannot be cancelled
        if waiting.exception() is None:
            await asyncio.to_thread(release, waiting.result())
        raise
