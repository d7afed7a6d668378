"""Both chains of migrations by the command line, the settings, a storage and the fixtures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jts_storage import Storage, StorageSettings
from jts_storage.cli.main import app
from jts_storage.errors import SchemaDrift
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.migrate import files
from jts_storage.settings.storage import named_migrations
from tests.declared import balances, orders, ticks
from tests.migration.conftest import fresh_name
from tests.migration.service import SECOND, Service

_spec = spec_from_file_location(
    "projects", Path(__file__).parents[1] / "integration" / "plugin" / "projects.py"
)
assert _spec is not None
assert _spec.loader is not None
projects = module_from_spec(_spec)
sys.modules["projects"] = projects
_spec.loader.exec_module(projects)

FIXTURES = """
import pytest
from jts_storage import migrate
from tests.declared import balances, orders, ticks

@pytest.fixture(scope="session")
def jts_models():
    return [ticks, balances, orders]

def test_the_stores_are_those_of_the_service(jts_sync_storage):
    log = "SELECT revision FROM jts_schema_log_service ORDER BY id"
    rows = jts_sync_storage.clickhouse.execute(log)
    assert rows == [("0001",), ("0002",)]
    columns = jts_sync_storage.clickhouse.execute("DESCRIBE TABLE ticks")
    assert "venue" in {column[0] for column in columns}

