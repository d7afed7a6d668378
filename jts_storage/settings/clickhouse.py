"""Where ClickHouse is and how to talk to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, fields, replace
from functools import partial
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from pydantic.dataclasses import dataclass

from jts_storage.domain.secret import plain
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import (
    STRICT,
    Overflow,
    Password,
    Pause,
    PemFile,
    PoolSize,
    Port,
    RetryCount,
    RetryPolicy,
    Seconds,
    Text,
    check_tls_files,
    configuration,
    default_of,
    did_you_mean,
    field_names,
    is_text,
    must_be,
    named,
)
from jts_storage.settings.urls import ENCODE, Parts, joined, split, take_fields
from jts_storage.settings.variables import of_variables

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MEMORY: Final = ":memory:"
TCP_DRIVER: Final = "clickhouse+jts"
EMBEDDED_DRIVER: Final = "clickhouse+embedded"
_TCP_SCHEMES: Final = frozenset({"clickhouse", "clickhouses", TCP_DRIVER, "clickhouse+native"})
_SCHEMES: Final = "Use clickhouse://, clickhouses:// or clickhouse+embedded:///."
_SETTING: Final = "setting."

_OFF: Final = frozenset({"0", "false"})
_ON_ONE_HOST: Final = (
    "an insert is acknowledged when one host has noted it, before its shard has it"
)
_ACKNOWLEDGES_TOO_EARLY: Final[Mapping[str, str]] = {
    "wait_for_async_insert": "an insert is acknowledged while it is in memory only",
    "distributed_foreground_insert": _ON_ONE_HOST,
    "insert_distributed_sync": _ON_ONE_HOST,
}
"""Settings that must not be off, and what would happen then."""
_LEAVES_OUT: Final = "skip_unavailable_shards"


def _split_port(host: str) -> tuple[str, str | None]:
    if host.startswith("["):
        name, _, rest = host.partition("]")
        return name[1:], rest[1:] if rest.startswith(":") else None
    name, colon, port = host.rpartition(":")
    return (name, port) if colon else (host, None)


def _is_host(value: str) -> bool:
    is_address = value.count(":") != 1  # one of IPv6 has several, and a port belongs elsewhere
    return is_text(value) and is_address and not set(value) & set(" /@?#,\\\t\n")


def _is_other_host(value: str) -> bool:
    name, port = _split_port(value)
    is_port = port is None or (port.isdigit() and 1 <= int(port) <= 65535)
    return is_text(value) and _is_host(name) and name != "" and is_port


def _checked_settings(values: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, why in _ACKNOWLEDGES_TOO_EARLY.items():
        if str(values.get(name)).lower() in _OFF:
            raise InvalidConfiguration(
                f"settings has {name}={values[name]!r}: {why}", remedy=f"Leave {name} out."
            )
    if str(values.get(_LEAVES_OUT, 0)).lower() not in _OFF:
        raise InvalidConfiguration(
            f"settings has {_LEAVES_OUT}={values[_LEAVES_OUT]!r}: while a shard is away, reads"
            " would give the rows of the others as if they were all",
            remedy=f"Leave {_LEAVES_OUT} out.",
        )
    if not all(map(is_text, values)):
        raise ValueError("should be a mapping by name")
    return MappingProxyType(dict(values))


Host = Annotated[str, must_be(_is_host, "the name or address of one host")]
OtherHosts = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    must_be(lambda value: all(map(_is_other_host, value)), 'a tuple of "name" or "name:port"'),
]
Settings = Annotated[
    Mapping[str, Any],
    BeforeValidator(lambda value: dict(value) if isinstance(value, Mapping) else value),
    AfterValidator(_checked_settings),
    PlainSerializer(dict),
]


@configuration
@dataclass(frozen=True, slots=True, config=STRICT)
class ClickHouseConfig(RetryPolicy):
    """Everything a `ClickHouseManager` needs to know; checked when it is made.

    :param host: the name or address of one host.
    :param port: of the native protocol.
    :param database: where the tables are.
    :param user: who logs in.
    :param password: of the user.
    :param connect_timeout: seconds for one host to accept and greet.
    :param max_retries: repetitions after the first attempt.
    :param alt_hosts: further hosts, ``"name"`` or ``"name:port"``, tried in turn after ``host``.
    :param send_receive_timeout: seconds without a byte before a statement counts as broken.
    :param secure: whether the connection is encrypted (TLS).
    :param verify: whether the server's certificate is checked.
    :param ca_file: PEM file of the authorities that certificates are checked against.
    :param cert_file: PEM file of the client's certificate.
    :param key_file: PEM file of the client's key.
    :param compression: of blocks on their way: ``"lz4"``, None, or ``"auto"``: LZ4 unless every
        host is this machine, where it takes longer than the bytes it saves.
    :param pool_size: connections kept open; ``max_overflow`` more may open under load.
    :param max_overflow: connections beyond ``pool_size``, closed when they are given back.
    :param pool_timeout: seconds a caller waits for a free connection before `PoolTimeout`.
    :param pool_recycle: seconds after which an idle connection is replaced.
    :param idle_check: seconds of idleness after which a connection is pinged before use.
    :param readonly: ask the server to refuse writes (``readonly=2``: settings may still change).
    :param settings: ClickHouse settings sent with every statement; those under which an insert is
        acknowledged before it is stored, or a read leaves rows out, are refused.
    :param cluster: name of the cluster that the tables are spread over.
    :param embedded_path: directory of the embedded engine, or ``":memory:"``; no server then.
    :param fsync: whether an embedded insert is on disk when it is acknowledged.
    :raises InvalidConfiguration: naming the field and its value.
    """

    host: Host = "localhost"
    port: Port = 9000
    database: Text = "jts"
    user: Text = "default"
    password: Password = field(default="", repr=False)
    connect_timeout: Seconds = 10
    max_retries: RetryCount = 3
    alt_hosts: OtherHosts = ()
    send_receive_timeout: Seconds = 300
    secure: bool = False
    verify: bool = True
    ca_file: PemFile | None = None
    cert_file: PemFile | None = None
    key_file: PemFile | None = None
    compression: Literal["auto", "lz4"] | None = "auto"
    pool_size: PoolSize = 8
    max_overflow: Overflow = 0
    pool_timeout: Pause = 30
    pool_recycle: Seconds = 3600
    idle_check: Pause = 30
    readonly: bool = False
    settings: Settings = field(default_factory=dict, hash=False)
    cluster: Text | None = None
    embedded_path: Text | None = None
    fsync: bool = True

    def __post_init__(self) -> None:
        self.check_pauses()
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidConfiguration(
                f"cert_file is {self.cert_file!r} and key_file is {self.key_file!r}",
                remedy="A client certificate needs both.",
            )
        files = ("ca_file", "cert_file", "key_file")
        check_tls_files(self, files, uses_tls=self.secure, remedy="Set secure=True to use TLS.")

    def __deepcopy__(self, memo: Any) -> ClickHouseConfig:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return (partial(ClickHouseConfig, **values | {"settings": dict(self.settings)}), ())

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs inside this process."""
        return self.embedded_path is not None

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts as ``name:port``, or the path of the embedded engine: what errors name."""
        if self.embedded_path is not None:
            return (self.embedded_path,)
        others = (h if _split_port(h)[1] else f"{h}:{self.port}" for h in self.alt_hosts)
        return (joined(self.host, self.port), *others)

    @property
    def wire_compression(self) -> str | None:
        """What ``"auto"`` comes to."""
        if self.compression != "auto":
            return self.compression
        names = (self.host, *(_split_port(host)[0] for host in self.alt_hosts))
        return None if all(map(_is_this_machine, names)) else "lz4"

    @property
    def url(self) -> URL:
        """The same configuration as a SQLAlchemy URL for the kit's dialect."""
        from sqlalchemy.engine import URL

        query = _as_query(self)
        if self.embedded_path is not None:
            query.setdefault("database", self.database)
            return URL.create(EMBEDDED_DRIVER, database=self.embedded_path, query=query)
        return URL.create(
            TCP_DRIVER,
            username=self.user,
            password=plain(self.password) or None,
            host=self.host,
            port=self.port,
            database=self.database,
            query=query,
        )

    @property
    def redacted(self) -> str:
        """The URL for people: the password is masked."""
        return self.url.render_as_string(hide_password=True)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, prefix: str = "JTS_CLICKHOUSE_"
    ) -> ClickHouseConfig:
        """Read ``<prefix><FIELD>`` variables; ``<prefix>URL`` gives the base that they refine.

        An empty one is not set. ``<prefix>SETTINGS`` is written like a query string:
        ``max_threads=2&readonly=1``; integers, ``true`` and ``false`` become values of their types.
        """
        return of_variables(cls, os.environ if environ is None else environ, prefix, read_url)

    @classmethod
    def from_url(cls, url: str | URL) -> ClickHouseConfig:
        """Read ``clickhouse://user:password@h1:9000,h2/db?secure=1`` or
        ``clickhouse+embedded:///path`` (``:memory:`` for no path).

        The query takes every field by name, and ClickHouse settings as ``setting.<name>``.
        """
        return cls(**(read_url(url) if isinstance(url, str) else _from_sqlalchemy(url)))

    @classmethod
    def of(
        cls, first: ClickHouseConfig | str | None, *others: Any, **keywords: Any
    ) -> ClickHouseConfig:
        """The configuration that a manager is given: one, a URL, or the fields of one.

        Fields by position are in the order of the class: host, port, database, ...
        Keywords refine a configuration or a URL.
        """
        if isinstance(first, str) and "://" in first:
            first = cls.from_url(first)
        if isinstance(first, ClickHouseConfig):
            named(others, [], {})
            return replace(first, **keywords)
        return cls(*(() if first is None and not others else (first, *others)), **keywords)


