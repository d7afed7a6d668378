"""How long MongoDB may take for what is asked within a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pymongo

from jts_storage.errors import StorageError


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Within it, the server itself stops what takes longer.

    :raises StorageError: it did.
    """
    began = monotonic()
    try:
        with pymongo.timeout(seconds):
            yield
    except StorageError as exc:
        if monotonic() - began < seconds:
            raise
        raise StorageError(
            f"MongoDB took longer than {seconds:g} s.", remedy="Ask for less at once."
        ) from exc
