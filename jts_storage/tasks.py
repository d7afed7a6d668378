"""What asyncio's tasks need beyond asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

_HEED_SECONDS = 0.1


async def stopped(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once may not be enough: on Python 3.11 `asyncio.wait_for`, with which the driver of MongoDB
    waits for answers, swallows a cancellation that comes together with its result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_HEED_SECONDS)
