"""Where MongoDB is and how to talk to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Final, get_type_hints
from urllib.parse import parse_qsl, unquote

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from jts_storage.domain.secret import MASK, Secret, plain
from jts_storage.errors import InvalidConfiguration

_SCHEME: Final = re.compile(r"mongodb(\+srv)?://")
_AUTHORITY: Final = re.compile(r"[^/?]*")
_CREDENTIALS: Final = re.compile(r"(?<=://).*@")
_SECRET_OPTION: Final = re.compile(r"((?:password|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)
_NO_DATABASE_NAME: Final = re.compile(r'[/\\. "$*<>:|?\x00]')
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})

_SECRETS: Final = ("password", "tls_certificate_key_file_password")

_DRIVER_OPTIONS: Final = {
    "max_pool_size": ("maxPoolSize", 1),
    "min_pool_size": ("minPoolSize", 1),
    "max_idle_time": ("maxIdleTimeMS", 1000),
    "pool_timeout": ("waitQueueTimeoutMS", 1000),
    "connect_timeout": ("connectTimeoutMS", 1000),
    "socket_timeout": ("socketTimeoutMS", 1000),
    "server_selection_timeout": ("serverSelectionTimeoutMS", 1000),
    "app_name": ("appname", None),
    "username": ("username", None),
    "password": ("password", None),
    "auth_source": ("authSource", None),
    "replica_set": ("replicaSet", None),
    "tls": ("tls", None),
    "tls_ca_file": ("tlsCAFile", None),
    "tls_certificate_key_file": ("tlsCertificateKeyFile", None),
    "tls_certificate_key_file_password": ("tlsCertificateKeyFilePassword", None),
    "tls_allow_invalid_certificates": ("tlsAllowInvalidCertificates", None),
    "tls_allow_invalid_hostnames": ("tlsAllowInvalidHostnames", None),
}
"""The driver's name of a field, and what its seconds are multiplied with."""

_DEFAULTS: Final[Mapping[str, Any]] = {
    "maxPoolSize": 50,
    "waitQueueTimeoutMS": 10_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 60_000,
    "serverSelectionTimeoutMS": 15_000,
    "appname": "jts-storage",
    "w": "majority",
    "journal": True,
}
"""What holds where neither a field nor the URI says otherwise."""


@dataclass(frozen=True, slots=True, repr=False)
class MongoDBConfig:
    """Everything a `MongoDBManager` needs to know; checked when it is made.

    A field that is None leaves the matter to the URI, and to the kit's default after that. Times
    are seconds.

    :param uri: one server, a replica set or a sharded cluster, ``mongodb://`` or
        ``mongodb+srv://``, with any option of the driver, except that ``w`` must be ``majority``
        or a concern that the cluster defines, and ``journal`` true: a write acknowledged under
        less can be gone after a failover or a power cut.
    :param database: empty for the one that the URI names, else ``jts``.
    :param max_pool_size: connections to one server, 50.
    :param min_pool_size: connections kept open though idle, 0.
    :param max_idle_time: after which an idle connection is closed, never.
    :param pool_timeout: a caller waits so long for a free connection before `PoolTimeout`, 10.
    :param connect_timeout: for one server to accept, 5.
    :param socket_timeout: for the answer to one operation, 60.
    :param server_selection_timeout: for a server that takes the operation, 15: a replica set
        elects a new primary in less.
    :param tls_certificate_key_file: the client's certificate and key in one PEM file.
    :param health_timeout: within which `health_check` answers.
    :param max_retries: repetitions of what may be repeated, after the first attempt.
    :param retry_base_delay: first pause between attempts; each further one doubles it.
    :param retry_max_delay: no pause is longer.
    :param retry_timeout: no new attempt begins later than this after the first.
    :raises InvalidConfiguration: naming the field and its value.
    """

    uri: str = "mongodb://localhost:27017"
    database: str = ""
    username: str | None = None
    password: str | None = None
    auth_source: str | None = None
    replica_set: str | None = None
    app_name: str | None = None
    max_pool_size: int | None = None
    min_pool_size: int | None = None
    max_idle_time: float | None = None
    pool_timeout: float | None = None
    connect_timeout: float | None = None
    socket_timeout: float | None = None
    server_selection_timeout: float | None = None
    tls: bool | None = None
    tls_ca_file: str | None = None
    tls_certificate_key_file: str | None = None
    tls_certificate_key_file_password: str | None = None
    tls_allow_invalid_certificates: bool | None = None
    tls_allow_invalid_hostnames: bool | None = None
    health_timeout: float = 0.45
    max_retries: int = 3
    retry_base_delay: float = 0.1
    retry_max_delay: float = 2
    retry_timeout: float = 60
    _hosts: tuple[str, ...] = field(init=False, compare=False, default=())

    def __post_init__(self) -> None:
        _check_fields(self)
        hosts, named = _read_uri(self.uri)
        object.__setattr__(self, "_hosts", hosts)
        object.__setattr__(self, "database", self.database or named or "jts")
        check_database_name(self.database)
        _check_acknowledgement(self.uri)
        _check_combinations(self)
        object.__setattr__(self, "uri", Secret(self.uri, self.redacted))
        for name in _SECRETS:
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Secret(value))

    def __deepcopy__(self, memo: Any) -> MongoDBConfig:
        return self

    def __repr__(self) -> str:
        return f"MongoDBConfig({self.redacted!r}, database={self.database!r})"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of the URI as ``name:port``: what errors name."""
        return self._hosts

    @property
    def redacted(self) -> str:
        """The URI for people: credentials are masked."""
        masked = _CREDENTIALS.sub(f"{MASK}:{MASK}@", plain(self.uri))
        return _SECRET_OPTION.sub(rf"\1{MASK}", masked)

    @property
    def client_options(self) -> dict[str, Any]:
        """The driver's keyword arguments beside the URI."""
        in_uri = {name.lower() for name in _uri_options(self.uri)}
        options = {k: v for k, v in _DEFAULTS.items() if k.lower() not in in_uri}
        for name, (option, factor) in _DRIVER_OPTIONS.items():
            value = getattr(self, name)
            if isinstance(value, str):
                options[option] = plain(value)
            elif value is not None:
                options[option] = value if factor is None else int(value * factor)
        return options

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, prefix: str = "JTS_MONGO_"
    ) -> MongoDBConfig:
        """Read ``<prefix><FIELD>`` variables, such as ``JTS_MONGO_TLS``; an empty one is unset.

        The address is in ``<prefix>URI``, or in ``<prefix>URL`` as `StorageSettings` has it.

        :raises InvalidConfiguration: a value cannot be read, or the two addresses differ.
        """
        environ = dict(os.environ if environ is None else environ)
        url, uri = environ.get(f"{prefix}URL"), environ.get(f"{prefix}URI")
        if url and uri and url != uri:
            raise InvalidConfiguration(
                f"{prefix}URI and {prefix}URL name different addresses", remedy="Unset one of them."
            )
        environ[f"{prefix}URI"] = uri or url or ""
        hints = get_type_hints(cls)
        return cls(
            **{
                f.name: _parsed(hints[f.name], f.name, text, source)
                for f in fields(cls)
                if f.init and (text := environ.get(source := prefix + f.name.upper()))
            }
        )


