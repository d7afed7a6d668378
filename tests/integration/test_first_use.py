"""What the first open, write and read of a process import, and what they do without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from jts_storage import StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from tests import forked

OPENED_WRITTEN_READ: Final = """
import asyncio, json, sys
from pathlib import Path
from pydantic import SecretStr
from jts_storage import Storage, StorageSettings
from jts_storage.testing.factories import SAMPLE_KEY, make_candles

async def main(folder, mongo_url, rows):
    settings = StorageSettings(data_dir=Path(folder), mongo_url=SecretStr(mongo_url), migrate=True)
    series = make_candles(SAMPLE_KEY, int(rows))
    async with Storage.open(settings) as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(SAMPLE_KEY, series)
            await uow.commit()
        found = await storage.candles.get_latest(SAMPLE_KEY, int(rows))
    tops = {name.partition(".")[0] for name in sys.modules}
    print(json.dumps({"is_the_same": found == series, "modules": sorted(tops)}))

asyncio.run(main(*sys.argv[1:]))
"""

UNNEEDED: Final = frozenset(
    {"asynch", "asyncpg", "exchange_calendars", "motor", "pandas", "polars", "redis", "requests"}
    | {"scipy", "typer"}
)

OPENED_READ: Final = """
import asyncio, gc, json, linecache, sys

looked_at_all = []
gc.callbacks.append(lambda phase, told: looked_at_all.append(told) if told["generation"] else None)
from datetime import UTC, datetime
from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe

async def main(folder, mongo_url, database):
    places = {"data_dir": folder, "mongo_url": mongo_url, "mongo_database": database}
    settings = StorageSettings(**places, migrate=True)
    async with Storage.open(settings) as storage:
        key = SeriesKey("005930", Timeframe.M1, "KRX")
        days = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
        await storage.candles.get_range(key, *days)
        await storage.candles.get_latest(key)
    from jts_storage.relational import statements
    ours = "jts_storage/settings/storage.py"
    all_of_it = vars(statements).values()
    made = [each for each in all_of_it if type(each) is statements.Statement]
    print(json.dumps({
        "modules": sorted(sys.modules),
        "collections": len(looked_at_all),
        "collects": gc.isenabled(),
        "source": [path for path in linecache.cache if path.endswith(ours)],
        "compiled": sum("postgres" in getattr(each, "__dict__", ["postgres"]) for each in made),
    }))

asyncio.run(main(*sys.argv[1:]))
"""

SYMBOLS_LISTED: Final = """
import asyncio, json, sys
from jts_storage import Market, Storage, StorageSettings, Symbol

async def main(folder, mongo_url, database, saved):
    places = {"data_dir": folder, "mongo_url": mongo_url, "mongo_database": database}
    settings = StorageSettings(**places, migrate=True)
    async with Storage.open(settings) as storage:
        if saved == "0":
            async with storage.unit_of_work() as uow:
                for code, name in (("005930", "삼성전자"), ("000660", "SK hynix")):
                    await uow.symbols.save(Symbol(code=code, name=name, market=Market.KOSPI))
                await uow.commit()
        names = [each.name for each in await storage.symbols.list()]
    print(json.dumps({"names": names, "modules": sorted(sys.modules)}))

asyncio.run(main(*sys.argv[1:]))
"""

LEFT_OUT: Final = """
import json, os, sys
from datetime import date
import jts_storage.clickhouse.manager
from clickhouse_driver.columns.datecolumn import DateColumn
from clickhouse_sqlalchemy.drivers.http import transport

made = len(DateColumn.date_lut)
requests = ["requests" in sys.modules, transport.requests.Session is not None]
import requests as real
requests[1] = requests[1] and transport.requests.Session is real.Session
print(json.dumps({
    "requests": requests,
    "dates": [made, str(DateColumn.date_lut[20455])],
    "variable": "CLICKHOUSE_DRIVER_LASY_DATE_LUT" in os.environ,
}))
"""


@pytest.fixture(scope="module")
def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    with LocalMongod.acquire(tmp_path_factory.mktemp("first")) as mongod:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        yield mongod


@pytest.fixture
def migrated(fresh_settings: StorageSettings) -> StorageSettings:
    """Of stores whose migrations, which need more, are done."""
    return fresh_settings


def places(settings: StorageSettings) -> tuple[object, ...]:
    assert settings.mongo_url is not None
    return settings.data_dir, settings.mongo_url.get_secret_value(), settings.mongo_database


def run(script: str, *arguments: object) -> Any:
    """Run a script in a process of its own; return what it prints as JSON."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_open_save_and_read_go_without_pandas(mongod: LocalMongod, tmp_path: Path) -> None:
    done = run(OPENED_WRITTEN_READ, tmp_path, mongod.uri, 10)
    assert done["is_the_same"]
    assert UNNEEDED & set(done["modules"]) == set()
    # The second time, when the schemas are up to date, nothing is migrated; many rows are written.
    done = run(OPENED_WRITTEN_READ, tmp_path, mongod.uri, 60_000)
    assert done["is_the_same"]
    assert (UNNEEDED | {"alembic"}) & set(done["modules"]) == set()


