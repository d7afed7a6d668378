"""Settings go to spawned processes as they are, and show no secrets on the way."""

from __future__ import annotations

import pickle
from multiprocessing import get_context
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import StorageSettings

PASSWORD = "pa55word"


@pytest.fixture
def given() -> StorageSettings:
    return StorageSettings(
        data_dir=Path("elsewhere"),
        clickhouse_url=SecretStr(f"clickhouse://u:{PASSWORD}@h:9000/jts"),
        clickhouse={"pool_size": 4, "settings": {"max_threads": 2}, "alt_hosts": ("other",)},
        mongo_url=SecretStr("mongodb://h/"),
        mongo={"username": "u", "password": PASSWORD},
        database_url=SecretStr(f"postgresql://u:{PASSWORD}@h/name"),
        cache_bytes=5,
        env_file=None,
    )


def test_pickled_settings_are_the_same(
    given: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pickle.dumps(given)
    monkeypatch.setenv("JTS_CACHE_BYTES", "7")  # they are as they were, whatever is set there
    again = pickle.loads(text)
    assert again == given
    assert again.model_fields_set == given.model_fields_set
    for made in ("clickhouse", "mongo", "database"):
        assert getattr(again, made)() == getattr(given, made)()
    assert again.mongo().password == PASSWORD
    assert PASSWORD not in repr(again) + str(again)
    assert type(again.mongo_fields) is type(given.mongo_fields)


def test_a_spawned_process_gets_them(given: StorageSettings) -> None:
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(repr, (given,)) == repr(given)
