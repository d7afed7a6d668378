"""What a gateway finds under the names that its clients call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import bson
from bson.errors import BSONError

from jts_storage.clickhouse.questions import answer
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain import checks
from jts_storage.domain.data_sets import DataSet, DataSetQuery
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.outcomes import Outcome, unit_id
from jts_storage.domain.subscriptions import Interest, SubscriptionState
from jts_storage.errors import InvalidData, StorageError
from jts_storage.models.conditions import checked
from jts_storage.models.document_repository import DocumentRepository
from jts_storage.models.registry import Models
from jts_storage.models.table_repository import TableQuery
from jts_storage.mongo.stored import CODEC
from jts_storage.ports.events import Subscriptions
from jts_storage.ports.health import Health
from jts_storage.ports.unit_of_work import Repositories
from jts_storage.readable import Readable, Readers
from jts_storage.remote.conditions import read
from jts_storage.remote.declared import document_of, entity_of
from jts_storage.remote.methods import Method
from jts_storage.remote.problems import unfinished
from jts_storage.remote.server.bounds import at_most
from jts_storage.remote.server.finishing import Finishing
from jts_storage.remote.server.schemas import by_field, databases_of, stores_of
from jts_storage.remote.server.stored import StoredCandles
from jts_storage.unit_of_work.delivery import Delivery, Listener
from jts_storage.unit_of_work.subscription import Source
from jts_storage.unit_of_work.unit import UnitOfWork

_OWN: Final = frozenset({"cache", "rate_limits"})
_MORE: Final = (*(name for name in Health.__annotations__ if name not in _OWN), "damaged_commits")
"""What `Health` says of the stores beside the answers; the rest is of the gateway's process."""

_OPERATORS: Final = {
    *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$and", "$or", "$nor", "$not"),
    *("$exists", "$type", "$regex", "$options", "$all", "$elemMatch", "$size", "$mod"),
}
"""What a condition may ask; all else could be code, or cost without an end."""


_PAGE_SECONDS: Final = 20.0
"""How long MongoDB may search for documents. A pattern can be such that each takes it 10 ms, and a
client may wait for as long as it likes."""

_LONGEST_PATTERN: Final = 500


class ServedSubscriptions(Subscriptions, Protocol):
    """Those of the stores, with what clients read of them."""

    def source(self, interest: Interest) -> Source: ...

    async def handled(self, events: Sequence[str]) -> int: ...

    @property
    def keeps_events(self) -> bool:
        """Whether events are stored until handlers have had them."""
        ...

    def delivery_to(self, listener: Listener) -> Delivery:
        """What delivers stored events to the handlers of one client.

        :raises StorageError: none are stored.
        """
        ...


class ServedBackend(Protocol):
    """The stores of this process."""

    @property
    def readable(self) -> Readable: ...
    @property
    def readers(self) -> Readers: ...
    @property
    def models(self) -> Models: ...
    @property
    def subscriptions(self) -> ServedSubscriptions: ...

    async def health(self) -> Health: ...

    async def recover(self) -> int: ...

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork: ...

    async def outcome(self, unit_id: str) -> Outcome: ...


class Served:
    """The ports of a backend, by the names that `methods` has for them."""

    def __init__(self, backend: ServedBackend) -> None:
        self.backend = backend
        storage = _ServedStorage(backend)
        self._own: dict[str, Callable[[], Any]] = {
            "served": lambda: storage,
            "stored_candles": lambda: StoredCandles(backend.readers.candles),
            "stored_tables": lambda: _StoredTables(backend),
            "stored_documents": lambda: _Documents(backend.models, backend.readable.repository),
        }

    async def bound(self, method: Method, arguments: dict[str, Any]) -> Callable[..., Any]:
        """The method itself; the moment of a view is taken out of the arguments."""
        if method.as_of:
            if "view" not in arguments:
                raise InvalidData("is missing", field="view")
            found: Any = await self.backend.readable.as_of(arguments.pop("view"))
        elif method.of in self._own:
            return _method(self._own[method.of](), method.called)
        else:
            found = self.backend.readable
        return _method(_at(found, method.of), method.called)


