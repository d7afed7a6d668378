"""Where ClickHouse is and how to talk to it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_type_hints
from urllib.parse import parse_qsl, unquote

from sqlalchemy.engine import URL

from jts_storage.domain.secret import MASK, Secret, plain
from jts_storage.errors import InvalidConfiguration

MEMORY = ":memory:"
TCP_DRIVER = "clickhouse+jts"
EMBEDDED_DRIVER = "clickhouse+embedded"
_TCP_SCHEMES = frozenset({"clickhouse", "clickhouses", "clickhouse+jts", "clickhouse+native"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_SCHEMES_TOLD = "Use clickhouse://, clickhouses:// or clickhouse+embedded:///."
_SETTING_PREFIX = "setting."
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_COMPRESSIONS = ("auto", "lz4", None)
_NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ClickHouseConfig:
    """Everything a `ClickHouseManager` needs to know; checked when it is made.

    :param alt_hosts: further hosts, ``"name"`` or ``"name:port"``, tried in turn after ``host``.
    :param connect_timeout: seconds for one host to accept and greet.
    :param send_receive_timeout: seconds without a byte before a statement counts as broken.
    :param max_retries: repetitions after the first attempt.
    :param retry_base_delay: first pause between attempts; each further one doubles it.
    :param retry_max_delay: no pause is longer.
    :param retry_timeout: no new attempt begins later than this after the first.
    :param compression: of blocks on their way: ``"lz4"``, None, or ``"auto"``: LZ4 unless every
        host is this machine, where it takes longer than the bytes it saves.
    :param pool_size: connections kept open; ``max_overflow`` more may open under load.
    :param pool_timeout: seconds a caller waits for a free connection before `PoolTimeout`.
    :param pool_recycle: seconds after which an idle connection is replaced.
    :param idle_check: seconds of idleness after which a connection is pinged before use.
    :param readonly: ask the server to refuse writes (``readonly=2``: settings may still change).
    :param settings: ClickHouse settings sent with every statement; those under which an insert is
        acknowledged before it is stored are refused.
    :param cluster: name of the cluster the DDL is meant for.
    :param health_timeout: seconds within which `health_check` answers.
    :param embedded_path: directory of the embedded engine, or ``":memory:"``; no server then.
    :param fsync: whether an embedded insert is on disk when it is acknowledged.
    :raises InvalidConfiguration: naming the field and its value.
    """

    host: str = "localhost"
    port: int = 9000
    database: str = "jts"
    user: str = "default"
    password: str = field(default="", repr=False)
    connect_timeout: float = 10
    max_retries: int = 3
    alt_hosts: tuple[str, ...] = ()
    send_receive_timeout: float = 300
    secure: bool = False
    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    compression: str | None = "auto"
    pool_size: int = 8
    max_overflow: int = 0
    pool_timeout: float = 30
    pool_recycle: float = 3600
    idle_check: float = 30
    readonly: bool = False
    settings: Mapping[str, Any] = field(default_factory=lambda: _NO_SETTINGS, hash=False)
    cluster: str | None = None
    health_timeout: float = 0.45
    retry_base_delay: float = 0.1
    retry_max_delay: float = 2
    retry_timeout: float = 60
    embedded_path: str | None = None
    fsync: bool = True

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "password", Secret(self.password))
        object.__setattr__(self, "alt_hosts", tuple(self.alt_hosts))
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __deepcopy__(self, memo: Any) -> ClickHouseConfig:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return (_rebuilt, (values | {"settings": dict(self.settings)},))

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs inside this process."""
        return self.embedded_path is not None

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts as ``name:port``, or the path of the embedded engine: what errors name."""
        if self.embedded_path is not None:
            return (self.embedded_path,)
        first = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{first}:{self.port}", *(_with_port(h, self.port) for h in self.alt_hosts))

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

        ``<prefix>SETTINGS`` is written like a query string: ``max_threads=2&readonly=1``.
        """
        environ = os.environ if environ is None else environ
        given = {
            f.name: environ[name]
            for f in fields(cls)
            if (name := prefix + f.name.upper()) in environ
        }
        values = {name: _parse(name, text, prefix + name.upper()) for name, text in given.items()}
        url = environ.get(prefix + "URL")
        if not url:
            return cls(**values)
        base = cls.from_url(url)
        return cls(**{f.name: getattr(base, f.name) for f in fields(cls)} | values)

    @classmethod
    def from_url(cls, url: str | URL) -> ClickHouseConfig:
        """Read ``clickhouse://user:password@h1:9000,h2/db?secure=1`` or
        ``clickhouse+embedded:///path`` (``:memory:`` for no path).

        The query takes every field by name, and ClickHouse settings as ``setting.<name>``.
        """
        if isinstance(url, URL):
            return cls(**_from_sqlalchemy(url))
        # Not urlsplit, which knows one host only and refuses several with an IPv6 one among them.
        scheme, separator, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        if not separator or not _SCHEME.fullmatch(scheme):
            raise InvalidConfiguration("url has no scheme", remedy=_SCHEMES_TOLD)
        if "@" in query or ("@" in path and (authority or scheme != EMBEDDED_DRIVER)):
            raise InvalidConfiguration(
                "url has an @ behind its hosts",
                remedy="Percent-encode what is special in user and password, an @, a / or a ? above"
                " all, and an @ in options, too.",
            )
        options = parse_qsl(query, keep_blank_values=True)
        if scheme == EMBEDDED_DRIVER:
            if authority:
                raise InvalidConfiguration(
                    "url names a host for the embedded engine",
                    remedy="Write clickhouse+embedded:///path with three slashes.",
                )
            return cls(**_from_query(options) | {"embedded_path": unquote(path) or MEMORY})
        if scheme not in _TCP_SCHEMES:
            raise InvalidConfiguration(
                f"url has the scheme {scheme!r}",
                remedy=_SCHEMES_TOLD,
            )
        # What is wrong with the hosts is told first: options may then be a part of the password.
        place = _from_authority(authority, slash + path, scheme)
        return cls(**place | _from_query(options))