def read_url(url: str) -> dict[str, Any]:
    """The fields that a URL names."""
    parts = split(url, schemes=_SCHEMES, of_files=frozenset({EMBEDDED_DRIVER}))
    if parts.scheme == EMBEDDED_DRIVER:
        if parts.authority:
            raise _names_a_host()
        return _from_query(parts.query) | {"embedded_path": unquote(parts.path) or MEMORY}
    if parts.scheme not in _TCP_SCHEMES:
        raise InvalidConfiguration(f"url has the scheme {parts.scheme!r}", remedy=_SCHEMES)
    # Hosts are checked first: if they are wrong, the options may be a part of the password.
    return _from_authority(parts) | _from_query(parts.query)


def _names_a_host() -> InvalidConfiguration:
    return InvalidConfiguration(
        "url names a host for the embedded engine",
        remedy="Write clickhouse+embedded:///path with three slashes.",
    )


def _from_query(query: str) -> dict[str, Any]:
    values, left = take_fields(ClickHouseConfig, query, but=frozenset({"settings"}))
    settings = {}
    for name, text, _ in left:
        if not name.startswith(_SETTING) or name == _SETTING:
            if "password" in values:  # it may hold an &, and what follows is a part of it
                raise InvalidConfiguration(
                    "url has an unknown option beside its password", remedy=ENCODE
                )
            raise _unknown_option(name)
        settings[name.removeprefix(_SETTING)] = text
    return values | ({"settings": settings} if settings else {})


