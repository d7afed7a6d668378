"""The errors of the kit: every exception that leaves it is a `StorageError`.

The driver's exception, where there was
one, is chained as ``__cause__``. A message says what was tried, on what, and what to do about it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any


class _Shortened(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print a number of more than 4,300 digits.
        return super().repr_int(x, level) if x.bit_length() < 10_000 else "a very large number"


_shortened = _Shortened()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 120


class StorageError(Exception):
    """Base of all errors of the kit.

    :param message: what was tried, on what, and how it failed.
    :param remedy: what the reader can do about it.
    :param code: the server's own error code, when a server reported one.
    """

    transient = False
    """The unit of work has stored nothing and may succeed when it is repeated, as `Storage.run`
    does."""

    repeatable = False
    """The same call may succeed in a moment. The kit has repeated it already for as long as the
    settings say, where a repetition could not store anything twice."""

    def __init__(
        self, message: str, *, remedy: str | None = None, code: int | str | None = None
    ) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        message = str(self.args[0])
        if not self.remedy:
            return message
        end = "" if message.endswith((".", "!", "?", "\n")) else "."
        return f"{message}{end} {self.remedy}"


def came_through(exc: BaseException, *packages: str) -> bool:
    """True if the traceback passes through one of these packages."""
    frame = exc.__traceback__
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in packages:
            return True
        frame = frame.tb_next
    return False


class InvalidConfiguration(StorageError, ValueError):
    """A setting is missing, malformed or contradicts another."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        if not message.startswith("Invalid configuration"):
            message = f"Invalid configuration: {message}"
        super().__init__(message, remedy=remedy)


class ConnectionFailed(StorageError):
    """No server could be reached, or the connection broke and retries did not help."""

    def __init__(
        self,
        message: str,
        *,
        hosts: Sequence[str] = (),
        remedy: str | None = None,
        code: int | str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, code=code)
        self.hosts = tuple(hosts)


class OutcomeUnknown(ConnectionFailed):
    """The answer to a commit was lost: it is stored in whole or not at all.

    Where the unit of work was given an id, `Storage.outcome` tells which.
    """


def outcome_unknown(failure: StorageError) -> OutcomeUnknown:
    """The error for a commit whose answer was lost; raise it ``from failure``."""
    return OutcomeUnknown(
        f"Whether the commit took effect is unknown: {failure}",
        hosts=failure.hosts if isinstance(failure, ConnectionFailed) else (),
        remedy="It is there in whole or not at all: read before you repeat it.",
        code=failure.code,
    )


class NotFound(StorageError):
    """Something that must exist does not."""


class Conflict(StorageError):
    """Somebody else changed the same thing first; read it again and repeat."""

    transient = True


class InUse(Conflict):
    """Something that is stored refers to it or shows it, or somebody else is using it."""

    transient = False


class FolderInUse(ConnectionFailed, InUse):
    """Another process has the embedded stores of a folder, and does not share them."""


class PoolTimeout(StorageError):
    """Every connection of the pool stayed busy for longer than a caller may wait."""


class SchemaDrift(StorageError):
    """The live schema is not the one the models describe."""


class InvalidData(StorageError, ValueError):
    """A value that no store may hold: it is refused before anything is written.

    :param field: the field or column at fault.
    :param value: the value that was refused.
    :param row: its row, counted from 0, when it came in a series.
    :param document: the id of the stored document it was found in.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: Any = None,
        row: int | None = None,
        document: str | None = None,
        remedy: str | None = None,
    ) -> None:
        where = [
            *([f"document {document}"] if document is not None else []),
            *([f"row {row}"] if row is not None else []),
            *([f"field {field!r}"] if field is not None else []),
        ]
        prefix = f"{', '.join(where)}: " if where else ""
        suffix = f", got {_shortened.repr(value)}" if value is not None else ""
        super().__init__(f"{prefix}{message}{suffix}", remedy=remedy)
        self.field = field
        self.value = value
        self.row = row
        self.document = document


class RateLimited(StorageError):
    """No slot of a rate limit became free in the time that the caller would wait.

    :param wait: seconds before which none can become free.
    """

    repeatable = True

    def __init__(self, message: str, *, wait: float = 0.0, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.wait = wait


class QuotaExhausted(StorageError):
    """The quota of a day is used up.

    :param resets_at: when the next day begins where the quota counts.
    """

    def __init__(self, message: str, *, resets_at: datetime, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.resets_at = resets_at
