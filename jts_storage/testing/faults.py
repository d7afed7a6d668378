"""Faults on demand: what a local server does to its clients when a test asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """One state of the control; each call of a verb makes a new one, equal to no other."""

    refuses: bool = False
    hangs: bool = False
    delay: float = 0.0
    cut_after: int | None = None


class Faults:
    """Makes a server misbehave until `clear()`.

    One fault holds at a time: a verb replaces the one before. Every verb takes effect at once, on
    open connections too, and may be called from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._current = Fault()
        self._listeners: list[Callable[[Fault], None]] = []

    def __repr__(self) -> str:
        return f"Faults({self._current})"

    @property
    def current(self) -> Fault:
        """What holds now."""
        return self._current

    @property
    def hold(self) -> bool:
        """Whether any does."""
        now = self._current
        return now.refuses or now.hangs or bool(now.delay) or now.cut_after is not None

    def refuse(self) -> None:
        """As if the server were gone: open connections are reset, new ones refused."""
        self._set(Fault(refuses=True))

    def delay(self, seconds: float) -> None:
        """As if the server were slow: each piece of an answer comes `seconds` later."""
        if seconds < 0:
            raise ValueError(f"a delay cannot be negative: {seconds}")
        self._set(Fault(delay=seconds))

    def cut(self, after_bytes: int = 0) -> None:
        """As if the wire broke: each connection answers `after_bytes` more bytes and is reset
        in place of the next one.
        """
        if after_bytes < 0:
            raise ValueError(f"a number of bytes cannot be negative: {after_bytes}")
        self._set(Fault(cut_after=after_bytes))

    def hang(self) -> None:
        """As if the server were stopped: connections are accepted, nothing is ever answered.

        What was held back goes out after `clear()`.
        """
        self._set(Fault(hangs=True))

    def clear(self) -> None:
        """Back to health."""
        self._set(Fault())

    def on_change(self, listener: Callable[[Fault], None]) -> None:
        """Call `listener` with each new state, in the thread that asked for it, before the verb
        returns.
        """
        self._listeners.append(listener)

    def wait_for_change(self, since: Fault, timeout: float | None = None) -> bool:
        """Block until another state than `since` holds; False when `timeout` passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._current is not since, timeout)

    def _set(self, fault: Fault) -> None:
        with self._changed:
            self._current = fault
            self._changed.notify_all()
        for listener in self._listeners:
            listener(fault)


class FaultyLine:
    """What the faults leave of one connection's answers; used by the thread that sends them."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._counted = faults.current
        self._left = self._counted.cut_after or 0

    def wait_until_due(self) -> None:
        """Block while answers hang, or for the delay that holds."""
        while True:
            fault = self._faults.current
            if fault.hangs:
                self._faults.wait_for_change(fault)
            elif not fault.delay or not self._faults.wait_for_change(fault, fault.delay):
                return

    def admit(self, size: int) -> int:
        """How many of `size` bytes may be sent; fewer means: send these, then reset."""
        fault = self._faults.current
        if fault.refuses:
            return 0
        if fault.cut_after is None:
            return size
        if fault is not self._counted:
            self._counted, self._left = fault, fault.cut_after
        admitted = min(size, self._left)
        self._left -= admitted
        return admitted