_OFF = frozenset({"0", "false"})
_ON_ONE_HOST = "an insert is acknowledged when one host has noted it, before its shard has it"
_ACKNOWLEDGES_TOO_EARLY: Mapping[str, tuple[frozenset[str], str]] = {
    "wait_for_async_insert": (_OFF, "an insert is acknowledged while it is in memory only"),
    "distributed_foreground_insert": (_OFF, _ON_ONE_HOST),
    "insert_distributed_sync": (_OFF, _ON_ONE_HOST),
}
"""Values of settings that nobody can want, and what they do."""


def _rebuilt(values: dict[str, Any]) -> ClickHouseConfig:
    return ClickHouseConfig(**values)


def _check(config: ClickHouseConfig) -> None:
    for name, rule, wanted in _RULES:
        value = getattr(config, name)
        if not rule(value):
            shown = MASK if name == "password" else repr(value)
            raise InvalidConfiguration(f"{name} must be {wanted}, got {shown}")
    if (config.cert_file is None) != (config.key_file is None):
        raise InvalidConfiguration(
            f"cert_file is {config.cert_file!r} and key_file is {config.key_file!r}",
            remedy="A client certificate needs both.",
        )
    for name in ("ca_file", "cert_file", "key_file"):
        value = getattr(config, name)
        if value is not None and not config.secure:
            raise InvalidConfiguration(
                f"{name} is {value!r} but secure is False", remedy="Set secure=True to use TLS."
            )
        if value is not None and not Path(value).is_file():
            raise InvalidConfiguration(f"{name} must be a readable file, got {value!r}")
    for name, (lies, why) in _ACKNOWLEDGES_TOO_EARLY.items():
        if name in config.settings and str(config.settings[name]).lower() in lies:
            raise InvalidConfiguration(
                f"settings has {name}={config.settings[name]!r}: {why}",
                remedy=f"Leave {name} out.",
            )
    if config.retry_max_delay < config.retry_base_delay:
        raise InvalidConfiguration(
            f"retry_max_delay must be at least retry_base_delay ({config.retry_base_delay!r}), "
            f"got {config.retry_max_delay!r}"
        )


