"""A check tells statements of the database in use, whichever it looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jts_storage import migrate
from jts_storage.cli.main import app
from jts_storage.models import Models
from jts_storage.relational import DatabaseManager
from jts_storage.relational.schema import differences
from tests.declared import balances


async def test_records_are_told_as_the_named_database_has_them() -> None:
    async with DatabaseManager(":memory:") as manager:
        for told_for, money in (
            (None, "cash BIGINT NOT NULL"),
            ("sqlite", "cash BIGINT NOT NULL"),
            ("postgresql", "cash NUMERIC(18, 4) NOT NULL"),
        ):
            found = await differences(manager, [balances], told_for)  # type: ignore[arg-type]
            (remedy,) = [each.remedy for each in found if each.where == "balances"]
            assert remedy.startswith("CREATE TABLE balances")
            assert money in remedy
        assert "changed_at TIMESTAMP(3) WITH TIME ZONE" in remedy


async def test_so_are_columns_of_records_in_a_static_check(tmp_path: Path) -> None:
    (tmp_path / "relational").mkdir()
    (tmp_path / "relational" / "0001_made.py").write_text(
        'revision = "0001"\ndown_revision = None\nfrom alembic import op\n'
        "def upgrade():\n"
        "    op.execute('CREATE TABLE balances (account TEXT NOT NULL PRIMARY KEY, "
        "version BIGINT NOT NULL)')\n"
        "def downgrade():\n    op.execute('DROP TABLE balances')\n"
    )
    async with DatabaseManager(":memory:") as manager:
        given = migrate.Databases(
            database=manager, models=Models([balances]), service=tmp_path, told_for="postgresql"
        )
        found = {each.where: each.remedy for each in await migrate.check_static(given)}
    assert found["balances.cash"] == "ALTER TABLE balances ADD COLUMN cash NUMERIC(18, 4) NOT NULL"
    assert "TIMESTAMP(3) WITH TIME ZONE" in found["balances.changed_at"]


@pytest.mark.parametrize(
    ("url", "told_for"),
    [("postgresql://h/name", "postgresql"), ("sqlite:///here.db", None), (None, None)],
)
def test_the_command_asks_for_those_of_the_settings(
    url: str | None, told_for: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JTS_DATABASE_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("JTS_DATABASE_URL", url)
    asked: list[Any] = []

    async def look(databases: Any) -> list[Any]:
        asked.append(databases.told_for)
        return []

    monkeypatch.setattr("jts_storage.migrate.check_static", look)
    assert CliRunner().invoke(app, ["check", "--static"]).exit_code == 0
    assert asked == [told_for]
