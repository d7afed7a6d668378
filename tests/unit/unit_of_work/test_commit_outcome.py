"""Which failures of a commit leave open whether it is stored."""

from __future__ import annotations

import pytest
from pymongo.errors import OperationFailure, PyMongoError, WaitQueueTimeoutError

from jts_storage.errors import StorageError
from jts_storage.mongo.errors import translate
from jts_storage.mongo.transaction import may_be_committed

UNKNOWN = ("UnknownTransactionCommitResult",)


def labelled(error: PyMongoError, *labels: str) -> StorageError:
    for label in labels:
        error._add_error_label(label)
    translated = translate(error, doing="committing", hosts=())
    translated.__cause__ = error
    return translated


@pytest.mark.parametrize(
    ("error", "labels", "expected"),
    [
        (OperationFailure("time limit", 50), UNKNOWN, True),
        (OperationFailure("time limit", 50), (), False),
        (WaitQueueTimeoutError("no connection"), UNKNOWN, True),
        (OperationFailure("write conflict", 112), ("TransientTransactionError",), False),
    ],
)
def test_what_the_driver_calls_unknownmay_be_committed(
    error: PyMongoError, labels: tuple[str, ...], expected: bool
) -> None:
    assert may_be_committed(labelled(error, *labels)) is expected
