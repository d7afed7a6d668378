"""Importing many modules at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Leave out the collections of garbage while modules are imported.

    Modules make hundreds of thousands of objects that all stay, and the collector looks at each
    several times: a tenth of the time. Where it is off already, whoever did that turns it on.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        _count_as_old()
        gc.enable()


def _count_as_old() -> None:
    """Let the next collections leave out all objects there are; only full ones look at them.

    Not where a program has frozen its objects, which would be thawed.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