def test_symbols_are_listed_without_pandas(migrated: StorageSettings) -> None:
    run(SYMBOLS_LISTED, *places(migrated), 0)
    done = run(SYMBOLS_LISTED, *places(migrated), 1)
    assert done["names"] == ["SK hynix", "삼성전자"]
    assert UNNEEDED & set(done["modules"]) == set()


def test_a_first_read_pays_for_what_it_uses(migrated: StorageSettings) -> None:
    """Each of these costs a twentieth or more of the way from `python` to the first range."""
    done = run(OPENED_READ, *places(migrated))
    used = set(done["modules"])
    assert {"pyarrow.compute", "sqlalchemy.dialects.postgresql"} & used == set()
    assert done["source"] == [], "pydantic has read the texts below the fields"
    assert done["compiled"] == 0, "statements are compiled for PostgreSQL, which is not used"
    assert done["collects"]
    assert done["collections"] < 30


def test_what_is_left_out_of_the_drivers_is_there_when_it_is_used() -> None:
    done = run(LEFT_OUT)
    assert done == {"requests": [False, True], "dates": [0, "2026-01-02"], "variable": False}


def test_the_engine_is_opened_before_it_is_imported(engine_used: Callable[[str], None]) -> None:
    engine_used("chDB")
    done = run(
        "import json, sys\n"
        "from jts_storage.loading_internals import open_library\n"
        "open_library()\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(json.dumps(['_chdb' in maps, 'chdb._chdb' in sys.modules]))\n"
    )
    assert done == [True, False]


IMPORTED: Final = """
import json, os, sys
from jts_storage import loading_internals
from jts_storage.clickhouse.manager import ClickHouseManager

if sys.argv[1] == "asks for more":
    del loading_internals._NotStarted.query

def threads():
    return len(os.listdir("/proc/self/task"))

before = threads()
loading_internals.import_engine()
import chdb
is_started, version = threads() > before, chdb.engine_version
with ClickHouseManager(embedded_path=":memory:") as manager:
    [(answer,)] = manager.execute("SELECT version()")
print(json.dumps([is_started, version, chdb.engine_version == answer]))
"""


def test_the_engine_is_not_started_to_be_imported(engine_used: Callable[[str], None]) -> None:
    engine_used("chDB")
    assert run(IMPORTED, "") == [False, "", True]


def test_the_working_directory_stays_while_the_engine_is_imported(
    engine_used: Callable[[str], None],
) -> None:
    engine_used("chDB")
    done = run(
        "import json, os\n"
        "went, real = [], os.chdir\n"
        "os.chdir = told = lambda path: (went.append(str(path)), real(path))\n"
        "from jts_storage.loading_internals import import_engine\n"
        "import_engine()\n"
        "print(json.dumps([went, os.chdir is told]))\n"
    )
    assert done == [[], True], "other threads open stores by relative paths meanwhile"


def test_a_release_of_the_engine_that_asks_for_more_is_imported_as_it_is(
    engine_used: Callable[[str], None],
) -> None:
    engine_used("chDB")
    is_started, version, is_right = run(IMPORTED, "asks for more")
    assert is_started and version and is_right


def test_opening_tells_one_line(tmp_path: Path) -> None:
    told = _log_of_opening(tmp_path)
    assert len(told) == 1
    assert told[0].startswith("INFO jts_storage.backend Opened clickhouse+embedded:")
    assert told[0].endswith("migrations applied: 20.")
    assert _log_of_opening(tmp_path)[0].endswith("migrations applied: 0.")


def _log_of_opening(folder: Path) -> list[str]:
    code = """
import asyncio, logging, sys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
from jts_storage import Storage, StorageSettings

async def main(folder):
    async with Storage.open(StorageSettings(data_dir=folder)):
        pass

asyncio.run(main(*sys.argv[1:]))
"""
    done = forked.run(["-c", code, folder], timeout=120, check=True)
    return done.stderr.splitlines()
