"""Blocks read in a thread, while the one before is being used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def read_ahead(
    blocks: Iterator[T], meanwhile: Callable[[], Awaitable[None]]
) -> AsyncGenerator[T, None]:
    """The blocks, each read in a thread while the one before is stored.

    :param meanwhile: what to do while the first is read.
    """
    reading = asyncio.ensure_future(asyncio.to_thread(next, blocks, None))
    try:
        await meanwhile()
        while (block := await reading) is not None:
            reading = asyncio.ensure_future(asyncio.to_thread(next, blocks, None))
            yield block
    finally:
        # The thread must be out of the source before anybody closes it.
        if not reading.done():
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait([reading])
        # Looked at, or asyncio logs that nobody has: the first error is the one that counts.
        if reading.done() and not reading.cancelled():
            reading.exception()
