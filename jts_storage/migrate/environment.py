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
from clickhouse_sqlalchemy import engines, types
from sqlalchemy import Column, MetaData, Table, text

from jts_storage.errors import Conflict
from jts_storage.migrate.plan import Direction

VERSION_TABLE = "jts_schema_version"
CLUSTER_OPTION = "jts_cluster"

_turn = threading.Lock()
_PAUSE = 0.01

_REPLICA_PATH = "'/clickhouse/tables/{database}/{table}'"
_REPLICA = "'{shard}-{replica}'"


class ReplicatedEverywhere(engines.MergeTree):  # type: ignore[misc]
    """A MergeTree of which every host of a cluster has the same rows, whatever its shard."""

    name = "ReplicatedMergeTree"

    def get_parameters(self) -> list[Any]:
        return [_REPLICA_PATH, _REPLICA]


class ClickHouseImpl(DefaultImpl):
    """Alembic's only wish that ClickHouse cannot guess: an engine for its table."""

    __dialect__ = "clickhouse"
    transactional_ddl = False

    def version_table_impl(
        self,
        *,
        version_table: str,
        version_table_schema: str | None,
        version_table_pk: bool,
        **kw: Any,
    ) -> Table:
        cluster = self.context_opts.get(CLUSTER_OPTION)
        kind = ReplicatedEverywhere if cluster else engines.MergeTree
        options = {"clickhouse_cluster": cluster} if cluster else {}
        return Table(
            version_table,
            MetaData(),
            Column("version_num", types.String, nullable=False),
            kind(order_by=text("tuple()")),
            schema=version_table_schema,
            **options,
        )


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
    context.configure(version_table=VERSION_TABLE, **options)
    with context.begin_transaction():
        context.run_migrations()


def move(folder: Path, target: str, direction: Direction, options: Mapping[str, Any]) -> None:
    """Apply migrations up or down to `target`, on the connection that `options` hold."""
    config = _config(folder, options, io.StringIO())
    (command.upgrade if direction == "up" else command.downgrade)(config, target)


def stamp(folder: Path, target: str, options: Mapping[str, Any]) -> None:
    """Say that the database stands at `target`, without doing anything."""
    command.stamp(_config(folder, options, io.StringIO()), target)


def script(
    folder: Path, start: str, target: str, direction: Direction, options: Mapping[str, Any]
) -> str:
    """The statements that lead from `start` to `target`."""
    output = io.StringIO()
    config = _config(folder, options, output)
    run_command = command.upgrade if direction == "up" else command.downgrade
    run_command(config, f"{start}:{target}", sql=True)
    return output.getvalue()


def _config(folder: Path, options: Mapping[str, Any], output: io.StringIO) -> Config:
    # Alembic prints what it does; whoever calls the kit did not ask for that.
    config = Config(output_buffer=output, stdout=io.StringIO(), attributes={"options": options})
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config
