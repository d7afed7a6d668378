"""Live schemas against the models, and the migrations against both."""

from __future__ import annotations

import asyncio
import json
import tempfile
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

from jts_storage.migrate.base import Migrations
from jts_storage.migrate.declared import create_missing
from jts_storage.migrate.plan import History
from jts_storage.migrate.runner import Databases, Line, lines, opened, up
from jts_storage.ports.schema import DAMAGE, NOTHING, Difference

AGREES: Final = 0
DIFFERS: Final = 1
COULD_NOT_LOOK: Final = 2

_PENDING: Final = "pending"


async def check(databases: Databases) -> list[Difference]:
    """How live schemas differ from the models; nothing when they agree.

    :raises ConnectionFailed: a database could not be looked at.
    """
    jobs: list[Awaitable[list[Difference]]] = [_migrations(each) for each in opened(databases)]
    if databases.clickhouse is not None:
        from jts_storage.clickhouse import broken_parts
        from jts_storage.clickhouse import schema as clickhouse

        manager, by_year = databases.clickhouse, databases.partition_by_year
        models = databases.models.tables if databases.models else []
        jobs.append(
            manager.run(
                lambda: clickhouse.differences(manager, partition_by_year=by_year, models=models)
            )
        )
        jobs.append(manager.run(broken_parts.differences, manager))
    if databases.mongo is not None:
        from jts_storage.mongo import schema as documents
        from jts_storage.mongo.model import with_declared

        mongo = databases.mongo
        declared = databases.models.documents if databases.models else []
        known = with_declared(declared, mongo.models)
        look = partial(documents.differences, mongo.db, known, declared)
        jobs.append(mongo.retries.once("reading schemas", look))
    if databases.database is not None:
        from jts_storage.relational import schema as relational

        records = databases.models.records if databases.models else []
        jobs.append(relational.differences(databases.database, records, databases.told_for))
    found = await asyncio.gather(*jobs, return_exceptions=True)
    results: list[Difference] = []
    for result in found:
        if isinstance(result, BaseException):
            raise result
        results += result
    results = [_mended_by_migrating(each, results) for each in results]
    return sorted(results, key=lambda each: (each.store, each.where, each.what))


def exit_code(found: Sequence[Difference]) -> int:
    """What the command ends with; `COULD_NOT_LOOK` when `check` raised instead."""
    return DIFFERS if found else AGREES


async def check_static(databases: Databases | None = None) -> list[Difference]:
    """How the models differ from what the migrations make of empty scratch databases.

    It needs the embedded engines, and no server; nothing is left behind.

    :param databases: only its folders, `partition_by_year` and the stores that it has are used;
        all of them if None.
    """
    given = databases or Databases()
    async with AsyncExitStack() as stack:
        scratch = await _scratch(stack, given)
        await up(scratch, report=lambda _: None)
        await create_missing(scratch)
        return await check(scratch)


def as_json(found: Sequence[Difference]) -> str:
    """For programs."""
    return json.dumps({"agrees": not found, "differences": [asdict(each) for each in found]})


def as_github(found: Sequence[Difference]) -> str:
    """Annotations that GitHub shows at a run of its workflows."""
    return "\n".join(
        f"::error title={_property(f'{each.store} {each.where}')}::{_message(str(each))}"
        for each in found
    )


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


async def _migrations(each: Migrations) -> list[Difference]:
    history = await each.history()
    found = lines(each.store, each.files, history, each.chain.name)
    return [_as_difference(line, each, history) for line in found if line.state != "applied"]


def _as_difference(line: Line, each: Migrations, history: History) -> Difference:
    chain = each.chain
    where = f"{chain.label} migration {line.revision} {line.title}".strip()
    store = f"--store {line.store}"
    if line.state == "pending":
        mend = f"jts-storage migrate up {store}"
        return Difference(line.store, where, "state", "applied", _PENDING, mend)
    if line.state == "changed":
        # Where the database stands: an earlier number would make the later ones pending again.
        stamp = f"jts-storage migrate stamp {history.current} {store}"
        stamp += f" --chain {chain.name}" if chain.label else ""
        mend = f"undo the edit, or accept it: {stamp}"
        return Difference(line.store, where, "file", "as it was applied", "edited since", mend)
    should = "among the kit's migrations" if chain.name == "kit" else f"in {chain.folder}"
    mend = f"use the version of the {chain.name} that applied it, or a later one"
    return Difference(line.store, where, "file", should, NOTHING, mend)


def _mended_by_migrating(each: Difference, among: Sequence[Difference]) -> Difference:
    """Where migrations are pending, they come before any mending by hand."""
    if each.what == DAMAGE:
        return each
    pending = [other for other in among if other.store == each.store and other.actual == _PENDING]
    return replace(each, remedy=pending[0].remedy) if pending else each


async def _scratch(stack: AsyncExitStack, given: Databases) -> Databases:
    """Empty databases like those given, all three when none is."""
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.local_servers.mongod import LocalMongod
    from jts_storage.mongo.manager import MongoDBManager
    from jts_storage.relational.manager import DatabaseManager

    every = given.clickhouse is None and given.mongo is None and given.database is None
    scratch = replace(given, clickhouse=None, mongo=None, database=None)
    if every or given.clickhouse is not None:
        name = f"scratch_{uuid.uuid4().hex[:12]}"
        config = given.clickhouse.config if given.clickhouse else None
        path = config.embedded_path if config and config.embedded_path else ":memory:"
        fsync = config.fsync if config else True
        clickhouse = ClickHouseManager(embedded_path=path, database=name, fsync=fsync)
        stack.callback(clickhouse.close)
        stack.callback(clickhouse.execute, f"DROP DATABASE IF EXISTS {name}")
        scratch = replace(scratch, clickhouse=clickhouse)
    if every or given.mongo is not None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jts-check-"))
        server = await asyncio.to_thread(LocalMongod.acquire, Path(folder) / "mongo")
        stack.push_async_callback(asyncio.to_thread, server.release)
        mongo = await stack.enter_async_context(MongoDBManager(uri=server.uri))
        scratch = replace(scratch, mongo=mongo)
    if every or given.database is not None:
        database = await stack.enter_async_context(DatabaseManager(":memory:"))
        scratch = replace(scratch, database=database)
        if given.database is not None and not given.database.config.is_sqlite:
            scratch = replace(scratch, told_for="postgresql")
    return scratch
