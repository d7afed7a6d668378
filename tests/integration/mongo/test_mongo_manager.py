"""The manager, its schema and document classes, on a real mongod."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern

from jts_storage.domain.formula import Formula
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import Conflict, ConnectionFailed, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import (
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    collection_schemas,
    ensure_schema,
)
from jts_storage.mongo.mappers import formula_to_stored
from jts_storage.mongo.transaction import Transaction
from jts_storage.remote.server.bounds import at_most


def formula(name: str) -> Formula:
    return Formula(name=name, expression="close > open")


def test_it_works_on_one_event_loop_after_another(mongod: LocalMongod) -> None:
    manager = MongoDBManager(uri=mongod.uri, database="loops")

    async def use() -> int:
        async with manager:
            collection = manager.get_collection("things")
            await collection.insert_one({})
            assert manager.get_collection("things") is collection
            assert manager.db.name == "loops"
            assert await manager.health_check()
            return await collection.count_documents({})

    assert [asyncio.run(use()) for _ in range(3)] == [1, 2, 3]


def test_it_works_on_two_event_loops_at_once(mongod: LocalMongod) -> None:
    manager = MongoDBManager(uri=mongod.uri, database="loops")
    barrier = threading.Barrier(2, timeout=20)
    answers: list[bool] = []

    async def use() -> None:
        async with manager:
            assert await manager.health_check()
            await asyncio.to_thread(barrier.wait)
            answers.append(await manager.health_check())

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [True, True]


async def test_it_opens_again_after_closing(mongod: LocalMongod) -> None:
    manager = MongoDBManager(uri=mongod.uri)
    await manager.close()
    client = manager.client
    await manager.close()
    await manager.close()
    assert manager.client is not client
    await manager.close()


def test_outside_of_an_event_loop_it_says_so() -> None:
    with pytest.raises(StorageError, match="outside of an event loop"):
        _ = MongoDBManager().db


async def test_the_schema_is_made_twice_without_harm(mongod: LocalMongod) -> None:
    async with MongoDBManager(uri=mongod.uri, database="schema") as manager:
        await ensure_schema(manager.db)
        await ensure_schema(manager.db)
        for schema in collection_schemas():
            options = await manager.get_collection(schema.name).options()
            assert options.get("validator") == schema.validator
            names = await manager.get_collection(schema.name).index_information()
            assert names.keys() == {"_id_", *(each.document["name"] for each in schema.indexes)}
        await manager.client.drop_database("schema")


async def test_binding_documents_creates_no_index_and_no_collection(mongod: LocalMongod) -> None:
    async with MongoDBManager(uri=mongod.uri, database="untouched") as manager:
        documents = await manager.documents()
        assert await manager.documents() is documents
        assert await documents.formulas.find_all().to_list() == []
        assert await manager.db.list_collection_names() == []


async def test_an_index_of_somebody_else_survives_the_start(manager: MongoDBManager) -> None:
    raw = manager.get_collection("formulas")
    await raw.create_index("owner", name="theirs")
    before = await raw.index_information()
    await manager.documents()
    assert await raw.index_information() == before
    await raw.drop_index("theirs")


async def test_beanie_documents_read_what_the_repository_wrote_and_the_other_way_round(
    manager: MongoDBManager,
) -> None:
    documents = await manager.documents()
    repository = MongoDBFormulaRepository(manager)
    saved = await repository.save(formula("from the repository"))
    found = await documents.formulas.get(saved.id)
    assert found.name == saved.name and found.updated_at == saved.updated_at
    theirs = documents.formulas(
        name="from beanie", expression="e", category="exit", updated_at=saved.updated_at
    )
    await theirs.insert()
    raw = await manager.get_collection("formulas").find_one({"_id": theirs.id})
    assert raw is not None and raw["updatedAt"] == saved.updated_at and raw["category"] == "exit"
    ours = await repository.get_by_id(str(theirs.id))
    assert ours is not None and ours.name == "from beanie"
    strategy = await MongoDBStrategyRepository(manager).save(
        Strategy(name="s", entry_formula_id=saved.id)
    )
    entry = await documents.strategies.find_one({"entryFormulaId": ObjectId(saved.id)})
    assert str(entry.id) == strategy.id and entry.risk_config.position_size_pct == 10.0


async def test_two_databases_live_in_one_process(mongod: LocalMongod) -> None:
    async with (
        MongoDBManager(uri=mongod.uri, database="one") as one,
        MongoDBManager(uri=mongod.uri, database="two") as two,
    ):
        first, second = await one.documents(), await two.documents()
        assert first.formulas is not second.formulas
        saved = await MongoDBFormulaRepository(one).save(formula("one"))
        await second.formulas(name="two", expression="e", category="scan").insert()
        assert [each.name for each in await first.formulas.find_all().to_list()] == ["one"]
        assert [each.name for each in await second.formulas.find_all().to_list()] == ["two"]
        assert await MongoDBFormulaRepository(two).get_by_id(str(saved.id)) is None
        await one.client.drop_database("one")
        await two.client.drop_database("two")


async def test_motor_and_the_kit_read_what_the_other_wrote(mongod: LocalMongod) -> None:
    uri = mongod.uri.replace("/?", "/motor_db?") + "&maxPoolSize=7&w=1"
    motor: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        uri, uuidRepresentation="standard"
    )
    try:
        manager = MongoDBManager.from_motor(motor)
        assert manager.hosts == (f"127.0.0.1:{mongod.port}",)
        async with manager:
            repository = MongoDBFormulaRepository(manager)
            options = manager.client.options
            assert options.pool_options.max_pool_size == 7
            assert options.write_concern.document == {"w": "majority", "j": True}
            assert options.read_concern.level == "majority"
            saved = await repository.save(formula("by the kit"))
            found = await motor["motor_db"]["formulas"].find_one({"_id": ObjectId(saved.id)})
            assert found is not None and found["name"] == "by the kit"

            theirs = formula_to_stored(
                Formula(id="b" * 24, name="by motor", expression="e", tags=("x",))
            )
            # By one member alone it would be read a moment later only.
            written = motor["motor_db"]["formulas"].with_options(
                write_concern=WriteConcern("majority")
            )
            await written.insert_one(theirs)
            ours = await repository.get_by_tag("x")
            assert [each.name for each in ours] == ["by motor"]
        assert await motor.admin.command("ping"), "closing the manager must leave Motor's client"
        await motor.drop_database("motor_db")
    finally:
        motor.close()


# Transactions


async def test_a_session_makes_every_operation_part_of_its_transaction(
    manager: MongoDBManager,
) -> None:
    outside = MongoDBFormulaRepository(manager)
    async with manager.client.start_session() as session:
        await session.start_transaction()
        inside = MongoDBFormulaRepository(manager, Transaction(session))
        saved = await inside.save(formula("inside"))
        await inside.save_many([formula("more")])
        assert len(await inside.list()) == 2
        assert [each.name for each in await inside.search("ins")] == ["inside"]
        assert await outside.get_by_id(str(saved.id)) is None
        await session.abort_transaction()
    assert await outside.list() == []


async def test_two_transactions_on_one_document_are_a_conflict(manager: MongoDBManager) -> None:
    saved = await MongoDBFormulaRepository(manager).save(formula("contended"))
    async with manager.client.start_session() as first, manager.client.start_session() as second:
        await first.start_transaction()
        await second.start_transaction()
        await MongoDBFormulaRepository(manager, Transaction(first)).save(saved)
        with pytest.raises(Conflict) as caught:
            await MongoDBFormulaRepository(manager, Transaction(second)).save(saved)
        assert caught.value.code == 112
        assert caught.value.__cause__ is not None
        await first.commit_transaction()
    stored = await MongoDBFormulaRepository(manager).get_by_id(str(saved.id))
    assert stored is not None and stored.version == 2


async def test_no_server_is_told_with_hosts_and_without_password() -> None:
    manager = MongoDBManager(
        uri="mongodb://user:s3cr3t@127.0.0.1:1,127.0.0.1:2/?replicaSet=rs",
        server_selection_timeout=0.2,
    )
    async with manager:
        with pytest.raises(ConnectionFailed, match="MongoDB connection failed") as caught:
            await MongoDBFormulaRepository(manager).list()
        assert caught.value.hosts == ("127.0.0.1:1", "127.0.0.1:2")
        assert "127.0.0.1:2" in str(caught.value)
        assert "s3cr3t" not in str(caught.value)
        with pytest.raises(ConnectionFailed, match="MongoDB connection failed"):
            await manager.ping()


async def test_a_wrong_tls_file_is_a_configuration_error(tmp_path: Any) -> None:
    from jts_storage.errors import InvalidConfiguration

    pem = tmp_path / "ca.pem"
    pem.write_text("no certificate")
    manager = MongoDBManager(uri="mongodb://h", tls=True, tls_ca_file=str(pem))
    with pytest.raises(InvalidConfiguration, match="TLS"):
        _ = manager.client


async def test_the_server_stops_what_takes_longer(manager: MongoDBManager) -> None:
    slow = manager.get_collection("slow")
    await slow.insert_many([{"text": "a" * 28 + "!"} for _ in range(100)])
    find = manager.retries.repeat
    try:
        with pytest.raises(StorageError, match=r"took longer than 0\.1 s"), at_most(0.1):
            # About 10 ms for each document: all ways to group the letters are tried.
            await find("searching", lambda: slow.find({"text": {"$regex": "^(a+)+$"}}).to_list())
    finally:
        await slow.drop()
