"""Where MongoDB is and how to talk to it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import unquote

from pydantic.dataclasses import dataclass

from jts_storage.domain.secret import MASK, Secret, plain
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import (
    STRICT,
    Overflow,
    Password,
    PemFile,
    PoolSize,
    RetryCount,
    RetryPolicy,
    Seconds,
    Text,
    Url,
    check_tls_files,
    configuration,
    did_you_mean,
    field_names,
    must_be,
)
from jts_storage.settings.urls import joined, options, split, take_fields
from jts_storage.settings.variables import of_variables

_SCHEMES: Final = "Use mongodb:// or mongodb+srv://, such as mongodb://host:27017/database."
_SRV: Final = "mongodb+srv"
EMBEDDED_URI: Final = "mongodb://localhost"
"""Stands for the embedded mongod, which names its own when it is started."""
_CREDENTIALS: Final = re.compile(r"(?<=://).*@")
_SECRET_OPTION: Final = re.compile(
    r"((?:password|secret|token|mechanismproperties)[^=&]*=)[^&]*", re.IGNORECASE
)
_NO_DATABASE_NAME: Final = re.compile(r'[/\\. "$*<>:|?\x00]')
_SYSTEM_DATABASES: Final = frozenset({"admin", "config", "local"})

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

_OTHER_OPTIONS: Final = (
    *("ssl", "tlsInsecure", "tlsDisableOCSPEndpointCheck", "tlsCRLFile", "authMechanism"),
    *("authMechanismProperties", "retryWrites", "retryReads", "w", "wTimeoutMS", "journal"),
    *("readPreference", "readPreferenceTags", "readConcernLevel", "maxStalenessSeconds"),
    *("directConnection", "loadBalanced", "heartbeatFrequencyMS", "localThresholdMS"),
    *("serverMonitoringMode", "maxConnecting", "timeoutMS", "compressors", "uuidRepresentation"),
    *("zlibCompressionLevel", "srvServiceName", "srvMaxHosts"),
)
"""Options of the driver that are no field, as its documentation spells them: to suggest one."""

_DEFAULTS: Final[Mapping[str, Any]] = {
    "maxPoolSize": 50,
    "waitQueueTimeoutMS": 10_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 60_000,
    "serverSelectionTimeoutMS": 15_000,
    "appname": "jts-storage",
    "w": "majority",
    "journal": True,
    # What fewer members have can be rolled back, when the one that showed it fails.
    "readConcernLevel": "majority",
}
"""Options of the driver that neither a field nor the URI sets."""

Milliseconds = Annotated[Seconds, must_be(lambda value: value <= 86_400, "a day at most")]


@configuration
@dataclass(frozen=True, slots=True, repr=False, config=STRICT)
class MongoDBConfig(RetryPolicy):
    """Everything a `MongoDBManager` needs to know; checked when it is made.

    A field that is None leaves the matter to the URI, and to the kit's default after that. Times
    are seconds.

    :param uri: one server, a replica set or a sharded cluster, ``mongodb://`` or
        ``mongodb+srv://``, with any option of the driver, except that ``w`` must be ``majority``
        or a concern that the cluster defines, and ``journal`` true: a write acknowledged under
        less can be gone after a failover or a power cut. Fields of this class are options, too.
    :param database: empty for the one that the URI names, else ``jts``.
    :param username: who logs in.
    :param password: of the user.
    :param auth_source: the database that knows the user.
    :param replica_set: its name.
    :param app_name: what the server's log calls this client, ``jts-storage``.
    :param max_pool_size: connections to one server, 50.
    :param min_pool_size: connections kept open though idle, 0.
    :param max_idle_time: after which an idle connection is closed, never.
    :param pool_timeout: a caller waits so long for a free connection before `PoolTimeout`, 10.
    :param connect_timeout: for one server to accept, 5.
    :param socket_timeout: for the answer to one operation, 60.
    :param server_selection_timeout: for a server that takes the operation, 15: a replica set
        elects a new primary in less.
    :param tls: whether connections are encrypted.
    :param tls_ca_file: PEM file of the authorities that certificates are checked against.
    :param tls_certificate_key_file: the client's certificate and key in one PEM file.
    :param tls_certificate_key_file_password: of that file.
    :param tls_allow_invalid_certificates: take any certificate.
    :param tls_allow_invalid_hostnames: take a certificate of another host.
    :param max_retries: repetitions of what may be repeated, after the first attempt.
    :raises InvalidConfiguration: naming the field and its value.
    """

    uri: Url = "mongodb://localhost:27017"
    database: str = ""
    username: Text | None = None
    password: Password | None = None
    auth_source: Text | None = None
    replica_set: Text | None = None
    app_name: Text | None = None
    max_pool_size: PoolSize | None = None
    min_pool_size: Overflow | None = None
    max_idle_time: Milliseconds | None = None
    pool_timeout: Milliseconds | None = None
    connect_timeout: Milliseconds | None = None
    socket_timeout: Milliseconds | None = None
    server_selection_timeout: Milliseconds | None = None
    tls: bool | None = None
    tls_ca_file: PemFile | None = None
    tls_certificate_key_file: PemFile | None = None
    tls_certificate_key_file_password: Password | None = None
    tls_allow_invalid_certificates: bool | None = None
    tls_allow_invalid_hostnames: bool | None = None
    max_retries: RetryCount = 3

    @classmethod
    def _expanded(cls, given: dict[str, Any]) -> dict[str, Any]:
        uri = given.get("uri")
        if not isinstance(uri, str):
            return given
        return read_uri(plain(uri)) | {name: v for name, v in given.items() if name != "uri"}

    def __post_init__(self) -> None:
        self.check_pauses()
        named = _named_database(self.uri)
        if named in _SYSTEM_DATABASES and not self.database:
            raise InvalidConfiguration(
                f"uri names the database {named!r}, which is MongoDB's own",
                remedy="Set database to yours; if users are kept there, write"
                f" ?authSource={named} instead of /{named}.",
            )
        object.__setattr__(self, "database", self.database or named or "jts")
        check_database_name(self.database)
        _check_acknowledgement(self.uri)
        _check_combinations(self)
        object.__setattr__(self, "uri", Secret(self.uri, self.redacted))

    def __deepcopy__(self, memo: Any) -> MongoDBConfig:
        return self

    def __repr__(self) -> str:
        return f"MongoDBConfig({self.redacted!r}, database={self.database!r})"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of the URI as ``name:port``: what errors name."""
        uri = plain(self.uri)
        if uri.startswith(_SRV):
            return (_parts(uri).authority.rpartition("@")[2],)
        from pymongo.uri_parser import parse_uri

        found = parse_uri(uri, validate=True, warn=False)["nodelist"]
        return tuple(host if port is None else joined(host, port) for host, port in found)

    @property
    def redacted(self) -> str:
        """The URL for people: credentials are masked."""
        masked = _CREDENTIALS.sub(f"{MASK}:{MASK}@", plain(self.uri))
        return _SECRET_OPTION.sub(rf"\1{MASK}", masked)

    @property
    def client_options(self) -> dict[str, Any]:
        """The driver's keyword arguments beside the URI."""
        in_uri = _driver_options(self.uri)
        chosen = {k: v for k, v in _DEFAULTS.items() if k.lower() not in in_uri}
        for name, (option, factor) in _DRIVER_OPTIONS.items():
            value = getattr(self, name)
            if isinstance(value, str):
                chosen[option] = plain(value)
            elif value is not None:
                chosen[option] = value if factor is None else int(value * factor)
        return chosen

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, prefix: str = "JTS_MONGO_"
    ) -> MongoDBConfig:
        """Read ``<prefix><FIELD>`` variables, such as ``JTS_MONGO_TLS``; an empty one is not set.

        The address is in ``<prefix>URI`` or in ``<prefix>URL``.

        :raises InvalidConfiguration: a value cannot be read, or the two addresses differ.
        """
        return of_variables(cls, os.environ if environ is None else environ, prefix, read_uri)


