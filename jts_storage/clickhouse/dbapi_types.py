"""The constructors and type objects of PEP 249."""

from __future__ import annotations

import datetime

Date = datetime.date
Time = datetime.time
Binary = bytes


def Timestamp(  # noqa: N802 - PEP 249 names it so
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> datetime.datetime:
    """Return a moment in UTC: the server would read one without a zone in a zone of its own."""
    return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802
    return TimestampFromTicks(ticks).date()


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802
    return TimestampFromTicks(ticks).time()


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802
    """Return the moment so many seconds after the beginning of 1970."""
    return datetime.datetime.fromtimestamp(ticks, datetime.UTC)


class TypeObject:
    """Equal to each type of ClickHouse whose name begins so, as a cursor's description has it."""

    def __init__(self, *beginnings: str) -> None:
        self._beginnings = beginnings

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return self is other
        bare = other.replace("LowCardinality(", "").replace("Nullable(", "")
        return bare.startswith(self._beginnings)

    def __hash__(self) -> int:
        return hash(self._beginnings)


STRING = TypeObject("String", "FixedString", "Enum", "UUID", "IPv")
BINARY = TypeObject("String", "FixedString")
NUMBER = TypeObject("Int", "UInt", "Float", "BFloat", "Decimal", "Bool")
DATETIME = TypeObject("Date", "Time")
ROWID = TypeObject()
"""No column has it: ClickHouse numbers no rows."""
