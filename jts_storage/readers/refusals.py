"""Errors of a source that say more than that one of its rows cannot be read."""

from __future__ import annotations

from jts_storage.errors import InvalidData


class OptionMissing(InvalidData):
    """A value that cannot be read, as others like it, until the caller passes an option.

    Such rows are never set aside: the whole source waits for the option.
    """
