"""A host's clock that is wrong, for this process alone: everything here that asks for the time.

The kit asks `jts_storage.domain.checks.now`, `time.time` and `time.time_ns` only, as does the
driver that makes ids of documents. Monotonic time, by which all waiting is done, stays right.
"""

from __future__ import annotations

import time
from datetime import timedelta

from jts_storage.domain import checks

_seconds = 0.0


def set_apart(seconds: float) -> None:
    """Be so many seconds ahead of the true time, or behind."""
    global _seconds
    _seconds = seconds


def install() -> None:
    """Have this process's clock obey `set_apart`."""
    true_time, true_ns, true_now = time.time, time.time_ns, checks.now
    time.time = lambda: true_time() + _seconds
    time.time_ns = lambda: true_ns() + int(_seconds * 1e9)
    checks.now = lambda: true_now() + timedelta(milliseconds=round(_seconds * 1000))
