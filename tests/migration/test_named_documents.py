"""The command knows the documents that a package registers by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pymongo import ASCENDING, IndexModel

from jts_storage import migrate
from jts_storage.mongo import FormulaDocument, MongoDBManager, ensure_schema

ROOT = Path(__file__).parents[2]


class DeskFormula(FormulaDocument):
    desk: str | None = None

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        by_desk = IndexModel([(cls.path("desk"), ASCENDING)], name="formulas_desk")
        return [*super().indexes(), by_desk]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as an installed package leaves it: a module, and its entry point."""
    source = Path(__file__).read_text()
    definition = source[source.index("class DeskFormula") : source.index("@pytest.fixture")]
    (tmp_path / "desk.py").write_text(
        "from pymongo import ASCENDING, IndexModel\n"
        f"from jts_storage.mongo import FormulaDocument\n{definition}"
    )
    about = tmp_path / "desk-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[jts_storage.documents]\ndesk = desk:DeskFormula\n")
    return tmp_path


def check(manager: MongoDBManager, uri: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *paths])),
        "JTS_MONGO_URL": uri,
        "JTS_MONGO_DATABASE": manager.db.name,
    }
    command = [sys.executable, "-m", "jts_storage.cli.main", "check", "--store", "mongo"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


async def test_check_knows_the_documents_of_installed_packages(
    mongo: MongoDBManager, package: Path
) -> None:
    await migrate.up(migrate.Databases(mongo=mongo))
    mongo.register(DeskFormula)
    await ensure_schema(mongo.db, mongo.models)
    uri = mongo.config.uri
    knowing = check(mongo, uri, package)
    assert knowing.returncode == 0, knowing.stdout + knowing.stderr
    unknowing = check(mongo, uri)
    assert unknowing.returncode == 1
    assert "formulas_desk" in unknowing.stdout
