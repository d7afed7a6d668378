"""Repositories and units of work whose calls are told to an observer.

A proxy knows no method by name: whatever a port has, or gets one day, is observed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from inspect import getattr_static, iscoroutinefunction
from types import FunctionType, TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar, cast

from jts_storage._runtime.steps import listener, watched
from jts_storage.ports.backtests import BacktestRepository
from jts_storage.ports.candles import CandleRepository
from jts_storage.ports.events import EventCollector
from jts_storage.ports.formulas import FormulaRepository
from jts_storage.ports.history import View
from jts_storage.ports.ingestion import IngestionRepository
from jts_storage.ports.models import Model
from jts_storage.ports.observation import Call, Observer, Operation
from jts_storage.ports.strategies import StrategyRepository
from jts_storage.ports.symbols import SymbolRepository
from jts_storage.ports.unit_of_work import UnitOfWork

R = TypeVar("R")
Begin: TypeAlias = Callable[[Call], Operation]

STORES: Final = {
    "candles": "clickhouse",
    "symbols": "clickhouse",
    "formulas": "mongo",
    "strategies": "mongo",
    "backtests": "mongo",
    "snapshots": "mongo",
    "symbol_bars": "database",
    "bars": "database",
    "checkpoints": "database",
}
"""Who answers the calls of each repository, where the stores are this process's."""


class Observation:
    """An observer, and who answers the calls that it hears of.

    :param store: who answers all of them; None where each repository has a store of its own.
    """

    def __init__(self, observer: Observer, store: str | None = None) -> None:
        self._observer, self._store = observer, store
        self._proxies: dict[tuple[type, str], Any] = {}

    def of(self, target: R, repository: str, store: str | None = None) -> R:
        """`target`, with its calls told; for mypy and `isinstance` it is what it was.

        :param store: who answers, of repositories that `STORES` does not name.
        """
        proxy: Any = self._proxies.get((type(target), repository))
        if proxy is None:
            proxy = self._made(type(target), repository, store)
        observed: R = proxy(target)
        return observed

    def _made(self, kind: type, repository: str, store: str | None) -> type[Observed]:
        who = self._store or store or STORES.get(repository, "storage")
        made = _proxy_of(kind, who, repository, self._observer.begin)
        self._proxies[kind, repository] = made
        return made

    def ingestion(self, target: R) -> R:
        return cast(R, ObservedIngestion(target, self))

    def view(self, view: View) -> View:
        return cast(View, ObservedView(view, self))

    async def told(self, repository: str, name: str, work: Callable[[], Awaitable[R]]) -> R:
        """Await a call of the storage itself, or of a use case."""
        call = Call(self._store or "storage", repository, name)
        return await watched(self._observer.begin(call), work())


class Observed:
    """Anything whose methods are calls. `_proxy_of` adds the methods of what it stands for."""

    __slots__ = ("__weakref__", "_target")

    def __init__(self, target: object) -> None:
        self._target = target

    @property  # type: ignore[misc]  # what `isinstance` asks where the type itself does not fit
    def __class__(self) -> type[Any]:
        return type(self._target)

    def __repr__(self) -> str:
        return repr(self._target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def _proxy_of(kind: type, store: str, repository: str, begin: Begin) -> type[Observed]:
    """A class with the public methods of `kind`; all else is asked of the target itself."""
    methods: dict[str, Any] = {"__slots__": ()}
    for name in dir(kind):
        method = getattr_static(kind, name)
        if not name.startswith("_") and isinstance(method, FunctionType):
            is_awaited = iscoroutinefunction(method)
            call = Call(store, repository, name, is_stream=not is_awaited)
            wrap = _awaited if is_awaited else _called
            methods[name] = wraps(method)(wrap(call, method, begin))
    return type(f"Observed{kind.__name__}", (Observed,), methods)


def _awaited(call: Call, method: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    listen, unlisten = listener.set, listener.reset

    # Every call goes through here: it is `watched` without a second coroutine, and looks up
    # nothing that is the same each time.
    async def awaited(self: Observed, *args: Any, **kwargs: Any) -> Any:
        operation = begin(call)
        token = listen(operation)
        try:
            result = await method(self._target, *args, **kwargs)
        except BaseException as error:
            operation.failed(error)  # first: one that is closed elsewhere cannot be reset
            unlisten(token)
            raise
        unlisten(token)
        operation.done(result)
        return result

    return awaited


def _called(call: Call, method: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """A method that may give an asynchronous iterator; what that gives is told."""

    def called(self: Observed, *args: Any, **kwargs: Any) -> Any:
        result = method(self._target, *args, **kwargs)
        if hasattr(result, "__anext__"):
            return _streamed(begin, call, result)
        return result

    return called


async def _streamed(begin: Begin, call: Call, parts: Any) -> AsyncIterator[Any]:
    operation = begin(call)
    try:
        try:
            async for part in parts:
                operation.given(part)
                yield part
        finally:
            if hasattr(parts, "aclose"):
                await parts.aclose()
    except GeneratorExit:  # who reads has read enough
        operation.done(None)
        raise
    except BaseException as error:
        operation.failed(error)
        raise
    operation.done(None)


class ObservedIngestion:
    """The bookkeeping, whose three parts are repositories."""

    def __init__(self, target: Any, observation: Observation) -> None:
        self._target, self._observation = target, observation

    @property
    def symbol_bars(self) -> Any:
        return self._observation.of(self._target.symbol_bars, "symbol_bars")

    @property
    def bars(self) -> Any:
        return self._observation.of(self._target.bars, "bars")

    @property
    def checkpoints(self) -> Any:
        return self._observation.of(self._target.checkpoints, "checkpoints")


class ObservedView:
    """All that was committed up to a moment."""

    def __init__(self, view: View, observation: Observation) -> None:
        self.commit = view.commit
        self.candles = observation.of(view.candles, "candles")
        self.formulas = observation.of(view.formulas, "formulas")
        self.strategies = observation.of(view.strategies, "strategies")


class ObservedUnitOfWork:
    """A unit of work, whose repositories are observed, and its commit with its steps."""

    def __init__(self, work: UnitOfWork, observation: Observation) -> None:
        self._its, self._observation = work, observation

    @property
    def candles(self) -> CandleRepository:
        return self._observation.of(self._its.candles, "candles")

    @property
    def symbols(self) -> SymbolRepository:
        return self._observation.of(self._its.symbols, "symbols")

    @property
    def formulas(self) -> FormulaRepository:
        return self._observation.of(self._its.formulas, "formulas")

    @property
    def strategies(self) -> StrategyRepository:
        return self._observation.of(self._its.strategies, "strategies")

    @property
    def backtests(self) -> BacktestRepository:
        return self._observation.of(self._its.backtests, "backtests")

    @property
    def ingestion(self) -> IngestionRepository:
        return self._observation.ingestion(self._its.ingestion)

    @property
    def events(self) -> EventCollector:
        return self._its.events

    def repository(self, model: Model[R]) -> R:
        target: R = self._its.repository(model)
        return self._observation.of(target, model.name, model.store)

    async def commit(self) -> Any:
        return await self._observation.told("unit_of_work", "commit", self._its.commit)

    async def rollback(self) -> None:
        await self._its.rollback()

    async def __aenter__(self) -> Self:
        await self._observation.told("unit_of_work", "begin", self._its.__aenter__)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._its.__aexit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._its, name)
