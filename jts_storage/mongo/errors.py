"""The kit's errors for those of the driver and the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bson.errors import BSONError
from pymongo import errors as driver

from jts_storage._runtime.meanings import UNKNOWN, Meaning
from jts_storage.errors import (
    Conflict,
    ConnectionFailed,
    InvalidConfiguration,
    InvalidData,
    PoolTimeout,
    SchemaDrift,
    StorageError,
)

_changing = Meaning(ConnectionFailed, "The servers are changing roles; try again.", repeatable=True)
_credentials = Meaning(ConnectionFailed, "Check user, password and authSource.")
_overtaken = Meaning(Conflict, "Somebody else was faster; read again and repeat.")
_ended = Meaning(
    Conflict,
    "The server ended the transaction, as it does after transactionLifetimeLimitSeconds, a minute; "
    "read again and repeat, and keep what takes long out of the unit of work.",
)
_schema = Meaning(SchemaDrift, "Apply the migrations, or name the right database.")
_too_large = Meaning(InvalidData, "A MongoDB document holds at most 16 MiB.")
_too_slow = Meaning(StorageError, "Ask for less at once, or raise the time limit.")

MEANINGS: Final[Mapping[int, Meaning]] = {
    6: _changing,  # HostUnreachable
    7: _changing,  # HostNotFound
    89: _changing,  # NetworkTimeout
    91: _changing,  # ShutdownInProgress
    133: _changing,  # FailedToSatisfyReadPreference
    134: _changing,  # ReadConcernMajorityNotAvailableYet
    150: _changing,  # StaleEpoch
    189: _changing,  # PrimarySteppedDown
    202: _changing,  # NetworkInterfaceExceededTimeLimit
    262: _changing,  # ExceededTimeLimit
    9001: _changing,  # SocketException
    10107: _changing,  # NotWritablePrimary
    11600: _changing,  # InterruptedAtShutdown
    11602: _changing,  # InterruptedDueToReplStateChange
    13388: _changing,  # StaleConfig
    13435: _changing,  # NotPrimaryNoSecondaryOk
    13436: _changing,  # NotPrimaryOrSecondary
    64: Meaning(
        ConnectionFailed, "Too few members confirmed the write in time; check the replica set."
    ),
    11: _credentials,  # UserNotFound
    18: _credentials,  # AuthenticationFailed
    8000: _credentials,  # AtlasError, which is what Atlas calls it
    13: Meaning(StorageError, "The user lacks the right; grant readWrite on the database."),
    20: Meaning(
        InvalidConfiguration, "Transactions need a replica set or a sharded cluster; use one."
    ),
    24: _overtaken,  # LockTimeout
    112: _overtaken,  # WriteConflict
    246: _overtaken,  # SnapshotUnavailable
    251: _ended,  # NoSuchTransaction
    11000: Meaning(Conflict, "Something of that key is stored already."),
    26: _schema,  # NamespaceNotFound
    27: _schema,  # IndexNotFound
    85: _schema,  # IndexOptionsConflict
    86: _schema,  # IndexKeySpecsConflict
    50: _too_slow,  # MaxTimeMSExpired
    292: _too_slow,  # QueryExceededMemoryLimitNoDiskUseAllowed
    121: Meaning(InvalidData, "The collection's validator refused it; see what it demands."),
    10334: _too_large,  # BSONObjectTooLarge
    17280: _too_large,  # KeyTooLong
    17419: _too_large,  # the update would make the document too large
    17420: _too_large,
    14031: Meaning(StorageError, "The server's disk is full; free some space."),
}
"""Server codes with a meaning of their own; any other is a plain `StorageError` with its code."""

_out_of_reach = Meaning(ConnectionFailed, "Check that the server is up and reachable, and the URI.")
_LONGEST: Final = 600


def translate(exc: Exception, *, doing: str, hosts: Sequence[str] = ()) -> StorageError:
    """Our error for a driver's; raise it ``from exc``.

    :param doing: what was tried, such as ``"reading formulas"``.
    :param hosts: the hosts of the configuration, for the message.
    """
    error = _translated(exc, doing, hosts)
    error.repeatable = _is_repeatable(exc)
    error.transient = error.transient or ends_a_transaction(exc)
    return error


def _translated(exc: Exception, doing: str, hosts: Sequence[str]) -> StorageError:
    if isinstance(exc, driver.WaitQueueTimeoutError):
        return PoolTimeout(
            f"No free MongoDB connection for {doing}: the pool stayed busy.",
            remedy="Raise max_pool_size or pool_timeout, or do less at once.",
        )
    if isinstance(exc, driver.ConnectionFailure):
        what = f"{_shown(exc)}."
        return _out_of_reach.error(what, store="MongoDB", doing=doing, hosts=hosts)
    if isinstance(exc, driver.DocumentTooLarge):
        return InvalidData(f"is too large for {doing}", remedy=_too_large.remedy)
    if isinstance(exc, driver.OperationFailure):
        return _from_server(exc, doing, hosts)
    if isinstance(exc, BSONError | OverflowError | UnicodeError):
        return InvalidData(f"MongoDB cannot hold the value ({doing}): {_shown(exc)}")
    if isinstance(exc, driver.ConfigurationError):
        return InvalidConfiguration(f"{_shown(exc)} ({doing})")
    return StorageError(f"MongoDB failed at {doing}: {_shown(exc)}")


def _is_repeatable(exc: Exception) -> bool:
    """Return whether the very same operation, if it is idempotent, may succeed when it is repeated.

    Not so after waiting for a server or a free connection: that wait was the repetition.
    """
    if isinstance(exc, driver.ServerSelectionTimeoutError | driver.WaitQueueTimeoutError):
        return False
    if isinstance(exc, driver.ConnectionFailure | driver.CursorNotFound):
        return True
    return isinstance(exc, driver.OperationFailure) and _meaning(exc).repeatable


def ends_a_transaction(exc: Exception) -> bool:
    """Return whether another transaction may do what this one could not."""
    if isinstance(exc, driver.ServerSelectionTimeoutError | driver.WaitQueueTimeoutError):
        return False  # as for `_is_repeatable`
    return isinstance(exc, driver.PyMongoError) and exc.has_error_label("TransientTransactionError")


def duplicate_of_id(exc: driver.DuplicateKeyError) -> bool:
    """Return whether the key that exists already is `_id`."""
    return list((exc.details or {}).get("keyPattern", ())) == ["_id"]


def _from_server(exc: driver.OperationFailure, doing: str, hosts: Sequence[str]) -> StorageError:
    details, code = _first_failure(exc), _code(exc)
    what = _shown(exc, details.get("errmsg")) + (_refusals(details) if code == 121 else "")
    return _meaning(exc).error(f"{what}.", store="MongoDB", doing=doing, hosts=hosts, code=code)


def _meaning(exc: driver.OperationFailure) -> Meaning:
    code = _code(exc)
    if code in MEANINGS:
        return MEANINGS[code]
    if exc.has_error_label("TransientTransactionError"):
        return _overtaken
    return UNKNOWN


def _code(exc: driver.OperationFailure) -> int:
    return int(_first_failure(exc).get("code") or exc.code or 0)


def _first_failure(exc: driver.OperationFailure) -> Mapping[str, Any]:
    details: Mapping[str, Any] = exc.details or {}
    # A bulk write reports an error of its own, and the cause below it.
    for failure in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())):
        return dict(failure)
    return details


def _refusals(details: Mapping[str, Any]) -> str:
    """Return which fields the validator named."""
    rules = details.get("errInfo", {}).get("details", {}).get("schemaRulesNotSatisfied", ())
    names: list[str] = []
    for rule in rules:
        names += rule.get("missingProperties", ())
        for part in rule.get("propertiesNotSatisfied", ()):
            names.append(str(part.get("propertyName")))
    return f" (field {', '.join(names)})" if names else ""


def _shown(exc: Exception, message: object = None) -> str:
    # The driver appends the whole answer of the server and its own timeouts, which say no more.
    text = str(message or str(exc) or type(exc).__name__).partition(", full error:")[0]
    text = text.partition(", Timeout: ")[0].strip().rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
