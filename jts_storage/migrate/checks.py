"""Live schemas against the models, and the migrations against both."""

from __future__ import annotations

import asyncio
import json
import tempfile
import uuid
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

from jts_storage.migrate.base import Migrations
from jts_storage.migrate.declared import create_missing
from jts_storage.migrate.plan import History
from jts_storage.migrate.runner import Databases, Line, lines, opened, up
from jts_storage.ports.schema import NOTHING, UNMIGRATED, Difference

AGREES: Final = 0
DIFFERS: Final = 1

_PENDING: Final = "pending"


async def check(databases: Databases) -> list[Difference]:
    """How live schemas differ from the models; nothing when they agree.

    :raises ConnectionFailed: a database could not be looked at.
    """
    jobs = [*map(_migrations, opened(databases)), *_schemas(databases)]
    found = await asyncio.gather(*jobs, return_exceptions=True)
    results: list[Difference] = []
    for result in found:
        if isinstance(result, BaseException):
            raise result
        results += result
    results = [_mended_by_migrating(each, results) for each in results]
    return sorted(results, key=lambda each: (each.store, each.where, each.what))


def _schemas(databases: Databases) -> Iterator[Awaitable[list[Difference]]]:
    """What looks at each store that is given."""
    models = databases.models
    if databases.clickhouse is not None:
        from jts_storage.clickhouse import broken_parts, surroundings, unreadable
        from jts_storage.clickhouse import schema as clickhouse

        manager, tables = databases.clickhouse, models.tables if models else []
        by_year = databases.partition_by_year
        look = partial(clickhouse.differences, partition_by_year=by_year, models=tables)
        yield manager.run(look, manager)
        yield manager.run(broken_parts.differences, manager)
        yield manager.run(surroundings.differences, manager, tables)
        yield manager.run(unreadable.differences, manager)
    if databases.mongo is not None:
        from jts_storage.mongo import schema as documents
        from jts_storage.mongo.model import with_declared

        mongo = databases.mongo
        declared = models.documents if models else []
        known = with_declared(declared, mongo.models)
        see = partial(documents.differences, mongo.db, known, declared)
        yield mongo.retries.once("reading schemas", see)
    if databases.database is not None:
        from jts_storage.relational import schema as relational

        records = models.records if models else []
        yield relational.differences(databases.database, records, databases.told_for)


def agrees(found: Iterable[Difference]) -> bool:
    """Return whether there are only notes among what a check found."""
    return all(each.is_note for each in found)


def exit_code(found: Sequence[Difference]) -> int:
    """What the command ends with; where `check` raised instead, it is 2 as of any command."""
    return AGREES if agrees(found) else DIFFERS


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
    return json.dumps({"agrees": agrees(found), "differences": [asdict(each) for each in found]})


def as_github(found: Sequence[Difference]) -> str:
    """Annotations that GitHub shows at a run of its workflows."""
    return "\n".join(
        f"::{level} title={_property(f'{each.store} {each.where}')}::{_message(str(each))}"
        for each in found
        for level in ("notice" if each.is_note else "error",)
    )


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


async def _migrations(each: Migrations) -> list[Difference]:
    history = await each.history()
    found = lines(each.store, each.files, history, each.chain.name)
    apart = [_as_difference(line, each, history) for line in found if line.state != "applied"]
    return [*apart, *_unlogged(each, history)]


def _unlogged(each: Migrations, history: History) -> Iterator[Difference]:
    """Migrations of which the log of a database says nothing: an edit of these is not noticed."""
    missing = [
        file.revision
        for file in each.files
        if history.is_applied(file) and file.revision not in history.entries
    ]
    if missing:
        stamp = f"jts-storage migrate stamp {history.current} --store {each.store}"
        stamp += f" --chain {each.chain.name}" if each.chain.label else ""
        yield Difference(
            each.store,
            f"{each.chain.label} migrations".strip(),
            "log",
            "a line for each that is applied",
            f"none for {', '.join(missing)}",
            stamp,
            "It takes the files as they are for those that were applied.",
        )


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
    if each.what in UNMIGRATED:
        return each
    pending = [other for other in among if other.store == each.store and other.actual == _PENDING]
    return replace(each, remedy=pending[0].remedy, warning="") if pending else each


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
        mongo = await stack.enter_async_context(MongoDBManager.over(server))
        scratch = replace(scratch, mongo=mongo)
    if every or given.database is not None:
        database = await stack.enter_async_context(DatabaseManager(":memory:"))
        scratch = replace(scratch, database=database)
        if given.database is not None and not given.database.config.is_sqlite:
            scratch = replace(scratch, told_for="postgresql")
    return scratch
