"""The contract of a declared model: what a service's own table or document must keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from jts_storage.errors import Conflict, StorageError
from jts_storage.ports.models import Model
from jts_storage.storage import Storage


class _Contract:
    """What all kinds of models have in common."""

    model: ClassVar[Any]

    @pytest.fixture(scope="class")
    @classmethod
    def jts_models(cls) -> Iterable[Model[Any]]:
        return [cls.model]

    @pytest.fixture(params=["jts_storage", "jts_memory_storage"])
    def any_storage(self, request: pytest.FixtureRequest) -> Storage:
        """Real stores and the in-memory twin, which keep the same promises."""
        storage: Storage = request.getfixturevalue(request.param)
        return storage

    @property
    def entities(self) -> list[Any]:
        """Examples with keys of their own, in order of their keys."""
        found: dict[Any, Any] = {}
        for example in self.model.examples:
            found.setdefault(self.model.key_of(example), example)
        return [found[key] for key in sorted(found)]

    async def test_what_was_committed_is_read_exactly(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        assert await self.all_of(any_storage) == self.entities

    async def test_nobody_sees_what_is_not_committed(self, any_storage: Storage) -> None:
        async with any_storage.unit_of_work() as uow:
            await self.stage(uow.repository(self.model), self.entities)
            assert await uow.repository(self.model).list() == self.entities
            assert await self.all_of(any_storage) == []
        assert await self.all_of(any_storage) == []

    async def test_a_commit_is_one_with_the_other_stores(self, any_storage: Storage) -> None:
        from jts_storage.testing.factories import make_formula, make_symbol

        async with any_storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("A"))
            await uow.formulas.save(make_formula())
            await self.stage(uow.repository(self.model), self.entities)
            await uow.commit()
        assert await self.all_of(any_storage) == self.entities
        assert len(await any_storage.formulas.list()) == 1

    async def test_a_storage_reads_and_does_not_write(self, any_storage: Storage) -> None:
        with pytest.raises(StorageError, match="unit of work"):
            await self.stage(any_storage.repository(self.model), self.entities)

    async def write(self, storage: Storage, entities: list[Any]) -> None:
        async with storage.unit_of_work() as uow:
            await self.stage(uow.repository(self.model), entities)
            await uow.commit()

    async def stage(self, repository: Any, entities: list[Any]) -> None:
        await repository.save_many(entities)

    async def all_of(self, storage: Storage) -> list[Any]:
        return list(await storage.repository(self.model).list())


class _Rows(_Contract):
    async def test_a_strict_read_is_the_same_where_all_can_be_read(
        self, any_storage: Storage
    ) -> None:
        await self.write(any_storage, self.entities)
        columns = self.model.to_columns(self.entities)
        async with any_storage.unit_of_work() as uow:
            for repository in (any_storage.repository(self.model), uow.repository(self.model)):
                for strict in (False, True):
                    assert (await repository.read(strict=strict)).equals(columns)
                    assert await repository.list(strict=strict) == self.entities
                    blocks = repository.stream(block_rows=1, strict=strict)
                    assert sum([block.num_rows async for block in blocks]) == columns.num_rows


class _Keyed(_Rows):
    async def test_a_key_has_one_row(self, any_storage: Storage) -> None:
        for entity in self.entities:
            await self.write(any_storage, [entity])
        repository = any_storage.repository(self.model)
        for entity in self.entities:
            assert await repository.get(*self.model.key_of(entity)) == entity

    async def test_pages_follow_each_other(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        found: list[Any] = []
        async with any_storage.unit_of_work() as uow:
            repository = uow.repository(self.model)
            after = None
            while page := await repository.list(limit=1, after=after):
                found += page
                after = self.model.key_of(page[-1])
        assert found == self.entities


class _Append(_Rows):
    async def stage(self, repository: Any, entities: list[Any]) -> None:
        await repository.append(entities)

    async def test_whole_columns_go_in_and_out(self, any_storage: Storage) -> None:
        columns = self.model.to_columns(self.entities)
        async with any_storage.unit_of_work() as uow:
            assert await uow.repository(self.model).append(columns) == len(self.entities)
            await uow.commit()
        assert (await any_storage.repository(self.model).read()).equals(columns)

    async def test_each_commit_adds(self, any_storage: Storage) -> None:
        for _ in range(2):
            await self.write(any_storage, self.entities)
        assert len(await self.all_of(any_storage)) == 2 * len(self.entities)


class _Upsert(_Keyed):
    async def test_what_is_deleted_is_gone(self, any_storage: Storage) -> None:
        if not self.model.deletes:
            pytest.skip(f"{self.model.name} has no column is_deleted")
        await self.write(any_storage, self.entities)
        first, *others = self.entities
        key = self.model.key_of(first)
        async with any_storage.unit_of_work() as uow:
            assert await uow.repository(self.model).delete(*key)
            assert await uow.repository(self.model).list() == others
            await uow.commit()
        assert await self.all_of(any_storage) == others
        await self.write(any_storage, [first])
        assert await self.all_of(any_storage) == self.entities


class _Record(_Keyed):
    @property
    def entities(self) -> list[Any]:
        return [self.model.as_saved(entity, 1) for entity in super().entities]

    async def stage(self, repository: Any, entities: list[Any]) -> None:
        await repository.save_many([self.model.as_saved(entity, 0) for entity in entities])

    async def test_the_second_of_two_saves_conflicts(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        first = self.entities[0]
        async with any_storage.unit_of_work() as uow, any_storage.unit_of_work() as other:
            await uow.repository(self.model).save(first)
            await other.repository(self.model).save(first)
            await uow.commit()
            with pytest.raises(Conflict):
                await other.commit()

    async def test_an_old_version_conflicts(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        async with any_storage.unit_of_work() as uow:
            with pytest.raises(Conflict):
                await self.stage(uow.repository(self.model), self.entities)

    async def test_what_is_deleted_is_gone(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        first, *others = self.entities
        async with any_storage.unit_of_work() as uow:
            assert await uow.repository(self.model).delete(*self.model.key_of(first))
            await uow.commit()
        assert await self.all_of(any_storage) == others


class _Document(_Contract):
    @property
    def entities(self) -> list[Any]:
        """New ones: without an id."""
        return [replace(entity, id=None, version=1) for entity in self.model.examples]

    async def test_what_was_committed_is_read_exactly(self, any_storage: Storage) -> None:
        async with any_storage.unit_of_work() as uow:
            saved = await uow.repository(self.model).save_many(self.entities)
            await uow.commit()
        expected = sorted(saved, key=self.model.key_of)
        assert await self.all_of(any_storage) == expected
        repository = any_storage.repository(self.model)
        for entity in expected:
            assert await repository.get(entity.id) == entity
        assert [self._anew(entity) for entity in saved] == self._anews()

    async def test_nobody_sees_what_is_not_committed(self, any_storage: Storage) -> None:
        async with any_storage.unit_of_work() as uow:
            await self.stage(uow.repository(self.model), self.entities)
            assert len(await uow.repository(self.model).list()) == len(self.entities)
            assert await self.all_of(any_storage) == []
        assert await self.all_of(any_storage) == []

    async def test_a_commit_is_one_with_the_other_stores(self, any_storage: Storage) -> None:
        from jts_storage.testing.factories import make_symbol

        async with any_storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("A"))
            await self.stage(uow.repository(self.model), self.entities)
            await uow.commit()
        assert len(await self.all_of(any_storage)) == len(self.entities)
        assert len(await any_storage.symbols.list()) == 1

    async def test_pages_follow_each_other(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        found: list[Any] = []
        repository = any_storage.repository(self.model)
        after = None
        while page := await repository.list(limit=1, after=after):
            found += page
            after = page[-1].id
        assert found == await self.all_of(any_storage)

    async def test_the_second_of_two_saves_conflicts(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        first = (await self.all_of(any_storage))[0]
        await self.write(any_storage, [first])
        async with any_storage.unit_of_work() as uow:
            with pytest.raises(Conflict):
                await uow.repository(self.model).save(first)
        found = await any_storage.repository(self.model).get(first.id)
        assert found.version == first.version + 1

    async def test_what_is_deleted_is_gone(self, any_storage: Storage) -> None:
        await self.write(any_storage, self.entities)
        first, *others = await self.all_of(any_storage)
        async with any_storage.unit_of_work() as uow:
            assert await uow.repository(self.model).delete(first.id)
            assert not await uow.repository(self.model).delete(first.id)
            await uow.commit()
        assert await self.all_of(any_storage) == others

    def _anew(self, entity: Any) -> Any:
        """The entity without what saving gives it."""
        kept = {"id": None, "version": 1, "created_at": None, "updated_at": None}
        return replace(entity, **{k: v for k, v in kept.items() if hasattr(entity, k)})

    def _anews(self) -> list[Any]:
        return [self._anew(entity) for entity in self.entities]


_CONTRACTS: dict[str, type[_Contract]] = {
    "append": _Append,
    "upsert": _Upsert,
    "record": _Record,
    "document": _Document,
}


def model_contract(model: Model[Any]) -> type:
    """The tests of a declared model: ``TestOrders = model_contract(orders)``.

    They run on `jts_storage` and on the in-memory twin.
    """
    kind: Any = model
    contract = _CONTRACTS[kind.mode]
    marked: type = pytest.mark.asyncio(type(f"Test_{kind.name}", (contract,), {"model": model}))
    return marked
