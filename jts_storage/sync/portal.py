"""One event loop in a background thread, through which blocking code uses asynchronous code."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

from jts_storage._runtime.tasks import stopped
from jts_storage.errors import StorageError

T = TypeVar("T")

_STOP_SECONDS = 30.0


class Portal:
    """Runs coroutines on a loop of its own and waits for them; safe to use from many threads."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._owner = os.getpid()

    def start(self) -> None:
        loop = asyncio.new_event_loop()
        started = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(started.set)
            loop.run_forever()

        self._owner = os.getpid()
        self._thread = threading.Thread(target=serve, name="jts-storage", daemon=True)
        self._thread.start()
        started.wait()
        self._loop = loop

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""
        if self._loop is None or self._thread is None:
            return
        self.call(_cancel_others())
        self.call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._loop.close()
        self._loop = self._thread = None

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine and return or raise what it does.

        An interrupt (Ctrl-C) cancels it and waits until it has ended.

        :raises StorageError: the storage is not open, or was closed meanwhile.
        """
        try:
            loop = self._usable_loop()
        except StorageError:
            work.close()  # or Python would warn that nobody awaited it
            raise
        outcome = Future[T]()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(loop.create_task(work))
            tasks[0].add_done_callback(lambda task: _hand_over(task, outcome))

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # interrupted before it was handed over
                work.close()
                outcome.cancel()
                outcome.set_running_or_notify_cancel()

        try:
            loop.call_soon_threadsafe(begin)
            return outcome.result()
        except CancelledError:
            raise StorageError(
                "This storage was closed meanwhile.", remedy="Close it when nobody uses it."
            ) from None
        except BaseException:
            if not outcome.done():  # interrupted: cancel it, and let it clean up
                loop.call_soon_threadsafe(cancel)
                wait([outcome], _STOP_SECONDS)
            raise

    def _usable_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise StorageError("This storage is not open.", remedy="Use it within `with storage`.")
        # A fork copies this object but not the thread that runs the loop: a call would never end.
        if self._owner != os.getpid():
            raise StorageError(
                f"This storage was opened in process {self._owner}, of which this one is a fork "
                "without the thread that does its work.",
                remedy="Open the storage after the fork.",
            )
        if threading.current_thread() is self._thread:
            raise StorageError(
                "A blocking call within the storage's own event loop would wait for itself.",
                remedy="In handlers of events, use the asynchronous storage.",
            )
        return self._loop

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield the items one by one; leaving the loop early closes their source."""
        try:
            while True:
                try:
                    item = self.call(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if hasattr(items, "aclose"):
                self.call(items.aclose())


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*map(stopped, others))


def _hand_over(task: asyncio.Task[T], outcome: Future[T]) -> None:
    if task.cancelled():
        outcome.cancel()
        outcome.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())