def check_database_name(name: str) -> str:
    """:raises InvalidConfiguration: no database can have that name."""
    too_long = len(name.encode(errors="replace")) > 63
    if not name or _NO_DATABASE_NAME.search(name) or too_long:
        raise InvalidConfiguration(
            f"database must be a MongoDB database name, got {name[:80]!r}",
            remedy='It has at most 63 bytes and none of / \\ . " $ * < > : | ? or blanks.',
        )
    return name


def _parts(uri: str) -> Any:
    parts = split(plain(uri), name="uri", schemes=_SCHEMES, of_files=frozenset())
    if parts.scheme not in {"mongodb", _SRV}:
        raise InvalidConfiguration(f"uri has the scheme {parts.scheme!r}", remedy=_SCHEMES)
    return parts


def read_uri(uri: str) -> dict[str, Any]:
    """The fields that a URI names, and the URI with the driver's own options only."""
    parts = _parts(uri)
    # `tls` is the driver's option as well as a field of ours, and is left to the driver.
    values, left = take_fields(MongoDBConfig, parts.query, but=frozenset({"uri", "tls"}))
    if values:
        query = "&".join(raw for _, _, raw in left)
        uri = uri.partition("?")[0] + (f"?{query}" if query else "")
    _check_readable(uri.partition("?")[0])
    for name, text, raw in left:
        _check_option(name, text, raw, shows=not _SECRET_OPTION.search(parts.query))
    _check_readable(uri)
    if unquote(parts.path) not in {"", values.get("database", unquote(parts.path))}:
        raise InvalidConfiguration(
            f"uri names two databases: {unquote(parts.path)!r} as its path and"
            f" {values['database']!r} as an option",
            remedy=f"Leave ?database= out and write mongodb://host:27017/{values['database']}.",
        )
    return {"uri": uri} | values


