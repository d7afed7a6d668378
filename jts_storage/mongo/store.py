"""What formulas and strategies share: reading pages, and saving under optimistic locks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from beanie import BulkWriter
from bson import ObjectId
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from jts_storage.domain import checks
from jts_storage.domain.ids import new_document_id
from jts_storage.mongo import queries
from jts_storage.mongo.access import DocumentAccess
from jts_storage.mongo.documents import VersionedDocument
from jts_storage.mongo.errors import duplicate_of_id
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.mappers import read_stored
from jts_storage.mongo.revisions import HISTORIES, Revisions
from jts_storage.mongo.saves import Save, VersionedEntity, marked, not_yet_stored, shown
from jts_storage.mongo.stored import ID
from jts_storage.mongo.transaction import Transaction

V = TypeVar("V", bound=VersionedDocument)
Versioned = TypeVar("Versioned", bound=VersionedEntity)


@dataclass(frozen=True, slots=True)
class DocumentMapper(Generic[V, Versioned]):
    """How entities of a kind become stored documents, and documents entities."""

    kind: type[Versioned]
    to_stored: Callable[[Versioned, type[V]], Bson]
    from_document: Callable[[V], Versioned]


class VersionedStore(DocumentAccess[V], Generic[V, Versioned]):
    """Formulas or strategies: what is saved carries a version that counts up."""

    def __init__(
        self,
        manager: MongoDBManager,
        name: str,
        transaction: Transaction | None,
        mapper: DocumentMapper[V, Versioned],
    ) -> None:
        super().__init__(manager, name, transaction)
        self._mapper: DocumentMapper[V, Versioned] = mapper

    @property
    def kind(self) -> type[Any]:
        """The class of its entities."""
        return self._mapper.kind

    def within(self, transaction: Transaction | None) -> VersionedStore[V, Versioned]:
        """The same documents in a transaction."""
        return VersionedStore(self.manager, self.name, transaction, self._mapper)

    @property
    def state(self) -> Bson:
        """A projection to the fields that a save looks at."""
        return queries.only(self.model, "version", "created_at", "updated_at")

    async def get(self, identity: str) -> Versioned | None:
        wanted = queries.object_id(identity)
        document = None if wanted is None else await self.find_one({ID: wanted})
        return None if document is None else self.read(document)

    async def entities(
        self, where: Mapping[str, Any], limit: int, after: str | None, *, strict: bool = False
    ) -> list[Versioned]:
        return await self.readable(self.pages(where, after), self.read, limit, strict=strict)

    def read(self, stored: Bson) -> Versioned:
        """:raises InvalidData: the document cannot be read."""
        return read_stored(self.model, self._mapper.from_document, stored)

    async def save(self, entity: Versioned) -> Versioned:
        save = self._save(entity, checks.now())
        async with self.writing():
            if save.before is None:
                await self.saving([save.document], {})
                await self._insert(save)
                self._note([save])
                return save.saved
            await self._before([save.identity])
            state = await self._update(save)
            if state is None:
                raise save.conflict(self.name, await self.find_one({ID: save.identity}, self.state))
            if not self._gives_back(save):
                self._note([save])
            await self.saving([save.document], {save.identity: state})
            return save.result(state)

    async def save_many(self, entities: Iterable[Versioned]) -> list[Versioned]:
        saves = self._saves(entities)
        if not saves:
            return []
        async with self.writing():
            updates = [save for save in saves if save.before is not None]
            states = await self.states(save.identity for save in updates)
            self._refuse_stale(saves, states)
            await self.saving([save.document for save in saves], states)
            await self._before(save.identity for save in updates)
            await self.repeat(
                "saving several",
                lambda: self._apply(saves),
                again=lambda: self._apply_rest(saves),
            )
            self._note(saves)
        return [save.result(states.get(save.identity)) for save in saves]

    async def delete(self, identity: ObjectId) -> bool:
        async with self.writing():
            await self._before([identity])
            deleted = await super().delete(identity)
            if deleted and self._revisions is not None:
                self._revisions.deleted(self.name, identity)
        return deleted

    async def saving(
        self, documents: Sequence[Bson], states: Mapping[ObjectId, Mapping[str, Any]]
    ) -> None:
        """What else is written with the documents.

        :param states: what is stored of those that are updated: `state`, or more.
        """

    def needs_state(self, save: Save[Versioned]) -> bool:
        """Return whether an update has to ask what was stored."""
        return not save.says_when_created

    async def states(self, identities: Iterable[ObjectId]) -> dict[ObjectId, Bson]:
        """Return the fields that a save looks at, of what is stored under the ids."""
        return await self._stored(identities, self.state)

    @property
    def _revisions(self) -> Revisions | None:
        """Where to note what changes; None where no history is kept of it."""
        if self.transaction is None or self.name not in HISTORIES:
            return None
        return self.transaction.revisions

    async def _before(self, identities: Iterable[ObjectId]) -> None:
        if self._revisions is not None:
            await self._revisions.before(self.name, identities)

    def _note(self, saves: Sequence[Save[Versioned]]) -> None:
        revisions = self._revisions
        if revisions is None:
            return
        # Of those that follow each other in one batch, the last alone can be read.
        for save in {save.identity: save for save in saves}.values():
            if save.before is None:
                revisions.changed(self.name, save.identity, save.encoded)
            else:
                revisions.updated(self.name, save.identity)

    def _saves(self, entities: Iterable[Versioned]) -> list[Save[Versioned]]:
        moment = checks.now()
        seen: set[str | None] = set()
        saves: list[Save[Versioned]] = []
        for entity in checks.several(entities, self._mapper.kind, self.name):
            save = self._save(entity, moment)
            saves.append(replace(save, follows=True) if entity.id in seen else save)
            seen.add(save.saved.id)
        return saves

    def _save(self, entity: Versioned, moment: datetime) -> Save[Versioned]:
        checks.instance(entity, self._mapper.kind, self._mapper.kind.__name__.lower())
        if entity.id is None:
            identity = new_document_id()
            saved = marked(entity, id=identity, version=1, created_at=moment, updated_at=moment)
            return self._as_document(saved, None, moment)
        version = checks.whole(entity.version + 1, "version")
        saved = marked(entity, version=version, updated_at=moment)
        return self._as_document(saved, entity, moment)

    def _as_document(
        self, saved: Versioned, before: Versioned | None, moment: datetime
    ) -> Save[Versioned]:
        model = self.model
        document = self._mapper.to_stored(saved, model)
        # Entities of services need not know the times of their documents.
        for name in (model.path("created_at"), model.path("updated_at")):
            if document.get(name) is None:
                document[name] = moment
        what = f"{self._mapper.kind.__name__.lower()} {shown(saved)}"
        return Save(model, saved, document, self.encoded(document, what), before)

    async def _insert(self, save: Save[Versioned]) -> None:
        async def insert() -> None:
            await self.insert(save.encoded)

        async def insert_unless_done() -> None:
            try:
                await insert()
            except DuplicateKeyError as exc:
                # The id was made for this save alone: the attempt before had arrived.
                if not duplicate_of_id(exc):
                    raise

        await self.repeat("saving", insert, again=insert_unless_done)

    async def _update(self, save: Save[Versioned]) -> Bson | None:
        """The stored state that a save needs to know; None if what was read is there no more."""
        bound = await self.bound()
        # Beanie's update would give back the whole document, and validate it.
        collection = bound.get_pymongo_collection()

        async def update_and_read() -> Bson | None:
            found: Bson | None = await collection.find_one_and_update(
                save.where, save.change, projection=self.state, session=self.session
            )
            return found

        async def update_only() -> Bson | None:
            # Faster: for what `find_one_and_update` gives back, the server keeps a copy, in case
            # the driver repeats it.
            result = await collection.update_one(save.where, save.change, session=self.session)
            return dict(save.times) if result.matched_count else None

        update = update_and_read if self.needs_state(save) else update_only
        if self._gives_back(save):
            update = partial(self._update_and_keep, save, collection)

        async def update_unless_done() -> Bson | None:
            stored: Bson | None = await collection.find_one({ID: save.identity})
            return stored if save.is_stored(stored) else await update()

        return await self.repeat("saving", update, again=update_unless_done)

    def _gives_back(self, save: Save[Versioned]) -> bool:
        """Return whether an update gives back the document, so that its revision is known."""
        return self._revisions is not None and not self.needs_state(save)

    async def _update_and_keep(self, save: Save[Versioned], collection: Any) -> Bson | None:
        found: RawBSONDocument | None = await collection.with_options(
            codec_options=DEFAULT_RAW_BSON_OPTIONS
        ).find_one_and_update(
            save.where, save.change, return_document=ReturnDocument.AFTER, session=self.session
        )
        if found is None:
            return None
        if self._revisions is not None:
            self._revisions.changed(self.name, save.identity, found)
        return dict(save.times)

    async def _stored(
        self, identities: Iterable[ObjectId], projection: Mapping[str, Any] | None = None
    ) -> dict[ObjectId, Bson]:
        wanted = list(set(identities))
        if not wanted:
            return {}
        found = await self.find({ID: {"$in": wanted}}, limit=len(wanted), projection=projection)
        return {document[ID]: document for document in found}

    def _refuse_stale(
        self, saves: list[Save[Versioned]], states: Mapping[ObjectId, Mapping[str, Any]]
    ) -> None:
        """:raises Conflict: for the first save that could not succeed, in the order given."""
        current = dict(states)
        for save in saves:
            if save.before is None:
                continue
            state = current.get(save.identity)
            if state is None or not save.replaces(state):
                raise save.conflict(self.name, state)
            current[save.identity] = save.document

    async def _apply(self, saves: list[Save[Versioned]]) -> None:
        bound = await self.bound()
        writer = BulkWriter(self.session, object_class=bound)
        for save in saves:
            writer.add_operation(bound, save.request())
        result = await writer.commit()
        if result is None or result.inserted_count + result.matched_count == len(saves):
            return
        # Between the check and the write somebody was faster.
        stored = await self._stored(save.identity for save in saves)
        for save in not_yet_stored(saves, stored):
            raise save.conflict(self.name, stored.get(save.identity))

    async def _apply_rest(self, saves: list[Save[Versioned]]) -> None:
        """Apply what an attempt of unknown outcome left undone."""
        stored = await self._stored(save.identity for save in saves)
        rest = not_yet_stored(saves, stored)
        self._refuse_stale(rest, stored)
        if rest:
            await self._apply(rest)
