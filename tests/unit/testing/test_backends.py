"""Which database a worker uses, and which the environment may not offer to tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import StorageSettings
from jts_storage.errors import InvalidConfiguration
from jts_storage.testing.address import Address
from jts_storage.testing.backends import check_expendable, database_name, open_stack


@pytest.mark.parametrize(
    ("worker", "base", "expected"),
    [
        (None, "jts_test", "jts_test"),
        ("gw0", "jts_test", "jts_gw0_test"),
        ("gw12", "prices", "prices_gw12"),
        (None, "prices", "prices"),
    ],
)
def test_each_worker_has_its_own_database(worker: str | None, base: str, expected: str) -> None:
    assert database_name(worker, base) == expected


def settings(clickhouse: str, mongo: str, sql: str) -> StorageSettings:
    return StorageSettings(
        clickhouse_url=SecretStr(clickhouse),
        mongo_url=SecretStr("mongodb://127.0.0.1"),
        mongo_database=mongo,
        database_url=SecretStr(sql),
    )


GOOD = ("clickhouse://u:hidden@h/a_test", "b_test", "postgresql://u:hidden@h/c_test")


def test_databases_for_tests_are_accepted() -> None:
    check_expendable(settings(*GOOD), confirmed=False)
    check_expendable(StorageSettings(), confirmed=False)


@pytest.mark.parametrize(
    ("at", "url", "named"),
    [
        (0, "clickhouse://u:hidden@h/jts", "'jts' (JTS_CLICKHOUSE_URL)"),
        (0, "clickhouse+embedded:////var/prices", "'prices' (JTS_CLICKHOUSE_URL)"),
        (1, "jts", "'jts' (JTS_MONGO_DATABASE)"),
        (2, "postgresql://u:hidden@h/jts", "'jts' (JTS_DATABASE_URL)"),
        (2, "sqlite:////var/books.db", "'books' (JTS_DATABASE_URL)"),
    ],
)
def test_others_are_refused_unless_allowed_in_two_places(at: int, url: str, named: str) -> None:
    urls = [*GOOD]
    urls[at] = url
    with pytest.raises(InvalidConfiguration) as refusal:
        check_expendable(settings(*urls), confirmed=False)
    assert named in str(refusal.value)
    assert "hidden" not in str(refusal.value)
    check_expendable(settings(*urls), confirmed=True)


def test_the_environment_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JTS_CLICKHOUSE_URL", "clickhouse://192.0.2.1/jts")
    with pytest.raises(InvalidConfiguration, match="empty the databases"):
        open_stack("env", None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_hides_its_password_and_has_no_faults_far_away() -> None:
    address = Address(
        url="postgresql://u:hidden@192.0.2.1/x_test",
        host="192.0.2.1",
        port=5432,
        database="x_test",
        user="u",
        password="hidden",
    )
    assert "hidden" not in repr(address)
    assert not address.can_fail
    with pytest.raises(InvalidConfiguration, match="not on this machine"):
        _ = address.faults
