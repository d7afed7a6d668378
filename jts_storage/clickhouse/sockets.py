"""Find out whether a socket or pipe has data to read."""

from __future__ import annotations

import select
from typing import Any


def is_readable(file: Any, seconds: float = 0.0) -> bool:
    """Return whether a socket or pipe has something to read, its end included.

    ``select.select`` knows no descriptor above 1,023, and services have more than that open.
    """
    watch = select.poll()
    watch.register(file, select.POLLIN)
    return bool(watch.poll(seconds * 1_000))
