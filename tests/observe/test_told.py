"""Nothing that is told of stores has a secret in it: no log line, metric, diagnosis or error."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageError, StorageSettings
from jts_storage.local_servers.folder import free_port
from jts_storage.observe import LastErrors, Metrics, Observers, SlowCalls, json_formatter
from jts_storage.observe.diagnosis import _plain

SECRET = "hunter2"
NOBODY = "127.0.0.1"


class Lines(logging.Handler):
    """Every record of every logger, as the log would have it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.formatter = json_formatter()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def settings(folder: Path, store: str) -> StorageSettings:
    """Embedded stores but for one, which is on a server that is not there."""
    at = f"user:{SECRET}@{NOBODY}:{free_port()}"
    urls = {
        "clickhouse": {"clickhouse_url": SecretStr(f"clickhouse://{at}/jts")},
        "mongo": {"mongo_url": SecretStr(f"mongodb://{at}/?serverSelectionTimeoutMS=200")},
        "database": {"database_url": SecretStr(f"postgresql://{at}/jts")},
        "redis": {"redis_url": SecretStr(f"redis://{at}/0")},
        "gateway": {"url": SecretStr(f"grpc://{SECRET}@{NOBODY}:{free_port()}")},
    }
    return StorageSettings(
        data_dir=folder / "jts",
        env_file=None,
        clickhouse={"max_retries": 0},
        mongo={"max_retries": 0},
        database={"max_retries": 0},
        **urls[store],
    )


@pytest.mark.parametrize(
    "store",
    [
        "mongo",
        *(
            pytest.param(store, marks=pytest.mark.slow)
            for store in ("redis", "clickhouse", "database", "gateway")
        ),
    ],
)
async def test_no_secret_is_told(tmp_path: Path, store: str) -> None:
    lines = Lines()
    root = logging.getLogger()
    before = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    told: list[str] = []
    try:
        chosen = settings(tmp_path, store)
        told.append(repr(chosen))
        observer = Observers(Metrics(), SlowCalls(0.0), LastErrors())
        storage = Storage.open(chosen, observer=observer)
        try:
            async with storage:
                told += [str(await storage.health()), await storage.metrics()]
                told.append((await storage.diagnose()).text)
        except StorageError as exc:
            told += [str(exc), repr(exc), repr(exc.__cause__)]
        told.append(repr(storage))
    finally:
        root.removeHandler(lines)
        root.setLevel(before)
    assert lines.lines
    assert any("storage" in line for line in lines.lines)
    assert [line for line in [*lines.lines, *told] if SECRET in line] == []


@pytest.mark.parametrize("lease", ["005930", "a trader's own key", "jts-storage:005930", ""])
def test_a_lease_that_may_be_of_a_symbol_is_not_named(lease: str) -> None:
    assert _plain(lease) == "delivery of events of one key"
    assert _plain("jts-storage: history") == "jts-storage: history"
