"""All that the kit uses of chDB beside its documented functions."""

from __future__ import annotations

import ctypes
from typing import Any

DEPENDS_ON = {"chdb.state.sqlitelike:Connection": ("_conn", "_cursor")}
"""What is used of a class; an attribute counts that its ``__init__`` sets."""


def disown(connection: Any) -> None:
    """In a forked child: make sure that nobody ever closes a connection of the parent.

    Closing one hangs there, and collecting its garbage closes it. chDB has no way to give it up.
    """
    held = vars(connection)
    # A reference that is never returned keeps the garbage collector away from it.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(held["_conn"]))
    held["_conn"] = held["_cursor"] = None
