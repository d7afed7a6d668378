"""Importing many modules at once."""

from __future__ import annotations

import gc
import sys
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
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:  # else garbage would count as old, and the looks cost
            _count_as_old()
        gc.enable()


def _count_as_old() -> None:
    """Let the next collections leave out all objects there are; only full ones look at them.

    Not where a program has frozen its objects, which would be thawed.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
