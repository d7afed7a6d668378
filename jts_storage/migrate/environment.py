"""Alembic, run by the kit: its environment, and what it must know of ClickHouse."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command, context
from alembic.config import Config
from alembic.ddl.impl import DefaultImpl
from sqlalchemy import Table

from jts_storage.errors import Conflict
from jts_storage.migrate.alembic_migrations import Scripts
from jts_storage.migrate.clickhouse_tables import version_table
from jts_storage.migrate.plan import Direction
from jts_storage.migrate.running import RUN_OPTION

_turn = threading.Lock()
_PAUSE = 0.01


class ClickHouseImpl(DefaultImpl):
    """Alembic's only wish that ClickHouse cannot guess: an engine for its table."""

    __dialect__ = "clickhouse"
    transactional_ddl = False

    def version_table_impl(self, **options: Any) -> Table:
        cluster = self.context_opts[RUN_OPTION].cluster
        return version_table(cluster, options["version_table"])


@asynccontextmanager
async def turn(patience: float) -> AsyncIterator[None]:
    """Alembic to oneself: what migrations see as `op` is one for the whole process.

    :raises Conflict: somebody else in this process had it for all of `patience` seconds.
    """
    give_up = time.monotonic() + patience
    while not _turn.acquire(blocking=False):
        if time.monotonic() > give_up:
            raise Conflict("Another migration runs in this process.", remedy="Wait for its end.")
        await asyncio.sleep(_PAUSE)
    try:
        yield
    finally:
        _turn.release()


def run() -> None:
    """What ``env.py`` does: configure Alembic as the kit says, and migrate."""
    options = context.config.attributes.get("options")
    if options is None:
        raise SystemExit("These migrations run through `jts-storage migrate`, not `alembic`.")
    context.configure(**options)
    with context.begin_transaction():
        context.run_migrations()


def move(scripts: Scripts, target: str, direction: Direction, options: Mapping[str, Any]) -> None:
    """Apply migrations up or down to `target`, on the connection that `options` hold."""
    config = _config(scripts, options, io.StringIO())
    (command.upgrade if direction == "up" else command.downgrade)(config, target)


def stamp(scripts: Scripts, target: str, options: Mapping[str, Any]) -> None:
    """Say that the database stands at `target`, without doing anything."""
    command.stamp(_config(scripts, options, io.StringIO()), target)


def script(
    scripts: Scripts, start: str, target: str, direction: Direction, options: Mapping[str, Any]
) -> str:
    """The statements that lead from `start` to `target`."""
    output = io.StringIO()
    config = _config(scripts, options, output)
    run_command = command.upgrade if direction == "up" else command.downgrade
    run_command(config, f"{start}:{target}", sql=True)
    return output.getvalue()


def _config(scripts: Scripts, options: Mapping[str, Any], output: io.StringIO) -> Config:
    # Alembic prints what it does; whoever calls the kit did not ask for that.
    config = Config(output_buffer=output, stdout=io.StringIO(), attributes={"options": options})
    config.set_main_option("script_location", _literal(scripts.home))
    config.set_main_option("version_locations", _literal(scripts.versions))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def _literal(path: Path) -> str:
    return str(path).replace("%", "%%")
