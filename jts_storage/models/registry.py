"""The models of one storage, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.models.names import local_of
from jts_storage.models.tables import AnyTable, RecordModel, TableModel
from jts_storage.ports.models import Model

R = TypeVar("R")
SourceFactory: TypeAlias = Callable[[Any], Any]
"""Gives what a repository of a model works on."""

ENTRY_POINTS = "jts_storage.models"
"""The group in which a package names its models, or several in a list."""

DOCUMENTS = "jts_storage.documents"
"""The group in which a package names subclasses of the kit's documents, to be registered."""

KITS_OWN = frozenset(
    {
        "applied_commits",
        "backtest_results",
        "backtest_trades",
        "candles",
        "candles_history",
        "checkpoints",
        "formulas",
        "formulas_history",
        "ohlcv_bars",
        "strategies",
        "strategies_history",
        "symbol_bars_aggregates",
        "symbols",
    }
)
_PREFIXES = ("uow_", "jts_", "system.")


class Models:
    """The declared models that a storage knows.

    :raises InvalidConfiguration: a name is taken, or is one of the kit's.
    """

    def __init__(self, models: Iterable[Model[Any]] = ()) -> None:
        self._by_name: dict[str, Model[Any]] = {}
        for model in models:
            self._add(model)

    @classmethod
    def known(cls, models: Iterable[Model[Any]] = ()) -> Models:
        """Those given and those that installed packages name, each once."""
        if not isinstance(models, Iterable):
            raise InvalidConfiguration(
                f"models is {models!r}", remedy="Give a list of them: models=[ticks]."
            )
        given = list(models)
        named = (model for model in _installed() if not any(model is each for each in given))
        return cls([*given, *named])

    def __iter__(self) -> Iterator[Model[Any]]:
        return iter(self._by_name.values())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def tables(self) -> list[TableModel[Any, Any]]:
        return [model for model in self if isinstance(model, TableModel)]

    @property
    def records(self) -> list[RecordModel[Any, Any]]:
        return [model for model in self if isinstance(model, RecordModel)]

    @property
    def documents(self) -> list[Any]:
        """The `DocumentModel`s, of which only MongoDB's room knows more."""
        return [model for model in self if model.store == "mongo"]

    def table(self, name: str) -> AnyTable[Any]:
        """The table model of that name; `name in models` is asked before."""
        model = self._by_name[name]
        assert isinstance(model, AnyTable)
        return model

    def check(self, model: Model[Any]) -> None:
        """:raises StorageError: the storage was opened without this model."""
        known = self._by_name.get(getattr(model, "name", ""))
        if known is not model:
            other = "" if known is None else ", but another declaration of that name"
            raise StorageError(
                f"This storage does not know the model {getattr(model, 'name', model)!r}{other}.",
                remedy="Open it with Storage.open(models=[...]).",
            )

    def repository(self, model: Model[R], *, documents: SourceFactory, tables: SourceFactory) -> R:
        """The repository of a model over what one of these gives for it.

        :raises StorageError: the storage was opened without this model.
        """
        self.check(model)
        source = documents if model.store == "mongo" else tables
        return model.repository(source(model))

    def _add(self, model: Model[Any]) -> None:
        if not callable(getattr(model, "repository", None)):
            raise InvalidConfiguration(
                f"{model!r} is no model",
                remedy="Declare a TableModel, a RecordModel or a DocumentModel.",
            )
        self._check_name(model.name)
        self._check_local(model)
        self._by_name[model.name] = model

    def _check_name(self, name: str) -> None:
        """:raises InvalidConfiguration: it is taken, or differs by capitals alone from one that is.

        SQLite holds both for one table, and a file system may hold both for one file.
        """
        plain = name.casefold()
        if plain in KITS_OWN or plain.startswith(_PREFIXES):
            raise InvalidConfiguration(
                f"the name {name!r} is the kit's own, whatever its capitals",
                remedy="Choose another one.",
            )
        taken = next((each for each in self._by_name if each.casefold() == plain), None)
        if taken == name:
            raise InvalidConfiguration(
                f"two models are called {name!r}",
                remedy="Rename one: names are unique, also those of installed packages.",
            )
        if taken is not None:
            raise InvalidConfiguration(
                f"two models are called {taken!r} and {name!r}, which differ by capitals alone",
                remedy="Rename one: not every store tells such names apart.",
            )

    def _check_local(self, model: Model[Any]) -> None:
        """:raises InvalidConfiguration: on a cluster one of two tables would be the other's."""
        tables = [each for each in (*self, model) if each.store == "clickhouse"]
        names = {each.name for each in tables} | KITS_OWN
        for each in tables:
            whole = local_of(each.name)
            if whole in names:
                raise InvalidConfiguration(
                    f"the name {each.name!r} is that of the rows of {whole} on each server of a"
                    " cluster",
                    remedy="Choose another one.",
                )


def installed_documents() -> list[type[Any]]:
    """The subclasses of documents that installed packages name."""
    return list(_named(DOCUMENTS))


def _installed() -> Iterator[Model[Any]]:
    return _named(ENTRY_POINTS)


def _named(group: str) -> Iterator[Any]:
    for found in _entry_points(_places())[group]:
        named = _loaded(found)
        yield from named if isinstance(named, list | tuple) else [named]


def _places() -> tuple[tuple[str, int], ...]:
    """Where packages are installed, each with when one was last added or removed."""
    return tuple((path, _changed(path)) for path in sys.path)


def _changed(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1)
def _entry_points(_: tuple[tuple[str, int], ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Ours of every package, by group; reading them takes some 10 ms, and each opening asks."""
    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in (ENTRY_POINTS, DOCUMENTS)}


def _loaded(named: EntryPoint) -> Any:
    """What an entry point names.

    :raises InvalidConfiguration: it cannot be imported, whatever another package raises then.
    """
    try:
        return named.load()
    except Exception as failure:
        package = named.dist.name if named.dist else "an installed package"
        raise InvalidConfiguration(
            f"{package} names {named.value!r} in its entry points {named.group}, and that cannot be"
            f" imported: {type(failure).__name__}: {failure}",
            remedy=f"Correct it in the pyproject.toml of {package} and install that again, or"
            " uninstall it.",
        ) from failure
