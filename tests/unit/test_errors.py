from __future__ import annotations

import copy
import pickle

import pytest

from jts_storage.errors import (
    Conflict,
    ConnectionFailed,
    InvalidConfiguration,
    InvalidData,
    NotFound,
    PoolTimeout,
    SchemaDrift,
    StorageError,
)


@pytest.mark.parametrize(
    "kind",
    [
        Conflict,
        ConnectionFailed,
        InvalidConfiguration,
        InvalidData,
        NotFound,
        PoolTimeout,
        SchemaDrift,
    ],
)
def test_every_error_is_a_storage_error(kind: type[StorageError]) -> None:
    assert issubclass(kind, StorageError)
    assert "it went wrong" in str(kind("it went wrong"))


@pytest.mark.parametrize("kind", [InvalidData, InvalidConfiguration])
def test_a_bad_value_is_a_value_error_too(kind: type[StorageError]) -> None:
    assert issubclass(kind, ValueError)


def test_the_remedy_follows_the_message() -> None:
    error = StorageError("no such table.", remedy="Run the migrations.", code=60)
    assert str(error) == "no such table. Run the migrations."
    assert (error.remedy, error.code) == ("Run the migrations.", 60)


def test_without_a_remedy_the_message_stands_alone() -> None:
    assert str(StorageError("no such table.")) == "no such table."


def test_a_configuration_error_says_so_once() -> None:
    assert str(InvalidConfiguration("no host")) == "Invalid configuration: no host"
    again = InvalidConfiguration(str(InvalidConfiguration("no host")), remedy="Set one.")
    assert str(again) == "Invalid configuration: no host. Set one."


def test_a_failed_connection_keeps_the_hosts() -> None:
    assert ConnectionFailed("no answer", hosts=["a:1", "b:2"]).hosts == ("a:1", "b:2")
    assert ConnectionFailed("no answer").hosts == ()


def test_invalid_data_names_document_row_field_and_value() -> None:
    error = InvalidData("must be positive", field="volume", value=-1, row=3, document="f1")
    assert str(error) == "document f1, row 3, field 'volume': must be positive, got -1"
    assert (error.field, error.value, error.row, error.document) == ("volume", -1, 3, "f1")


def test_invalid_data_says_only_what_it_knows() -> None:
    assert str(InvalidData("is empty")) == "is empty"
    assert str(InvalidData("is empty", row=0)) == "row 0: is empty"


def test_a_long_value_is_shortened_in_the_message_and_kept_in_the_error() -> None:
    error = InvalidData("is too long", field="name", value="x" * 10_000)
    assert len(str(error)) < 200
    assert error.value == "x" * 10_000


@pytest.mark.parametrize(
    "value", [10**5000, -(10**5000), [10**5000]], ids=["above", "below", "within"]
)
def test_a_number_too_long_to_print_still_makes_a_message(value: object) -> None:
    assert "a very large number" in str(InvalidData("is too large", value=value))


def test_a_large_number_is_printed_as_far_as_it_goes() -> None:
    assert "18446744073709551616" in str(InvalidData("is too large", value=2**64))


@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
@pytest.mark.parametrize(
    "error",
    [
        InvalidData("no", field="f", value=1, row=2, document="d", remedy="Do."),
        InvalidConfiguration("no", remedy="Do."),
        ConnectionFailed("no", hosts=["h"], remedy="Do.", code=210),
        StorageError("no", remedy="Do.", code="X"),
    ],
)
def test_an_error_survives_pickling(again: object, error: StorageError) -> None:
    assert callable(again)
    restored = again(error)
    assert type(restored) is type(error)
    assert str(restored) == str(error)
    assert vars(restored) == vars(error)