def said_by(uri: str) -> set[str]:
    """Return every field that a URI sets, by the driver's name or ours."""
    parts = _parts(uri)
    driver = _driver_options(uri)
    said = set(read_uri(uri)) | {
        name for name, (option, _) in _DRIVER_OPTIONS.items() if option.lower() in driver
    }
    said |= {"username", "password"} if "@" in parts.authority else set()
    return said | ({"database"} if parts.path else set())


def _check_option(name: str, text: str, raw: str, *, shows: bool) -> None:
    """
    :param shows: whether the error may repeat a part of the query: in one with a password, an
        option that nobody knows may be a part of it.
    :raises InvalidConfiguration: the driver has no such option, or cannot read its value.
    """
    from pymongo.errors import ConfigurationError, PyMongoError
    from pymongo.uri_parser import split_options

    known = (*(option for option, _ in _DRIVER_OPTIONS.values()), *_OTHER_OPTIONS)
    is_known = name.lower() in {each.lower() for each in known}
    try:
        split_options(raw, validate=True, warn=False)
    except (PyMongoError, ValueError, TypeError, OSError) as exc:
        if is_known:
            why = f": {exc}" if shows else ""
            raise InvalidConfiguration(f"{name} in the uri cannot be read{why}") from None
        if type(exc) is ConfigurationError:
            fields = (each for each in field_names(MongoDBConfig) if each != "uri")
            close = did_you_mean(name, (*known, *fields))
            shown = repr(name) if shows else "(not shown: a password stands beside it)"
            raise InvalidConfiguration(
                f"uri has the unknown option {shown}",
                remedy=close or "Options are those of MongoDB's driver and of MongoDBConfig.",
            ) from None


def _check_readable(uri: str) -> None:
    """:raises InvalidConfiguration: the driver cannot read the URI."""
    if uri == EMBEDDED_URI:  # nothing to find out, and importing the driver takes a while
        return
    if uri.startswith(_SRV):  # the driver would ask a name server
        if ":" in _parts(uri).authority.rpartition("@")[2]:
            raise InvalidConfiguration(
                "uri has a port behind a name of mongodb+srv://",
                remedy="The ports come from the name server; write mongodb+srv://name/database.",
            )
        return
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    try:
        parse_uri(uri, validate=True, warn=False)
    except (PyMongoError, ValueError, TypeError) as exc:
        # What the driver says may repeat a part of the URI, and that part may be a password.
        raise InvalidConfiguration(
            f"uri cannot be read as one of MongoDB ({type(exc).__name__})",
            remedy="Write mongodb://user:password@host:27017,host2:27017/database?option=value;"
            " percent-encode what is special in user and password.",
        ) from None


def _named_database(uri: str) -> str | None:
    return unquote(_parts(uri).path) or None


def _driver_options(uri: str) -> dict[str, str]:
    return {name.lower(): text for name, text, _ in options(plain(uri).partition("?")[2])}


def _check_acknowledgement(uri: str) -> None:
    """:raises InvalidConfiguration: writes would be acknowledged that are not yet safe."""
    given = {name: text.strip().lower() for name, text in _driver_options(uri).items()}
    concern = given.get("w", "majority")
    if not concern or concern.lstrip("+-").isdigit():
        raise InvalidConfiguration(
            f"w in the uri is {concern!r}: a write that so many members have can be rolled back by"
            " a failover after it was acknowledged",
            remedy="Leave w out: it is majority, which on a single server waits no longer.",
        )
    if given.get("journal", "true") != "true":
        raise InvalidConfiguration(
            f"journal in the uri is {given['journal']!r}: a write can be lost in a power cut"
            " after it was acknowledged",
            remedy="Leave journal out: it is true.",
        )


def _check_combinations(config: MongoDBConfig) -> None:
    check_tls_files(
        config,
        ("tls_ca_file", "tls_certificate_key_file"),
        uses_tls=_uses_tls(config),
        remedy="Set tls=True or tls=true in uri.",
    )
    if config.password is not None and config.username is None:
        raise InvalidConfiguration("password is given without a username")
    if (config.min_pool_size or 0) > (config.max_pool_size or 2**31):
        raise InvalidConfiguration(
            f"min_pool_size is {config.min_pool_size}: it should be at most max_pool_size, which is"
            f" {config.max_pool_size}"
        )


def _uses_tls(config: MongoDBConfig) -> bool:
    if config.tls is not None:
        return config.tls
    given = _driver_options(config.uri)
    by_default = "true" if config.uri.startswith(_SRV) else "false"
    return given.get("tls", given.get("ssl", by_default)) == "true"
