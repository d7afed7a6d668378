"""What the driver and the server of MongoDB report, in the kit's words."""

from __future__ import annotations

from typing import Any

import pytest
from bson.errors import InvalidBSON
from pymongo import errors as driver

from jts_storage.errors import (
    Conflict,
    ConnectionFailed,
    InvalidConfiguration,
    InvalidData,
    PoolTimeout,
    SchemaDrift,
    StorageError,
)
from jts_storage.mongo.errors import MEANINGS, duplicate_of_id, translate

CHANGING = "The servers are changing roles; try again."
CREDENTIALS = "Check user, password and authSource."
OVERTAKEN = "Somebody else was faster; read again and repeat."
DRIFT = "Apply the migrations, or name the right database."
TOO_LARGE = "A MongoDB document holds at most 16 MiB."
TOO_SLOW = "Ask for less at once, or raise the time limit."

CODES: dict[int, tuple[type[StorageError], str, bool]] = {
    **dict.fromkeys(
        (6, 7, 89, 91, 133, 134, 150, 189, 202, 262), (ConnectionFailed, CHANGING, True)
    ),
    **dict.fromkeys(
        (9001, 10107, 11600, 11602, 13388, 13435, 13436), (ConnectionFailed, CHANGING, True)
    ),
    **dict.fromkeys((11, 18, 8000), (ConnectionFailed, CREDENTIALS, False)),
    64: (ConnectionFailed, "Too few members confirmed the write in time", False),
    13: (StorageError, "grant readWrite", False),
    20: (InvalidConfiguration, "need a replica set", False),
    **dict.fromkeys((24, 112, 246), (Conflict, OVERTAKEN, False)),
    251: (Conflict, "transactionLifetimeLimitSeconds", False),
    11000: (Conflict, "Something of that key is stored already.", False),
    **dict.fromkeys((26, 27, 85, 86), (SchemaDrift, DRIFT, False)),
    **dict.fromkeys((50, 292), (StorageError, TOO_SLOW, False)),
    121: (InvalidData, "The collection's validator refused it", False),
    **dict.fromkeys((10334, 17280, 17419, 17420), (InvalidData, TOO_LARGE, False)),
    14031: (StorageError, "disk is full", False),
}


def translated(exc: Exception, *hosts: str) -> StorageError:
    return translate(exc, doing="saving formulas", hosts=hosts)


def labelled(exc: driver.PyMongoError, *labels: str) -> Any:
    for label in labels:
        exc._add_error_label(label)
    return exc


def test_the_table_holds_the_codes_that_are_known() -> None:
    assert MEANINGS.keys() == CODES.keys()


@pytest.mark.parametrize(("code", "wanted"), CODES.items())
def test_each_code_has_its_kind_and_what_to_do(
    code: int, wanted: tuple[type[StorageError], str, bool]
) -> None:
    kind, remedy, later = wanted
    failure = driver.OperationFailure("no", code)
    error = translated(failure, "a:1", "b:2")
    assert type(error) is kind
    assert remedy in str(error)
    assert "saving formulas" in str(error)
    assert translated(failure).repeatable is later
    assert error.code == (None if kind is InvalidConfiguration else code)
    assert error.transient is kind.transient


def test_a_code_of_no_meaning_is_told_as_it_is() -> None:
    error = translated(driver.OperationFailure("odd", 4321))
    assert type(error) is StorageError
    assert str(error) == "MongoDB refused saving formulas (code 4321): odd."
    assert error.code == 4321
    assert not translated(driver.OperationFailure("odd", 4321)).repeatable
    assert translated(driver.OperationFailure("odd")).code == 0


def test_messages_say_what_was_tried_on_what() -> None:
    assert str(translated(driver.OperationFailure("gone", 91), "a:1", "b:2")) == (
        f"MongoDB connection failed at saving formulas (tried a:1, b:2): gone. {CHANGING}"
    )
    assert str(translated(driver.OperationFailure("standalone", 20))) == (
        "Invalid configuration: standalone (at saving formulas, code 20). "
        "Transactions need a replica set or a sharded cluster; use one."
    )
    assert str(translated(driver.OperationFailure("16793600 bytes", 10334))) == (
        f"MongoDB refused saving formulas: 16793600 bytes. {TOO_LARGE}"
    )


def test_a_failed_connection_knows_hosts_and_code() -> None:
    error = translated(driver.AutoReconnect("reset"), "a:1", "b:2")
    assert isinstance(error, ConnectionFailed)
    assert (error.hosts, error.code) == (("a:1", "b:2"), None)
    assert str(error) == (
        "MongoDB connection failed at saving formulas (tried a:1, b:2): reset. "
        "Check that the server is up and reachable, and the URI."
    )
    assert "(tried no host)" in str(translated(driver.AutoReconnect("reset")))
    coded = translated(driver.OperationFailure("gone", 91), "a:1")
    assert isinstance(coded, ConnectionFailed)
    assert (coded.hosts, coded.code) == (("a:1",), 91)