def in_work(uow: UnitOfWork, models: Models, method: Method) -> Callable[..., Any]:
    """The method of a repository of documents in a unit of work."""
    port: Any = _Documents(models, uow.repository) if method.of == "documents" else None
    return _method(port or _at(uow, method.of), method.called)


def _at(found: Readable | Repositories | Any, path: str) -> Any:
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _method(port: Any, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(port, name)
    return found


class _ServedStorage:
    def __init__(self, backend: ServedBackend) -> None:
        self._backend = backend
        self._finishing = Finishing(backend.recover)

    async def as_of(self, moment: AsOf) -> Commit:
        return (await self._backend.readable.as_of(moment)).commit

    async def data_set(self, *given: Any, **more: Any) -> DataSet:
        return await self._backend.readable.data_set(DataSetQuery(*given, **more))

    async def fingerprint(self, data_set: DataSet) -> str:
        checks.instance(data_set, DataSet, "data_set")
        return await self._backend.readable.fingerprint(data_set)

    async def health(self) -> Mapping[str, Any]:
        found = await self._backend.health()
        return {"answers": dict(found), "more": {name: getattr(found, name) for name in _MORE}}

    async def recover(self) -> int:
        return await self._backend.recover()

    async def outcome(self, id: str, *, of_commit: bool = False) -> Outcome:
        """
        :param of_commit: whether a commit asks, which is done once every store has what it wrote.
        :raises StorageError: not every store has it yet.
        """
        found = await self._backend.outcome(unit_id(id, "id"))
        # Whoever asks lost the answer, perhaps with the gateway that was to finish it.
        if found.is_committed and not await self._finishing.for_a_moment() and of_commit:
            raise unfinished(id)
        return found

    async def unsubscribe(self, name: str) -> bool:
        return await self._backend.subscriptions.unsubscribe(name)

    async def subscriptions(self) -> Sequence[SubscriptionState]:
        return await self._backend.subscriptions.list()

    async def delivered(self, events: Sequence[str]) -> int:
        return await self._backend.subscriptions.handled(checks.several(events, str, "events"))

    async def query(self, statement: str, limit: int) -> tuple[list[str], list[Any]]:
        clickhouse = stores_of(self._backend).clickhouse
        return await clickhouse.run(answer, clickhouse, statement, limit)

    async def check(self, stores: Sequence[str], by_year: bool) -> list[Mapping[str, Any]]:
        from jts_storage import migrate

        found = await migrate.check(databases_of(self._backend, stores, by_year))
        return [by_field(each) for each in found]

    async def migrations(
        self, stores: Sequence[str], by_year: bool, chain: Any
    ) -> list[Mapping[str, Any]]:
        from jts_storage import migrate

        found = await migrate.status(databases_of(self._backend, stores, by_year), chain)
        return [by_field(each) for each in found]


class _StoredTables:
    """Rows of declared tables, and of the symbols, which are one."""

    def __init__(self, backend: ServedBackend) -> None:
        self._backend = backend

    async def read(
        self,
        model: str,
        where: Any,
        columns: Sequence[str] | None,
        descending: bool,
        limit: int | None,
        key: Sequence[Any] | None,
        strict: bool,
    ) -> Any:
        source = self._source(model)
        known = self._model(model).table.c
        for each in checks.several(columns or (), str, "columns"):
            if each not in known:
                raise InvalidData(f"{model} has no such column", field="columns", value=each)
        query = TableQuery(
            self._condition(model, where),
            None if columns is None else tuple(columns),
            checks.instance(descending, bool, "descending"),
            None if limit is None else checks.whole(limit, "limit"),
            None if key is None else tuple(checks.several(key, object, "key")),
            checks.instance(strict, bool, "strict"),
        )
        return await source.read(query)

    async def stream(
        self, model: str, where: Any, strict: bool, block_rows: int
    ) -> AsyncIterator[Any]:
        query = TableQuery(
            self._condition(model, where), strict=checks.instance(strict, bool, "strict")
        )
        checks.whole(block_rows, "block_rows", least=1)
        async for block in self._source(model).stream(query, block_rows):
            yield block

    def _source(self, name: str) -> Any:
        """Where the repository of the model reads."""
        repository: Any
        if name == SYMBOLS.name:
            repository = self._backend.readers.symbols
        else:
            repository = self._backend.readable.repository(_known(self._backend.models, name))
        return repository._source  # noqa: SLF001

    def _model(self, name: str) -> Any:
        checks.text(name, "model")
        return SYMBOLS if name == SYMBOLS.name else self._backend.models.table(name)

    def _condition(self, name: str, where: Any) -> Any:
        model = self._model(name)
        condition = read(where, model.table)
        return None if condition is None else checked(condition, model.schema)


class _Documents:
    """Declared documents as BSON."""

    def __init__(self, models: Models, repository: Callable[[Any], Any]) -> None:
        self._models, self._repository = models, repository

    async def get(self, model: str, identity: str) -> bytes | None:
        known, repository = self._of(model)
        found = await repository.get(identity)
        return None if found is None else document_of(known, found)

    async def page(
        self, model: str, where: bytes, limit: int, after: str | None, strict: bool
    ) -> Sequence[bytes]:
        known, repository = self._of(model)
        condition = _condition_of(where)
        with at_most(_PAGE_SECONDS):
            found = await repository._source.page(  # noqa: SLF001
                condition, limit, after, strict=strict
            )
        return [document_of(known, each) for each in found]

    async def save_many(self, model: str, entities: Sequence[bytes]) -> Sequence[bytes]:
        known, repository = self._of(model)
        saved = await repository.save_many([entity_of(known, each) for each in entities])
        return [document_of(known, each) for each in saved]

    async def delete(self, model: str, identity: str, force: bool) -> bool:
        _, repository = self._of(model)
        found: bool = await repository.delete(identity, force=force)
        return found

    def _of(self, name: str) -> tuple[Any, Any]:
        known = _known(self._models, name)
        repository = self._repository(known)
        assert isinstance(repository, DocumentRepository)
        return known, repository


def _known(models: Models, name: str) -> Any:
    """:raises StorageError: there is no such model."""
    found = next((each for each in models if each.name == name), None)
    if found is None:
        raise StorageError(
            f"This gateway does not know the model {name!r}.",
            remedy="Install the package that declares it where the gateway runs, too.",
        )
    return found


def _condition_of(where: bytes) -> Mapping[str, Any]:
    """:raises InvalidData: it is none, or asks for more than comparisons."""
    try:
        found = bson.decode(where, CODEC)["where"]
    except (BSONError, KeyError, TypeError) as exc:
        raise InvalidData("is no condition", field="where") from exc
    if not isinstance(found, Mapping):
        raise InvalidData("is no condition", field="where")
    _check_operators(found)
    return found


def _check_operators(value: Any) -> None:
    if isinstance(value, bson.Regex):
        _check_pattern(value.pattern)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if name == "$regex":
                _check_pattern(each)
            if str(name).startswith("$") and name not in _OPERATORS:
                raise InvalidData("is not taken from a client", field="where", value=name)
            _check_operators(each)
    elif isinstance(value, list):
        for each in value:
            _check_operators(each)


def _check_pattern(pattern: Any) -> None:
    """:raises InvalidData: it takes long to even read."""
    text = pattern.pattern if isinstance(pattern, bson.Regex) else pattern
    if not isinstance(text, str) or len(text) > _LONGEST_PATTERN:
        raise InvalidData(f"is no pattern of at most {_LONGEST_PATTERN} characters", field="where")
