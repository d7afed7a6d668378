"""Points in the order of commits: by time, by a commit, or by the name of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from jts_storage.domain import checks
from jts_storage.errors import InvalidData

_NANOSECONDS = 1_000_000_000
_DIGITS = 19
"""Of the version of a commit, which is nanoseconds: from 2001 until 2262."""

_LAST_VERSION: Final = 2**63 - 1
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Commit:
    """One commit, by its place in the order of all.

    :param version: the highest version of what it wrote; later commits have higher ones.
    """

    version: int

    def __post_init__(self) -> None:
        checks.whole(self.version, "version")

    @property
    def moment(self) -> datetime:
        """When it took its place, by MongoDB's clock, to the microsecond."""
        seconds, rest = divmod(self.version, _NANOSECONDS)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000)


AsOf: TypeAlias = datetime | Commit | str
"""A time with its zone, a commit, or the name of a snapshot."""


def told_by(text: str) -> datetime | Commit | None:
    """The time, perhaps without a zone, or the commit that a text says; None if it says neither."""
    if len(text) == _DIGITS and text.isascii() and text.isdecimal():
        return Commit(int(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def version_at(moment: datetime, field: str = "as_of") -> int:
    """The highest version that a commit of this time may have; before 1970 there was none, and 0.

    :raises InvalidData: the time has no zone, or is later than any that a version can tell.
    """
    second = checks.utc(moment.replace(microsecond=0), field)
    elapsed = moment - checks.EPOCH
    version = (elapsed // _MICROSECOND + 1) * 1_000 - 1
    if version > _LAST_VERSION:
        raise in_the_future(second, field)
    return max(0, version)


def in_the_future(moment: datetime, field: str) -> InvalidData:
    return InvalidData("lies in the future", field=field, value=moment.isoformat())


def checked(as_of: object, field: str = "as_of") -> AsOf:
    """:raises InvalidData: it names no moment."""
    if isinstance(as_of, str):
        return checks.name(as_of, field)
    if isinstance(as_of, datetime | Commit):
        return as_of
    raise InvalidData(
        "must be a datetime with its zone, a Commit or the name of a snapshot",
        field=field,
        value=repr(as_of),
    )
