"""Errors of a source that say more than that one of its rows cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jts_storage.errors import InvalidData


class OptionMissing(InvalidData):
    """A value that cannot be read, as others like it, until the caller passes an option.

    Such rows are never set aside: the whole source waits for the option.
    """


class LayoutMissing(InvalidData):
    """A source that cannot be read until the caller says something of its layout.

    :ivar proposed: fields of the layout that the remedy names, by which what else the source needs
        may be found out.
    """

    proposed: Mapping[str, Any] = {}