async def test_each_of_them(jts_storage, jts_settings):
    databases = migrate.Databases(
        jts_storage.clickhouse, jts_storage.mongo, jts_storage.database,
        service=jts_settings.migrations,
    )
    assert {line.chain for line in await migrate.status(databases)} == {"kit", "service"}
    assert await migrate.up(databases) == []
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("JTS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [*arguments, "--store", "relational"])
    assert done.exit_code == code, f"{arguments}: {done.output}"
    return done


def as_json(*arguments: str) -> Any:
    return json.loads(invoke(*arguments, "--json").stdout)


@pytest.mark.parametrize("by", ["option", "variable", "file"])
def test_one_command_leads_both(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    where = ["--folder", str(service.folder)] if by == "option" else []
    if by == "variable":
        monkeypatch.setenv("JTS_MIGRATIONS", service.folder.name)
    if by == "file":
        (tmp_path / ".env").write_text(f"JTS_MIGRATIONS={service.folder.name}\n")
    plan = invoke("migrate", "up", "--dry-run", *where).stdout.splitlines()
    assert plan == [
        "plan: relational kit up 0001 bookkeeping",
        "plan: relational kit up 0002 applied commits",
        "plan: relational service up 0001 made",
    ]
    steps = as_json("migrate", "up", *where)["steps"]
    assert [(step["chain"], step["revision"]) for step in steps] == [
        ("kit", "0001"),
        ("kit", "0002"),
        ("service", "0001"),
    ]
    listed = as_json("migrate", "status", *where)
    assert [(line["chain"], line["state"]) for line in listed] == [
        ("kit", "applied"),
        ("kit", "applied"),
        ("service", "applied"),
    ]
    assert as_json("check", *where) == {"agrees": True, "differences": []}


def test_each_command_takes_one_chain(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.grow()
    monkeypatch.setenv("JTS_MIGRATIONS", str(service.folder))
    for command in (["up", "--to", "1"], ["down", "--yes", "--to", "1"], ["stamp", "1"]):
        refused = invoke("migrate", *command, code=2)
        assert "Say which: --chain kit or --chain service." in refused.stderr
    script = invoke("migrate", "sql").stdout
    assert script.index("-- relational kit") < script.index("-- relational service")
    assert "CREATE TABLE balances" not in invoke("migrate", "sql", "--chain", "kit").stdout
    early = invoke("migrate", "up", "--chain", "service", code=2)
    assert "the kit's migrations come first" in early.stderr

    invoke("migrate", "up", "--chain", "kit")
    one = as_json("migrate", "up", "--chain", "service", "--to", "1")
    assert [(step["chain"], step["revision"]) for step in one["steps"]] == [("service", "0001")]
    told = invoke("migrate", "status", "--chain", "service").stdout
    assert [line.split()[1:5] for line in told.splitlines()] == [
        ["chain", "number", "phase", "state"],
        ["service", "0001", "pre", "applied"],
        ["service", "0002", "pre", "pending"],
    ]
    pending = invoke("check", code=1).stdout
    assert "relational service migration 0002 grown: state should be applied" in pending

    stamped = as_json("migrate", "stamp", "2", "--chain", "service")
    assert stamped == {"revision": "2", "stores": ["relational"], "chains": ["service"]}
    stamped = as_json("migrate", "stamp", "head")
    assert stamped == {"revision": "head", "stores": ["relational"], "chains": ["kit", "service"]}
    assert invoke("migrate", "stamp", "1", "--chain", "service").stdout == (
        "Stamped as 1: relational service.\n"
    )
    invoke("migrate", "up")
    back = as_json("migrate", "down", "--yes")
    assert [(step["chain"], step["revision"]) for step in back["steps"]] == [("service", "0002")]
    back = as_json("migrate", "down", "--yes", "--chain", "kit", "--to", "1")
    assert [(step["chain"], step["revision"]) for step in back["steps"]] == [("kit", "0002")]


def test_new_files_go_to_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JTS_MIGRATIONS", "own")
    missing = invoke("migrate", "up", code=2)
    assert f"{tmp_path / 'own'}, which should hold the service's migrations" in missing.stderr
    for store in files.STORES:
        for number, title in ((1, "make it"), (2, "add venue")):
            arguments = ["migrate", "new", title, "--store", store, "--json"]
            made = CliRunner().invoke(app, arguments)
            assert made.exit_code == 0, made.output
            path = Path(json.loads(made.stdout)["path"])
            assert path == tmp_path / "own" / store / f"{number:04}_{title.replace(' ', '_')}.py"
            compile(path.read_text(), str(path), "exec")
    assert 'down_revision = "0001"' in Path("own/clickhouse/0002_add_venue.py").read_text()
    assert len(as_json("migrate", "up", "--dry-run")["steps"]) == 4


def test_an_installed_kit_takes_no_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    import jts_storage

    beside = Path(jts_storage.__file__).parent
    monkeypatch.setattr("jts_storage.migrate.writing.root", lambda: beside / "migrations")
    refused = invoke("migrate", "new", "ours", code=2)
    assert "Name one in JTS_MIGRATIONS or --folder." in refused.stderr


def test_a_failure_is_one_sentence_with_the_file(service: Service) -> None:
    path = service.fail("relational")
    failed = invoke("migrate", "up", "--folder", str(service.folder), code=2)
    assert f"Migration failed: relational service up 0002 fails ({path})" in failed.stderr
    assert "RuntimeError: half done" in failed.stderr


def test_down_shows_its_plan_and_then_asks(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JTS_MIGRATIONS", str(service.folder))
    down = ["migrate", "down", "--store", "relational"]
    nothing = CliRunner().invoke(app, down, input="")
    assert (nothing.exit_code, nothing.output) == (0, "Nothing to do.\n")
    invoke("migrate", "up")
    refused = CliRunner().invoke(app, down, input="n\n")
    assert refused.exit_code == 1
    plan = "plan: relational service down 0001 made\n"
    assert refused.output.startswith(f"{plan}Take them back? [y/N]: ")
    asked = CliRunner().invoke(app, [*down, "--json"], input="n\n")
    assert asked.exit_code == 1
    assert "plan" not in asked.stdout, "that is for JSON alone"
    assert asked.stderr.startswith(f"{plan}Take them back? [y/N]:")
    assert as_json("migrate", "down", "--dry-run")["done"] is False
    taken = CliRunner().invoke(app, down, input="y\n")
    assert taken.exit_code == 0, taken.output
    assert taken.stdout.startswith(plan)
    assert as_json("migrate", "status", "--chain", "service")[0]["state"] == "pending"


def test_a_file_that_is_not_filled_in_is_refused(service: Service) -> None:
    folder = ["--folder", str(service.folder)]
    path = invoke("migrate", "new", "add a venue", *folder).stdout.strip()
    for command in (["migrate", "up"], ["migrate", "sql"]):
        refused = invoke(*command, *folder, code=2)
        assert refused.stderr.splitlines()[-1] == (
            f"Error: Migration failed: relational service up 0002 add a venue ({path}):"
            ' NotImplementedError: Write what "add a venue" changes.'
            " Mend 0002_add_a_venue.py and run the command again."
        )


def test_the_static_check_knows_the_service(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JTS_MIGRATIONS", str(service.folder))
    asked: list[Any] = []

    async def look(databases: Any) -> list[Any]:
        asked.append(databases.service)
        return []

    monkeypatch.setattr("jts_storage.migrate.check_static", look)
    assert CliRunner().invoke(app, ["check", "--static"]).exit_code == 0
    assert asked == [service.folder]


def test_the_setting_alone_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named_migrations() is None
    monkeypatch.setenv("JTS_CLICKHOUSE_PORT", "9000")  # of a server, and there is none
    (tmp_path / ".env").write_text("JTS_MIGRATIONS=farther\n")
    assert named_migrations() == Path("farther")
    monkeypatch.setenv("JTS_MIGRATIONS", "nearer")
    assert named_migrations() == Path("nearer")
    monkeypatch.delenv("JTS_CLICKHOUSE_PORT")
    assert StorageSettings().migrations == Path("nearer")
    assert StorageSettings(migrations="nearest").migrations == Path("nearest")


async def test_opening_an_embedded_storage_migrates_both(
    service: Service, mongod: LocalMongod, tmp_path: Path
) -> None:
    settings = StorageSettings(
        data_dir=tmp_path / "data",
        mongo_url=mongod.uri,
        mongo_database=fresh_name("opened"),
        migrate=True,
        migrations=service.folder,
    )
    models: list[Any] = [ticks, balances, orders]
    async with Storage.open(settings, models=models, check="error") as storage:
        log = "SELECT revision FROM jts_schema_log_service"
        assert storage.clickhouse.execute(log) == [("0001",)]
    service.write("clickhouse", "0002_grown.py", SECOND["clickhouse"])
    unmigrated = settings.model_copy(update={"migrate": False})
    with pytest.raises(SchemaDrift, match="service migration 0002 grown"):
        await Storage.open(unmigrated, models=models, check="error").open_stores()


@pytest.mark.slow
def test_the_fixtures_migrate_both(
    service: Service, tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    service.grow()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pytest.ini").write_text(f"{projects.INI}asyncio_mode = auto\n")
    (folder / "test_stores.py").write_text(FIXTURES)
    root = Path(__file__).parents[2]
    environment = {"JTS_MIGRATIONS": str(service.folder), "PYTHONPATH": str(root)}
    outcome = projects.run_pytest(
        folder, "--jts-backend=embedded", "-p", "no:randomly", environment=environment
    )
    assert outcome.counts == {"passed": 2}, outcome.text
    engine_used("chDB")


def test_the_folder_is_the_services_where_every_store_is_embedded(service: Service) -> None:
    arguments = ["migrate", "up", "--dry-run", "--json", "--folder", str(service.folder)]
    planned = CliRunner().invoke(app, arguments)
    assert planned.exit_code == 0, planned.output
    steps = json.loads(planned.stdout)["steps"]
    own = [step["store"] for step in steps if step["chain"] == "service"]
    assert own == list(files.STORES)
