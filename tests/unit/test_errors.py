from __future__ import annotations

import copy
import pickle

import pytest

from jts_storage.errors import (
    Conflict,
    ConnectionFailed,
    InUse,
    InvalidConfiguration,
    InvalidData,
    NotFound,
    OutcomeUnknown,
    PoolTimeout,
    SchemaDrift,
    StorageError,
    came_through,
    outcome_unknown,
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


@pytest.mark.parametrize(
    ("kind", "transient"),
    [
        (StorageError, False),
        (Conflict, True),
        (InUse, False),
        (ConnectionFailed, False),
        (NotFound, False),
        (PoolTimeout, False),
        (SchemaDrift, False),
        (InvalidData, False),
        (InvalidConfiguration, False),
    ],
)
def test_which_errors_are_worth_repeating(kind: type[StorageError], transient: bool) -> None:
    assert kind("x").transient is transient


def test_a_remedy_is_parted_from_the_message() -> None:
    for message in ("no", "no."):
        assert str(StorageError(message, remedy="Do.")) == "no. Do."
    assert str(StorageError("no!", remedy="Do.")) == "no! Do."
    assert str(StorageError("no?", remedy="Do.")) == "no? Do."
    assert str(StorageError("no\n", remedy="Do.")) == "no\n Do."
    assert str(StorageError("no", remedy="")) == "no"


def test_an_unknown_outcome_keeps_what_is_known_of_the_failure() -> None:
    failure = ConnectionFailed("lost", hosts=("a:1",), code=91)
    error = outcome_unknown(failure)
    assert type(error) is OutcomeUnknown and isinstance(error, ConnectionFailed)
    assert (error.hosts, error.code) == (("a:1",), 91)
    assert str(error) == (
        "Whether the commit took effect is unknown: lost. "
        "It is there in whole or not at all: read before you repeat it."
    )
    other = outcome_unknown(StorageError("slow", code=50))
    assert (other.hosts, other.code) == ((), 50)


def test_through_which_packages_an_error_came() -> None:
    def fail() -> None:
        raise OSError("x")

    below = {"__name__": "driver.wire", "fail": fail}
    with pytest.raises(OSError, match="x") as caught:
        exec("fail()", below)
    assert came_through(caught.value, "driver")
    assert came_through(caught.value, "other", "driver")
    assert not came_through(caught.value, "wire")
    assert not came_through(caught.value, "drive")
    assert not came_through(caught.value)
    assert came_through(OSError("never raised"), "driver") is False


def test_how_much_of_a_value_is_shown() -> None:
    assert str(InvalidData("x", value="y" * 118)) == f"x, got '{'y' * 118}'"
    shortened = str(InvalidData("x", value="y" * 119))
    assert "..." in shortened and len(shortened) == len("x, got ") + 120
    assert str(InvalidData("x", value=10**119)) == f"x, got {10**119}"
    assert len(str(InvalidData("x", value=10**120))) == len("x, got ") + 120
    assert len(str(InvalidData("x", value=bytearray(200)))) == len("x, got ") + 120
    assert str(InvalidData("x", value=0)) == "x, got 0"
    assert str(InvalidData("x", value=None)) == "x"
    below, above = 2**9_999 - 1, 2**9_999
    assert "..." in str(InvalidData("x", value=below))
    assert str(InvalidData("x", value=above)) == "x, got a very large number"


def test_what_is_told_of_the_place() -> None:
    assert str(InvalidData("x", document="d")) == "document d: x"
    assert str(InvalidData("x", field="f")) == "field 'f': x"
    assert str(InvalidData("x", document="d", field="f")) == "document d, field 'f': x"
