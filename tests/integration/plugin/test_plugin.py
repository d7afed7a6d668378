"""The fixtures as a service sees them: a project of its own, run by a pytest of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from clickhouse_driver import Client

from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.testing.clickhouse_server import ClickHouseServer

_spec = spec_from_file_location("projects", Path(__file__).with_name("projects.py"))
assert _spec is not None
assert _spec.loader is not None
projects = module_from_spec(_spec)
sys.modules["projects"] = projects
_spec.loader.exec_module(projects)

SHARED = """
from jts_storage import SeriesKey, Storage, Timeframe

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")

async def use(storage, make_candles, make_formula):
    assert await storage.candles.count(KEY) == 0
    assert list(await storage.formulas.list()) == []
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles())
        await uow.formulas.save(make_formula())
        await uow.ingestion.checkpoints.save("collector", {"at": 1})
        await uow.commit()
    assert await storage.candles.count(KEY) == 10
    assert [c.name for c in await storage.ingestion.checkpoints.list()] == ["collector"]
"""
LOOPS = """
import pytest
import pytest_asyncio
from jts_storage import migrate
from shared import KEY, use

@pytest_asyncio.fixture
async def filled(jts_storage, make_candles, make_formula):
    await use(jts_storage, make_candles, make_formula)
    return jts_storage

@pytest.mark.asyncio
async def test_on_its_own_loop(filled):
    assert await filled.candles.count(KEY) == 10

@pytest.mark.asyncio(loop_scope="module")
async def test_on_the_module_s_loop(jts_storage, jts_uow, make_candles, make_formula):
    await use(jts_storage, make_candles, make_formula)
    assert list(await jts_uow.formulas.list())

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("again", [1, 2])
async def test_on_the_session_s_loop(jts_storage, make_candles, make_formula, again):
    await use(jts_storage, make_candles, make_formula)

@pytest.mark.asyncio
class TestInAClass:
    async def test_too(self, jts_storage, make_candles, make_formula):
        await use(jts_storage, make_candles, make_formula)

@pytest.mark.asyncio
async def test_the_stores_are_migrated(jts_storage):
    stores = (jts_storage.clickhouse, jts_storage.mongo, jts_storage.database)
    assert await migrate.check(migrate.Databases(*stores)) == []

def test_blocking(jts_sync_storage):
    assert jts_sync_storage.candles.count(KEY) == 0
"""
AUTO = """
from shared import KEY, use

async def test_without_a_mark(jts_storage, jts_memory_storage, make_candles, make_formula):
    await use(jts_storage, make_candles, make_formula)
    await use(jts_memory_storage, make_candles, make_formula)
"""
ANYIO = """
import pytest
from shared import KEY, use

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def filled(jts_storage, make_candles, make_formula):
    await use(jts_storage, make_candles, make_formula)
    return jts_storage

async def test_a_fixture_shares_the_loop(filled):
    assert await filled.candles.count(KEY) == 10

async def test_and_units_do(jts_storage, jts_uow, jts_memory_storage, make_candles, make_formula):
    await use(jts_storage, make_candles, make_formula)
    await use(jts_memory_storage, make_candles, make_formula)
    assert list(await jts_uow.formulas.list())
"""
LEAKS = """
import pytest
from clickhouse_driver import Client
from shared import KEY, Storage, use

kept = []

@pytest.mark.asyncio
async def test_leaves_a_unit(jts_storage, make_formula):
    uow = jts_storage.unit_of_work()
    await uow.__aenter__()
    await uow.formulas.save(make_formula())

@pytest.mark.asyncio
async def test_leaves_a_storage(jts_settings, make_formula):
    storage = Storage.open(jts_settings)
    await storage.open_stores()
    await storage.unit_of_work().__aenter__()

@pytest.mark.asyncio
async def test_leaves_a_pooled_connection(jts_storage):
    clickhouse = jts_storage._backend.stores.clickhouse
    kept.append(clickhouse.stream_columns("SELECT number FROM numbers(10)", block_rows=1))
    next(kept[-1])

def test_leaves_a_client(jts_clickhouse):
    kept.append(Client(jts_clickhouse.host, jts_clickhouse.port))
    kept[-1].execute("SELECT 1")

def test_leaves_a_blocking_unit(jts_sync_storage):
    jts_sync_storage.unit_of_work().__enter__()

@pytest.mark.asyncio
async def test_leaves_nothing(jts_storage, make_candles, make_formula):
    await use(jts_storage, make_candles, make_formula)

@pytest.mark.asyncio
async def test_nor_does_a_fault(jts_storage, jts_mongo, jts_postgres, make_candles, make_formula):
    await use(jts_storage, make_candles, make_formula)
    jts_mongo.faults.refuse()
    jts_postgres.faults.refuse()
    health = await jts_storage.health()
    assert health == {"clickhouse": True, "mongo": False, "database": False}