def _unknown_option(name: str) -> InvalidConfiguration:
    if name in {"settings", _SETTING}:
        return InvalidConfiguration(
            f"url has the option {name!r}, and each ClickHouse setting is an option of its own",
            remedy=f"Write {_SETTING}max_threads=2&{_SETTING}readonly=1.",
        )
    known = tuple(each for each in field_names(ClickHouseConfig) if each != "settings")
    close = did_you_mean(name, known)
    return InvalidConfiguration(
        f"url has the unknown option {name!r}",
        remedy=f"{close or ''} A ClickHouse setting is written {_SETTING}{name}=...".strip(),
    )


def _from_sqlalchemy(url: URL) -> dict[str, Any]:
    from urllib.parse import urlencode

    values = _from_query(urlencode(dict(url.query), doseq=True))
    if url.drivername == EMBEDDED_DRIVER:
        if url.host:
            raise _names_a_host()
        return values | {"embedded_path": url.database or MEMORY}
    names = {"host": "host", "port": "port", "username": "user", "password": "password"}
    parts = {ours: getattr(url, theirs) for theirs, ours in names.items()}
    parts["database"] = url.database
    return {name: value for name, value in parts.items() if value is not None} | values


def _from_authority(parts: Parts) -> dict[str, Any]:
    credentials, at, hosts = parts.authority.rpartition("@")
    values: dict[str, Any] = {}
    if at:
        user, colon, password = credentials.partition(":")
        values |= {"user": unquote(user)} if user else {}
        values |= {"password": unquote(password)} if colon else {}
    first, *others = hosts.split(",")
    if first:
        values["host"], port = _split_port(first)
        if port is not None:
            values["port"] = _port(port)
    if others:
        values["alt_hosts"] = tuple(others)
    if parts.scheme == "clickhouses":
        values |= {"secure": True, "port": values.get("port", 9440)}
    if database := unquote(parts.path):
        values["database"] = database
    return values


def _port(text: str) -> int:
    # Not repeated in the message: without a host behind it, it is a password.
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise InvalidConfiguration("the port in the url is no number from 1 to 65535")
    return int(text)


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


_IN_AUTHORITY: Final = frozenset(
    {"host", "port", "user", "password", "database", "embedded_path", "settings"}
)


def _as_query(config: ClickHouseConfig) -> dict[str, str]:
    query = {
        f.name: _as_text(value)
        for f in fields(config)
        if f.name not in _IN_AUTHORITY and (value := getattr(config, f.name)) != default_of(f)
    }
    return query | {_SETTING + k: _as_text(v) for k, v in config.settings.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)
