"""What a service has applied keeps the kit's migrations below it from being taken back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jts_storage import migrate
from jts_storage.errors import InvalidConfiguration
from jts_storage.relational import DatabaseManager

UP = '''"""{title}"""
revision = "0001"
down_revision = None


def upgrade():
    from alembic import op

    op.execute("CREATE TABLE service_table (n INTEGER)")


def downgrade():
    from alembic import op

    op.execute("DROP TABLE service_table")
'''


async def test_down_without_the_folder_leaves_the_kits_migrations(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    async with DatabaseManager(f"sqlite:///{tmp_path / 'kept.db'}") as database:
        given = migrate.Databases(database=database, service=folder)
        folder.mkdir()
        path = migrate.new("relational", "service table", folder=folder)
        path.write_text(UP.format(title="service table"))
        await migrate.up(given)
        for without in (replace(given, service=None), replace(given, service=_empty(tmp_path))):
            with pytest.raises(InvalidConfiguration, match="migrations of a service up to 0001"):
                await migrate.down(without)
        (folder / "relational" / "versions").mkdir(exist_ok=True)  # a stray folder hides nothing
        assert [step.migration.chain.name for step in await migrate.down(given)] == ["service"]
        assert [s.migration.chain.name for s in await migrate.down(replace(given, service=None))]


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir(exist_ok=True)
    return folder