def _is_count(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _is_seconds(*, zero: bool) -> Callable[[Any], bool]:
    def rule(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return math.isfinite(value) and (value >= 0 if zero else value > 0)

    return rule


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_host(value: Any) -> bool:
    return _is_text(value) and not set(value) & set(" /@?#,\\\t\n")


def _is_alt_host(value: Any) -> bool:
    if not _is_host(value):
        return False
    name, port = _split_port(value)
    return name != "" and (port is None or (port.isdigit() and 1 <= int(port) <= 65535))


_flag = (lambda v: isinstance(v, bool), "True or False")
_optional_text = (lambda v: v is None or _is_text(v), "a text or None")
_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("host", _is_host, "the name or address of one host"),
    ("port", _is_count(1, 65535), "a number from 1 to 65535"),
    ("database", _is_text, "the name of a database"),
    ("user", _is_text, "the name of a user"),
    ("password", lambda v: isinstance(v, str), "a text"),
    (
        "alt_hosts",
        lambda v: isinstance(v, tuple | list) and all(map(_is_alt_host, v)),
        'a tuple of "name" or "name:port"',
    ),
    ("compression", lambda v: v in _COMPRESSIONS, '"auto", "lz4" or None'),
    ("settings", lambda v: isinstance(v, Mapping) and all(map(_is_text, v)), "a mapping by name"),
    ("max_retries", _is_count(0, 100), "a number from 0 to 100"),
    ("pool_size", _is_count(1, 1000), "a number from 1 to 1000"),
    ("max_overflow", _is_count(0, 1000), "a number from 0 to 1000"),
    *(
        (name, _is_seconds(zero=False), "a positive number of seconds")
        for name in ("connect_timeout", "send_receive_timeout", "pool_recycle", "health_timeout")
    ),
    *(
        (name, _is_seconds(zero=True), "a number of seconds, 0 or more")
        for name in (
            "pool_timeout",
            "idle_check",
            "retry_base_delay",
            "retry_max_delay",
            "retry_timeout",
        )
    ),
    *((name, *_flag) for name in ("secure", "verify", "readonly", "fsync")),
    *(
        (name, *_optional_text)
        for name in ("ca_file", "cert_file", "key_file", "cluster", "embedded_path")
    ),
)


def _split_port(host: str) -> tuple[str, str | None]:
    if host.startswith("["):
        name, _, rest = host.partition("]")
        return name[1:], rest[1:] if rest.startswith(":") else None
    name, colon, port = host.rpartition(":")
    return (name, port) if colon else (host, None)


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _with_port(host: str, port: int) -> str:
    return host if _split_port(host)[1] is not None else f"{host}:{port}"


def _parse(name: str, text: str, source: str) -> Any:
    """Turn the text of an environment variable or URL into what the field holds."""
    if name == "settings":
        return dict(parse_qsl(text, keep_blank_values=True))
    if name == "alt_hosts":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    hint = _hints()[name]
    if type(None) in get_args(hint):
        return None if text.strip().lower() in {"", "none"} else text
    try:
        return _PARSERS[hint](text)
    except ValueError:
        shown = MASK if name == "password" else repr(text)
        raise InvalidConfiguration(f"{source} is {shown}, which is no {hint.__name__}") from None


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(ClickHouseConfig)


def _parse_flag(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: _parse_flag,
}


def _from_query(options: Iterable[tuple[str, str]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    known = {f.name for f in fields(ClickHouseConfig)} - {"settings"}
    for name, text in options:
        if name.startswith(_SETTING_PREFIX):
            settings[name.removeprefix(_SETTING_PREFIX)] = text
        elif name in known:
            values[name] = _parse(name, text, f"{name} in the url")
        else:
            raise InvalidConfiguration(
                f"url has the unknown option {name!r}",
                remedy=f"ClickHouse settings are written {_SETTING_PREFIX}{name}=...",
            )
    return values | ({"settings": settings} if settings else {})


def _from_sqlalchemy(url: URL) -> dict[str, Any]:
    values = _from_query((k, v if isinstance(v, str) else v[-1]) for k, v in url.query.items())
    if url.drivername == EMBEDDED_DRIVER:
        return values | {"embedded_path": url.database or MEMORY}
    parts = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "database": url.database,
    }
    return {name: value for name, value in parts.items() if value is not None} | values


def _from_authority(netloc: str, path: str, scheme: str) -> dict[str, Any]:
    credentials, at, hosts = netloc.rpartition("@")
    values: dict[str, Any] = {}
    if at:
        user, colon, password = credentials.partition(":")
        values |= {"user": unquote(user)} if user else {}
        values |= {"password": unquote(password)} if colon else {}
    first, *others = hosts.split(",")
    if first:
        name, port = _split_port(first)
        values["host"] = name
        if port is not None:
            values["port"] = _port(port)
    if others:
        values["alt_hosts"] = tuple(others)
    if scheme == "clickhouses":
        values |= {"secure": True, "port": values.get("port", 9440)}
    if database := unquote(path).removeprefix("/"):
        values["database"] = database
    return values


def _port(text: str) -> int:
    # Not repeated in the message: without a host behind it, it is a password.
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise InvalidConfiguration("the port in the url is no number from 1 to 65535")
    return int(text)


def _as_query(config: ClickHouseConfig) -> dict[str, str]:
    in_authority = {"host", "port", "user", "password", "database", "embedded_path", "settings"}
    query = {
        f.name: _as_text(value)
        for f in fields(config)
        if f.name not in in_authority and (value := getattr(config, f.name)) != f.default
    }
    return query | {_SETTING_PREFIX + k: _as_text(v) for k, v in config.settings.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)
