"""The exceptions of PEP 249, and which of them stands for which code of ClickHouse.

SQLAlchemy goes by their names: a `ProgrammingError` here becomes its own one.
"""

from __future__ import annotations


class Warning(Exception):
    """Part of PEP 249; nothing raises it."""


class Error(Exception):
    """What the connector raises; the error of the driver or the engine is its cause."""


class InterfaceError(Error):
    """The connector was used in a way that it does not allow."""


class DatabaseError(Error):
    """The server, or the way to it, reported a failure."""


class DataError(DatabaseError):
    """A value does not fit."""


class OperationalError(DatabaseError):
    """Something that the statement is not to blame for: the network, memory, rights, limits."""


class IntegrityError(DatabaseError):
    """A row breaks a constraint of its table."""


class InternalError(DatabaseError):
    """A fault of ClickHouse itself."""


class ProgrammingError(DatabaseError):
    """The statement is wrong, or names what does not exist."""


class NotSupportedError(DatabaseError):
    """ClickHouse, or this way to it, cannot do that."""


ALL: tuple[type[Exception], ...] = (
    *(Warning, Error),
    *Error.__subclasses__(),
    *DatabaseError.__subclasses__(),
)

# Their names stand in ClickHouse's ErrorCodes.cpp; `errorCodeToName(62)` gives one.
_CODES: dict[type[DatabaseError], tuple[int, ...]] = {
    ProgrammingError: (
        *(7, 8, 10, 15, 16, 20, 35, 36, 42, 43, 44, 46, 47, 50, 51, 56, 57, 60, 62, 63, 73, 80),
        *(81, 82, 115, 179, 181, 182, 183, 184, 207, 215, 352, 377, 403, 456),
    ),
    DataError: (6, 26, 27, 38, 41, 53, 69, 70, 72, 117, 131, 153, 321, 376, 407, 441, 675, 691),
    IntegrityError: (349, 469),
    InternalError: (49,),
    NotSupportedError: (1, 48, 344),
    OperationalError: (
        *(100, 102, 158, 159, 160, 164, 192, 193, 194, 195, 198, 201, 202, 203, 209, 210, 225),
        *(236, 241, 242, 243, 252, 279, 285, 291, 319, 396, 497, 516, 999),
    ),
}
_KINDS = {code: kind for kind, codes in _CODES.items() for code in codes}


def kind_of(code: int | None) -> type[DatabaseError]:
    """Return the exception for a code of ClickHouse; without one it was the connection."""
    return OperationalError if code is None else _KINDS.get(code, DatabaseError)
