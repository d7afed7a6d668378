"""The models of the stores as `StorageSettings` nests them, and the values set in each place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, SecretStr, create_model, model_serializer

from jts_storage.domain.secret import Secret
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings import clickhouse, database, mongo, redis
from jts_storage.settings.clickhouse import ClickHouseConfig
from jts_storage.settings.database import DatabaseConfig
from jts_storage.settings.fields import (
    STRICT,
    default_of,
    field_names,
    type_hints,
    unknown_field,
)
from jts_storage.settings.mongo import MongoDBConfig
from jts_storage.settings.redis import RedisConfig
from jts_storage.settings.variables import ADDRESSES, StoreValues, naming


class StoreFields(BaseModel):
    """Fields of one store that are set beside its URL; the others are taken from the URL."""

    model_config = ConfigDict(**STRICT, frozen=True)

    _config: ClassVar[type]

    def __reduce__(self) -> tuple[Any, ...]:
        # Its class has no name that pickle finds, and views of mappings are not pickled.
        plain = {n: dict(v) if isinstance(v, Mapping) else v for n, v in self.given.items()}
        return _remade, (self._config, plain)

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, getattr(self, name)) for name in sorted(self.model_fields_set)]

    @property
    def given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set}


@cache
def nested(cls: type) -> type[StoreFields]:
    """The model of a store's configuration that knows which of its fields were set."""
    annotated: dict[str, Any] = {
        f.name: (type_hints(cls)[f.name], default_of(f))
        for f in fields(cls)
        if f.name not in ADDRESSES
    }
    made = create_model(f"{cls.__name__}Fields", __base__=StoreFields, **annotated)
    made._config = cls  # noqa: SLF001
    return made


def _remade(cls: type, given: dict[str, Any]) -> StoreFields:
    return nested(cls)(**given)


class StoreKind(NamedTuple):
    """One of the three stores, or Redis, which there may be beside them.

    :param read: returns the fields of its configuration that a URL names.
    :param said_by: returns the names of the fields that a URL sets.
    :param of_servers: fields that mean nothing for the embedded store.
    """

    config: type
    read: Callable[[str], dict[str, Any]]
    said_by: Callable[[str], set[str]]
    of_servers: frozenset[str]


STORES: Final[Mapping[str, StoreKind]] = {
    "clickhouse": StoreKind(
        ClickHouseConfig,
        clickhouse.read_url,
        lambda url: set(clickhouse.read_url(url)),
        frozenset({"port", "user", "password", "alt_hosts", "secure", "ca_file", "cert_file"}),
    ),
    "mongo": StoreKind(
        MongoDBConfig,
        mongo.read_uri,
        mongo.said_by,
        frozenset({"username", "password", "auth_source", "replica_set", "tls", "tls_ca_file"}),
    ),
    "database": StoreKind(
        DatabaseConfig,
        database.read_url,
        lambda url: set(database.read_url(url)),
        frozenset(),
    ),
    "redis": StoreKind(
        RedisConfig,
        redis.read_url,
        lambda url: set(redis.read_url(url)),
        frozenset(name for name in field_names(RedisConfig) if name != "url"),
    ),
}
OPTIONAL: Final = frozenset({"redis"})
"""What there is none of where no URL is set; the others are embedded then."""


@dataclass(slots=True)
class StoreSettings:
    """The settings of one store, merged from all places.

    :param address: its URL; None for the embedded store.
    :param origin: where the URL stands.
    """

    address: str | None = None
    origin: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: StoreKind, said: StoreValues) -> None:
        """Add a nearer place, which wins: its URL replaces the URL and the fields so far."""
        if said.is_embedded:
            self.address, self.origin, self.fields = None, None, {}
        if said.address is not None:
            with naming(said.origin):
                known = kind.said_by(said.address)
            self.fields = {n: v for n, v in self.fields.items() if n not in known}
            self.address, self.origin = said.address, said.origin
        self.fields |= said.values


def of_keywords(name: str, values: dict[str, Any]) -> StoreValues:
    """Take what ``clickhouse=`` and ``clickhouse_url=`` say out of the keywords.

    ``clickhouse_url=None`` makes the store embedded, whatever is set in farther places.

    :raises InvalidConfiguration: the model has no such field, or the address is given twice.
    """
    own = _given_fields(name, values)
    addresses = {f"{name}.{each}": own.pop(each) for each in ADDRESSES if each in own}
    flat = f"{name}_url"
    is_embedded = flat in values and values[flat] is None and not addresses
    if (url := values.pop(flat, None)) is not None:
        addresses[flat] = url
    if len(addresses) > 1:
        raise InvalidConfiguration(f"the address of {name} is given twice")
    for origin, address in addresses.items():
        return StoreValues(_text(address, name), own, origin=origin)
    return StoreValues(None, own, is_embedded)


def _given_fields(name: str, values: dict[str, Any]) -> dict[str, Any]:
    cls = STORES[name].config
    given = [values.pop(each) for each in (name, f"{name}_fields") if each in values]
    fields: dict[str, Any] = {}
    for each in given:
        if isinstance(each, cls):
            fields |= {n: getattr(each, n) for n in field_names(cls)}
        elif isinstance(each, StoreFields):
            fields |= each.given
        elif isinstance(each, Mapping):
            fields |= each
        elif each is not None:
            raise InvalidConfiguration(
                f"{name} is of {type(each).__name__}: it should be a {cls.__name__} or a mapping of"
                " its fields"
            )
    known = {*field_names(cls), "url"}
    for unknown in fields.keys() - known:
        raise unknown_field(f"{name}.{unknown}", tuple(f"{name}.{each}" for each in sorted(known)))
    return fields


def _text(address: Any, name: str) -> str:
    if isinstance(address, SecretStr | Secret):
        return address.get_secret_value()
    if not isinstance(address, str):
        raise InvalidConfiguration(f"{name}_url is of {type(address).__name__}: it should be a URL")
    return address
