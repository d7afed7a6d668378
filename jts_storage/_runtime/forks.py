"""Reset what a forked child inherits: sockets and locks of its parent, but none of its threads."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    def begin_in_child(self) -> None: ...


_known: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell_children(of: Forked) -> None:
    """Call ``of.begin_in_child()`` in every child that is forked during the life of `of`."""
    _known.add(of)


def _begin_in_child() -> None:
    # A copy, since the garbage collector may shrink the set meanwhile.
    for each in tuple(_known):
        each.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
