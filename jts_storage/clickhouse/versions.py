"""Numbers by which the later of two writes is known."""

from __future__ import annotations

import threading
import time

_lock = threading.Lock()
_latest = 0


def next_version(count: int = 1) -> int:
    """The first of `count` versions that are later than any this process has given before.

    Versions are nanoseconds since 1970: between processes, the later clock wins.
    """
    global _latest
    with _lock:
        first = max(time.time_ns(), _latest + 1)
        _latest = first + count - 1
        return first