def check_database_name(name: str) -> str:
    """:raises InvalidConfiguration: no database can have that name."""
    too_long = len(name.encode(errors="replace")) > 63
    if not name or _NO_DATABASE_NAME.search(name) or too_long:
        raise InvalidConfiguration(
            f"database must be a MongoDB database name, got {name[:80]!r}",
            remedy='It has at most 63 bytes and none of / \\ . " $ * < > : | ? or blanks.',
        )
    return name


def _read_uri(uri: str) -> tuple[tuple[str, ...], str | None]:
    """The hosts and the database that a URI names, without asking any name server."""
    scheme = _SCHEME.match(uri)
    if scheme is None:
        raise InvalidConfiguration(
            "uri must begin with mongodb:// or mongodb+srv://",
            remedy="Write mongodb://host:27017/database.",
        )
    uri = plain(uri)
    if "@" in _AUTHORITY.sub("", uri[scheme.end() :], count=1):
        raise InvalidConfiguration(
            "uri has an @ behind its hosts",
            remedy="Percent-encode what is special in user and password, an @, a / or a ? above"
            " all, and an @ in options, too.",
        )
    if scheme[1]:
        authority, _, path = uri[scheme.end() :].partition("?")[0].partition("/")
        if ":" in authority.rpartition("@")[2]:
            raise InvalidConfiguration(
                "uri has a port behind a name of mongodb+srv://",
                remedy="The name server tells the ports; write mongodb+srv://name/database.",
            )
        return (authority.rpartition("@")[2],), unquote(path) or None
    try:
        parts = parse_uri(uri, validate=True, warn=False)
    except (PyMongoError, ValueError, TypeError) as exc:
        # What the driver says may repeat a part of the URI, and that part may be a password.
        raise InvalidConfiguration(
            f"uri cannot be read as one of MongoDB ({type(exc).__name__})",
            remedy="Write mongodb://user:password@host:27017,host2:27017/database?option=value;"
            " percent-encode what is special in user and password.",
        ) from None
    hosts = (host if port is None else _joined(host, port) for host, port in parts["nodelist"])
    return tuple(hosts), parts["database"]


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _uri_options(uri: str) -> dict[str, str]:
    # The driver takes a semicolon between options, too.
    text = uri.partition("?")[2].replace(";", "&")
    return dict(parse_qsl(text, keep_blank_values=True))