"""


@pytest.fixture
def project(tmp_path: Path, engine_used: Callable[[str], None]) -> Callable[..., Path]:
    def make(**files: str) -> Path:
        engine_used("chDB, mongod, PostgreSQL in processes of example projects")
        (tmp_path / "pytest.ini").write_text(projects.INI)
        (tmp_path / "shared.py").write_text(SHARED)
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        return tmp_path

    return make


@pytest.mark.slow
def test_anyio_runs_them_too(project: Callable[..., Path]) -> None:
    folder = project(test_anyio=ANYIO)
    outcome = projects.run_pytest(folder, "--jts-backend=embedded")
    assert outcome.counts == {"passed": 2}, outcome.text


@pytest.mark.slow
def test_what_stays_open_fails_its_test_by_name(project: Callable[..., Path]) -> None:
    folder = project(test_leaks=LEAKS)
    outcome = projects.run_pytest(folder, "--jts-backend=embedded", "-p", "no:randomly")
    assert outcome.counts == {"passed": 7, "error": 5}, outcome.text
    for name, left in {
        "leaves_a_unit": "a unit of work begun at test_leaks.py:10",
        "leaves_a_storage": "a unit of work begun at test_leaks.py:18;"
        " a storage opened at test_leaks.py:17",
        "leaves_a_pooled_connection": "1 connection to ClickHouse",
        "leaves_a_client": "1 connection to jts_clickhouse",
        "leaves_a_blocking_unit": "a unit of work begun at test_leaks.py:31",
    }.items():
        assert f"test_leaks.py::test_{name} left open: {left}" in outcome.text


def test_storages_are_open_on_the_loop_of_their_test_and_workers_share_nothing(
    project: Callable[..., Path],
) -> None:
    folder = project(**{f"test_loops_{n}": LOOPS for n in range(2)})
    outcome = projects.run_pytest(folder, "--jts-backend=embedded", "-n", "2")
    assert outcome.counts == {"passed": 14}, outcome.text


@pytest.mark.slow
def test_the_environment_names_the_stores_and_auto_mode_needs_no_marks(
    project: Callable[..., Path], tmp_path: Path
) -> None:
    folder = project(test_auto=AUTO)
    books = tmp_path / "books_test.db"
    options = ("--jts-backend=env", "-o", "asyncio_mode=auto")
    outcome = projects.run_pytest(
        folder, *options, environment={"JTS_DATABASE_URL": f"sqlite:///{books}"}
    )
    assert outcome.counts == {"passed": 1}, outcome.text
    assert books.exists()


def test_a_precious_database_is_refused(project: Callable[..., Path], tmp_path: Path) -> None:
    folder = project(test_auto=AUTO)
    books = tmp_path / "books.db"
    options = ("--jts-backend=env", "-o", "asyncio_mode=auto", "--jts-erase-any-database")
    outcome = projects.run_pytest(
        folder, *options, environment={"JTS_DATABASE_URL": f"sqlite:///{books}"}
    )
    assert outcome.counts == {"error": 1}, outcome.text
    assert "'books' (JTS_DATABASE_URL)" in outcome.text
    assert not books.exists()


@pytest.mark.slow
def test_the_environment_may_name_three_servers(
    project: Callable[..., Path], tmp_path: Path
) -> None:
    folder = project(test_auto=AUTO, test_again=AUTO)
    options = ("--jts-backend=env", "-o", "asyncio_mode=auto")
    served = tmp_path / "clickhouse"
    clickhouse = ClickHouseServer(str(served), database="default")
    with clickhouse, LocalMongod.acquire(tmp_path / "mongo") as mongod, LocalPostgres.start() as pg:
        urls = {
            "JTS_CLICKHOUSE_URL": f"clickhouse://{clickhouse.host}:{clickhouse.port}/prices_test",
            "JTS_MONGO_URL": mongod.uri,
            "JTS_MONGO_DATABASE": "prices_test",
            "JTS_DATABASE_URL": pg.dsn_of("prices_test"),
        }
        outcome = projects.run_pytest(folder, *options, environment=urls)
        assert outcome.counts == {"passed": 2}, outcome.text
        assert served_candles(clickhouse, "prices_test") == 10
        precious = {name: url.replace("prices_test", "prices") for name, url in urls.items()}
        outcome = projects.run_pytest(folder, *options, environment=precious)
        assert outcome.counts == {"error": 2}, outcome.text
        for name in ("JTS_CLICKHOUSE_URL", "JTS_MONGO_DATABASE", "JTS_DATABASE_URL"):
            assert f"'prices' ({name})" in outcome.text
        confirmed = ("--jts-erase-any-database", "-o", "jts_erase_any_database=true")
        outcome = projects.run_pytest(folder, *options, *confirmed, environment=precious)
        assert outcome.counts == {"passed": 2}, outcome.text
        assert served_candles(clickhouse, "prices") == 10


def served_candles(server: ClickHouseServer, database: str) -> int:
    with Client(server.host, server.port, database) as client:
        ((count,),) = client.execute("SELECT count() FROM candles")
    return int(count)


def test_an_unknown_backend_is_a_mistake_in_the_configuration(
    project: Callable[..., Path],
) -> None:
    folder = project(test_auto=AUTO)
    outcome = projects.run_pytest(folder, "-o", "jts_backend=cloud", "-o", "asyncio_mode=auto")
    assert "jts_backend is 'cloud', not one of memory, embedded" in outcome.text


def test_collecting_a_project_that_uses_nothing_imports_no_driver(
    project: Callable[..., Path],
) -> None:
    check = (
        "import sys\n"
        "HEAVY = {'numpy', 'sqlalchemy', 'pymongo', 'chdb', 'pydantic', 'clickhouse_driver'}\n"
        "def test_nothing():\n"
        "    assert HEAVY & set(sys.modules) == set()\n"
    )
    folder = project(test_nothing=check)
    outcome = projects.run_pytest(folder, "-p", "no:hypothesispytest", "-p", "no:randomly")
    assert outcome.counts == {"passed": 1}, outcome.text
