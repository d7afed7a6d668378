"""Declared tables and documents behind a gateway, which must know the same models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Generic, TypeVar

import bson
import pyarrow as pa
from bson.errors import BSONError

from jts_storage.domain.ids import new_document_id
from jts_storage.errors import InvalidData
from jts_storage.models.columns import in_blocks
from jts_storage.models.document_repository import Condition
from jts_storage.models.table_repository import TableQuery
from jts_storage.models.tables import AnyTable
from jts_storage.mongo.mappers import read_stored
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.stored import CODEC
from jts_storage.remote import problems
from jts_storage.remote.conditions import written
from jts_storage.remote.connection import Connection
from jts_storage.remote.repositories import (
    RemoteStoredDocuments,
    RemoteStoredTables,
    RemoteWorkDocuments,
)
from jts_storage.remote.table_streams import Progress
from jts_storage.remote.target import Target

E = TypeVar("E")


class RemoteTable:
    """A `StoredTable` of a gateway."""

    def __init__(self, connection: Connection, model: AnyTable[Any]) -> None:
        self._stored = RemoteStoredTables(Target(connection, "StoredTables"))
        self._connection, self._model = connection, model

    async def read(self, query: TableQuery) -> pa.Table:
        found: pa.Table = await self._stored.read(
            self._model.name,
            written(query.where),
            query.columns,
            query.descending,
            query.limit,
            query.key,
            query.strict,
        )
        return found

    async def stream(self, query: TableQuery, block_rows: int) -> AsyncIterator[pa.Table]:
        progress = Progress(self._model, query.where)
        while True:
            asked = self._connection.address
            try:
                async with aclosing(self._blocks(progress, query, block_rows)) as blocks:
                    async for block in blocks:
                        for each in in_blocks(progress.new(block), block_rows):
                            yield each
            except (problems.GatewayAway, problems.GatewaySilent) as exc:
                hangs = isinstance(exc, problems.GatewaySilent)
                if (hangs and self._connection.address == asked) or not progress.goes_on():
                    raise
                await asyncio.sleep(self._connection.config.retry_base_delay)
            else:
                break
        if (rest := progress.rest()) is not None:
            for each in in_blocks(rest, block_rows):
                yield each

    async def _blocks(
        self, progress: Progress, query: TableQuery, block_rows: int
    ) -> AsyncGenerator[pa.Table, None]:
        where = written(progress.where)
        async for block in self._stored.stream(self._model.name, where, query.strict, block_rows):
            yield block


class RemoteDocuments(Generic[E]):
    """A `DocumentSource` of a gateway: documents travel as BSON."""

    def __init__(
        self,
        documents: RemoteStoredDocuments | RemoteWorkDocuments,
        model: DocumentModel[E, Any],
    ) -> None:
        self._documents, self._model = documents, model

    async def get(self, identity: str) -> E | None:
        found = await self._documents.get(self._model.name, identity)
        return None if found is None else entity_of(self._model, found)

    async def page(
        self, where: Condition, limit: int, after: str | None, *, strict: bool
    ) -> Sequence[E]:
        condition = bson.encode({"where": dict(where)}, codec_options=CODEC)
        found = await self._documents.page(self._model.name, condition, limit, after, strict)
        return [entity_of(self._model, each) for each in found]

    async def save_many(self, entities: Sequence[E]) -> Sequence[E]:
        assert isinstance(self._documents, RemoteWorkDocuments)
        given = [document_of(self._model, entity) for entity in entities]
        found = await self._documents.save_many(self._model.name, given)
        return [entity_of(self._model, each) for each in found]

    async def delete(self, identity: str, *, force: bool) -> bool:
        assert isinstance(self._documents, RemoteWorkDocuments)
        return await self._documents.delete(self._model.name, identity, force)


def document_of(model: DocumentModel[E, Any], entity: E) -> bytes:
    """An entity as its document is stored, and whether it has an id already."""
    given: Any = entity
    is_new = given.id is None
    named = replace(given, id=new_document_id()) if is_new else given
    document = model.to_stored(named, model.document)
    return bson.encode({"isNew": is_new, "document": document}, codec_options=CODEC)


def entity_of(model: DocumentModel[E, Any], data: bytes) -> E:
    """The entity of a document.

    :raises InvalidData: it is no document of this model.
    """
    try:
        found = bson.decode(data, CODEC)
        is_new, document = bool(found["isNew"]), found["document"]
    except (BSONError, KeyError) as exc:
        raise InvalidData(f"is no document of {model.name}", field="document") from exc
    entity: Any = read_stored(model.document, model.from_document, document)
    given: E = replace(entity, id=None) if is_new else entity
    return given