def _check_fields(config: MongoDBConfig) -> None:
    for name, rule, wanted in _RULES:
        value = getattr(config, name)
        if not rule(value):
            shown = MASK if "password" in name or name == "uri" else repr(value)
            raise InvalidConfiguration(f"{name} must be {wanted}, got {shown}")


def _check_acknowledgement(uri: str) -> None:
    """:raises InvalidConfiguration: writes would be acknowledged that are not yet safe."""
    options = {name.lower(): text.strip().lower() for name, text in _uri_options(uri).items()}
    concern = options.get("w", "majority")
    if not concern or concern.lstrip("+-").isdigit():
        raise InvalidConfiguration(
            f"w in the uri is {concern!r}: a write that so many members have can be rolled back by"
            " a failover after it was acknowledged",
            remedy="Leave w out: it is majority, which on a single server waits no longer.",
        )
    if options.get("journal", "true") != "true":
        raise InvalidConfiguration(
            f"journal in the uri is {options['journal']!r}: a write can be lost in a power cut"
            " after it was acknowledged",
            remedy="Leave journal out: it is true.",
        )


def _check_combinations(config: MongoDBConfig) -> None:
    files = ("tls_ca_file", "tls_certificate_key_file")
    for name in files:
        value = getattr(config, name)
        if value is not None and not Path(value).is_file():
            raise InvalidConfiguration(f"{name} must be a readable file, got {value!r}")
        if value is not None and not _uses_tls(config):
            raise InvalidConfiguration(
                f"{name} is {value!r} but TLS is off", remedy="Set tls=True or tls=true in uri."
            )
    if config.password is not None and config.username is None:
        raise InvalidConfiguration("password is given without a username")
    if (config.min_pool_size or 0) > (config.max_pool_size or 2**31):
        raise InvalidConfiguration(
            f"min_pool_size must be at most max_pool_size ({config.max_pool_size}), "
            f"got {config.min_pool_size}"
        )
    if config.retry_max_delay < config.retry_base_delay:
        raise InvalidConfiguration(
            f"retry_max_delay must be at least retry_base_delay ({config.retry_base_delay!r}), "
            f"got {config.retry_max_delay!r}"
        )


def _uses_tls(config: MongoDBConfig) -> bool:
    if config.tls is not None:
        return config.tls
    options = {name.lower(): text for name, text in _uri_options(config.uri).items()}
    by_default = "true" if config.uri.startswith("mongodb+srv") else "false"
    return options.get("tls", options.get("ssl", by_default)) == "true"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_seconds(value: Any, *, zero: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isfinite(value) and (value >= 0.001 or (zero and value == 0)) and value <= 86_400


def _is_count(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _optional(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: v is None or rule(v)


_RULES: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("uri", _is_text, "a text"),
    ("database", lambda v: isinstance(v, str), "the name of a database"),
    *(
        (name, _optional(_is_text), "a text or None")
        for name in (
            "username",
            "auth_source",
            "replica_set",
            "app_name",
            "tls_ca_file",
            "tls_certificate_key_file",
            "tls_certificate_key_file_password",
        )
    ),
    ("password", _optional(lambda v: isinstance(v, str)), "a text or None"),
    *(
        (name, _optional(lambda v: isinstance(v, bool)), "True, False or None")
        for name in ("tls", "tls_allow_invalid_certificates", "tls_allow_invalid_hostnames")
    ),
    ("max_pool_size", _optional(_is_count(1, 10_000)), "a number from 1 to 10000 or None"),
    ("min_pool_size", _optional(_is_count(0, 10_000)), "a number from 0 to 10000 or None"),
    *(
        (name, _optional(_is_seconds), "a positive number of seconds or None")
        for name in (
            "max_idle_time",
            "pool_timeout",
            "connect_timeout",
            "socket_timeout",
            "server_selection_timeout",
        )
    ),
    ("health_timeout", _is_seconds, "a positive number of seconds"),
    ("max_retries", _is_count(0, 100), "a number from 0 to 100"),
    *(
        (name, lambda v: _is_seconds(v, zero=True), "a number of seconds, 0 or more")
        for name in ("retry_base_delay", "retry_max_delay", "retry_timeout")
    ),
)


def _parsed(hint: Any, name: str, text: str, source: str) -> Any:
    kinds = getattr(hint, "__args__", (hint,))
    for kind, parse in _PARSERS.items():
        if kind in kinds:
            try:
                return parse(text)
            except ValueError:
                shown = MASK if "password" in name else repr(text)
                raise InvalidConfiguration(f"{source} is {shown}, no {kind.__name__}") from None
    return text


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


_PARSERS: Final[Mapping[type, Callable[[str], Any]]] = {bool: _flag, int: int, float: float}