@pytest.mark.parametrize(
    ("exc", "kind", "text"),
    [
        (driver.WaitQueueTimeoutError("x"), PoolTimeout, "No free MongoDB connection for saving"),
        (driver.ServerSelectionTimeoutError("none"), ConnectionFailed, "none"),
        (
            driver.DocumentTooLarge("x"),
            InvalidData,
            f"is too large for saving formulas. {TOO_LARGE}",
        ),
        (InvalidBSON("bad"), InvalidData, "MongoDB cannot hold the value (saving formulas): bad"),
        (OverflowError("8 bytes"), InvalidData, "8 bytes"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), InvalidData, "surrogate"),
        (driver.ConfigurationError("bad"), InvalidConfiguration, "bad (saving formulas)"),
        (
            driver.InvalidOperation("closed"),
            StorageError,
            "MongoDB failed at saving formulas: closed",
        ),
    ],
)
def test_each_error_of_the_driver_has_its_kind(
    exc: Exception, kind: type[StorageError], text: str
) -> None:
    error = translated(exc)
    assert type(error) is kind
    assert text in str(error)


@pytest.mark.parametrize(
    ("exc", "repeatable"),
    [
        (driver.AutoReconnect("x"), True),
        (driver.NetworkTimeout("x"), True),
        (driver.CursorNotFound("x", 43), True),
        (driver.ServerSelectionTimeoutError("x"), False),
        (driver.WaitQueueTimeoutError("x"), False),
        (driver.DuplicateKeyError("x", 11000), False),
        (driver.InvalidOperation("x"), False),
        (OverflowError(), False),
    ],
)
def test_what_may_succeed_when_it_is_repeated(exc: Exception, repeatable: bool) -> None:
    assert translated(exc).repeatable is repeatable


TRANSIENT = "TransientTransactionError"


@pytest.mark.parametrize(
    ("exc", "transient"),
    [
        (labelled(driver.AutoReconnect("x"), TRANSIENT), True),
        (driver.AutoReconnect("x"), False),
        (labelled(driver.OperationFailure("x", 4321), TRANSIENT), True),
        (labelled(driver.ServerSelectionTimeoutError("x"), TRANSIENT), False),
        (labelled(driver.WaitQueueTimeoutError("x"), TRANSIENT), False),
        (labelled(driver.OperationFailure("x", 4321), "RetryableWriteError"), False),
        (OverflowError(), False),
    ],
)
def test_what_another_transaction_may_do(exc: Exception, transient: bool) -> None:
    assert translated(exc).transient is transient


def test_a_failure_that_ends_a_transaction_is_a_conflict_whatever_its_code() -> None:
    error = translated(labelled(driver.OperationFailure("x", 4321), TRANSIENT))
    assert type(error) is Conflict
    assert OVERTAKEN in str(error)
    known = translated(labelled(driver.OperationFailure("x", 91), TRANSIENT))
    assert type(known) is ConnectionFailed


@pytest.mark.parametrize("kind", ["writeErrors", "writeConcernErrors"])
def test_of_many_writes_the_first_failure_counts(kind: str) -> None:
    details = {kind: [{"code": 121, "errmsg": "first"}, {"code": 11000, "errmsg": "second"}]}
    error = translated(driver.BulkWriteError(details))
    assert type(error) is InvalidData
    assert error.code == 121
    assert "first" in str(error) and "second" not in str(error)


def test_a_failed_write_counts_before_a_failed_concern() -> None:
    details = {
        "writeConcernErrors": [{"code": 64, "errmsg": "late"}],
        "writeErrors": [{"code": 11000, "errmsg": "double"}],
    }
    assert translated(driver.BulkWriteError(details)).code == 11000


def test_the_fields_that_a_validator_names_are_told() -> None:
    rules = [
        {"operatorName": "required", "missingProperties": ["owner", "name"]},
        {"operatorName": "properties", "propertiesNotSatisfied": [{"propertyName": "tags"}]},
    ]
    details = {"errInfo": {"details": {"schemaRulesNotSatisfied": rules}}}
    told = str(translated(driver.WriteError("no", 121, details)))
    assert "MongoDB refused saving formulas: no (field owner, name, tags)." in told
    assert "(field" not in str(translated(driver.WriteError("no", 121, {})))
    assert "(field" not in str(translated(driver.WriteError("no", 50, details)))


@pytest.mark.parametrize(
    ("details", "is_id"),
    [
        ({"keyPattern": {"_id": 1}}, True),
        ({"keyPattern": {"name": 1}}, False),
        ({"keyPattern": {"_id": 1, "name": 1}}, False),
        ({}, False),
        (None, False),
    ],
)
def test_whether_the_key_that_is_there_is_the_id(
    details: dict[str, Any] | None, is_id: bool
) -> None:
    assert duplicate_of_id(driver.DuplicateKeyError("double", 11000, details)) is is_id


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("with an end.", "with an end"),
        ("no more than MAX.", "no more than MAX"),
        ("short, full error: {'ok': 0}", "short"),
        ("no servers, Timeout: 30s, Topology Description: x", "no servers"),
        ("x" * 600, "x" * 600),
        ("x" * 601, "x" * 600 + "..."),
        ("", "InvalidOperation"),
    ],
)
def test_texts_are_shown_as_far_as_they_help(text: str, shown: str) -> None:
    told = translated(driver.InvalidOperation(text))
    assert str(told) == f"MongoDB failed at saving formulas: {shown}"
