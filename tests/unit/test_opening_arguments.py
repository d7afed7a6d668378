"""What a storage or a manager is opened with, refused in words where it is something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from jts_storage import Storage
from jts_storage.clickhouse.dialect import register
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import InvalidConfiguration
from jts_storage.relational import DatabaseManager
from jts_storage.settings import StorageSettings

ANYTHING: Any = None


def embedded_with_a_host() -> object:
    register()
    with sa.create_engine("clickhouse+embedded://mydata").connect() as connection:
        return connection


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "a URL for settings": (
        lambda: Storage.open("clickhouse://x"),  # type: ignore[arg-type]
        "Storage.open is given a str",
    ),
    "settings for stores": (
        lambda: Storage(StorageSettings(env_file=None)),  # type: ignore[arg-type]
        r"Storage is given a StorageSettings\. Storage\.open\(settings\)",
    ),
    "a misspelled check": (
        lambda: Storage.open(check="eror"),  # type: ignore[arg-type]
        "check is 'eror'",
    ),
    "no database": (lambda: DatabaseManager(ANYTHING), "given a NoneType"),
    "a port with the host": (lambda: ClickHouseManager("localhost:9000"), "host"),
    "two slashes": (embedded_with_a_host, "three slashes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    give, message = REFUSED[name]
    with pytest.raises(InvalidConfiguration, match=message):
        give()
