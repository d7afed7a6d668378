"""What a forked child begins anew: it has the sockets and locks of its parent, but no thread."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    def begin_in_child(self) -> None: ...


_known: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell_children(of: Forked) -> None:
    """Have ``of.begin_in_child()`` called in every child that is forked while `of` is there."""
    _known.add(of)


def _begin_in_child() -> None:
    for each in tuple(_known):
        each.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
