"""Where the bookkeeping is and how to talk to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from pydantic.dataclasses import dataclass

from jts_storage._runtime.imports import without_collections
from jts_storage.domain.secret import Secret, plain
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import (
    STRICT,
    Pause,
    PoolSize,
    RetryCount,
    RetryPolicy,
    Seconds,
    Url,
    configuration,
    did_you_mean,
    field_names,
)
from jts_storage.settings.urls import ENCODE, host_and_port, joined, split, take_fields
from jts_storage.settings.variables import of_variables

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MEMORY: Final = ":memory:"
SQLITE_DRIVER: Final = "sqlite+aiosqlite"
POSTGRES_DRIVER: Final = "postgresql+asyncpg"
_SQLITE: Final = frozenset({"sqlite", SQLITE_DRIVER})
_POSTGRES: Final = frozenset({"postgresql", "postgres", POSTGRES_DRIVER})
_SCHEMES: Final = "Use postgresql://user:password@host:port/name or sqlite:///path."
_HOSTS: Final = "Use postgresql://user:password@first:port,second:port/name."
_PORT: Final = 5432
_ROLE: Final = "target_session_attrs"
_ROLES: Final = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_POSTGRES_OPTIONS: Final = ("application_name", "host", "ssl", "sslmode", _ROLE)


@configuration
@dataclass(frozen=True, slots=True, repr=False, config=STRICT)
class DatabaseConfig(RetryPolicy):
    """Everything a `DatabaseManager` needs to know; checked when it is made.

    :param url: ``postgresql://user:password@host:port/name?sslmode=require``, ``sqlite:///path``,
        the path of a SQLite file, or ``":memory:"`` (a single connection, and the
        data are gone with it). Of several hosts, ``postgresql://user:password@a:5432,b:5432/name``,
        each connection is to the first that takes writes; the option ``target_session_attrs``
        asks for another: ``any``, ``prefer-standby`` and ``standby`` are for reading alone. Other
        fields of this class may be options of the URL.
    :param pool_size: connections that may be open at once; one more never is.
    :param pool_timeout: seconds a caller waits for a free connection before `PoolTimeout`.
    :param pool_recycle: seconds after which an idle connection is replaced.
    :param idle_check: seconds of idleness after which a connection is pinged before use.
    :param connect_timeout: seconds for a server to accept and greet, each of several.
    :param statement_timeout: seconds for one statement on PostgreSQL.
    :param lock_timeout: seconds to wait for another writer before `Conflict`.
    :param close_timeout: seconds that `close` waits for what is running.
    :param max_retries: repetitions after the first attempt.
    :param synchronous: ``"FULL"``: what SQLite acknowledged is on disk; ``"NORMAL"``: a power cut
        may take the last transactions, a crash of the process none.
    :raises InvalidConfiguration: naming the field and its value, without the password.
    """

    url: Url = "sqlite:///jts.db"
    pool_size: PoolSize = 8
    pool_timeout: Seconds = 30
    pool_recycle: Seconds = 3600
    idle_check: Seconds = 30
    connect_timeout: Seconds = 10
    statement_timeout: Seconds = 60
    lock_timeout: Seconds = 10
    close_timeout: Seconds = 10
    max_retries: RetryCount = 20
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    retry_timeout: Pause = field(default=30, kw_only=True)

    @classmethod
    def _expanded(cls, given: dict[str, Any]) -> dict[str, Any]:
        url = given.get("url")
        if isinstance(url, Path):
            url = str(url)
        if not isinstance(url, str):
            return given
        return read_url(plain(url)) | {name: v for name, v in given.items() if name != "url"}

    def __post_init__(self) -> None:
        self.check_pauses()
        url = _parsed(plain(self.url))
        shown = url.render_as_string(hide_password=True)
        object.__setattr__(self, "url", Secret(url.render_as_string(hide_password=False), shown))

    def __deepcopy__(self, memo: Any) -> DatabaseConfig:
        return self

    def __repr__(self) -> str:
        return f"DatabaseConfig({self.redacted!r}, pool_size={self.pool_size})"

    @property
    def _made(self) -> URL:
        from sqlalchemy.engine import make_url

        return make_url(plain(self.url))

    @property
    def sqlalchemy_url(self) -> URL:
        """The URL with the asynchronous driver; options for the driver go another way, as do
        several hosts."""
        return self._made.set(query={})

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """The servers as host and port, in the order in which they are tried; none of SQLite."""
        if self.is_sqlite:
            return ()
        url = self._made
        return _nodes(url) or ((url.host or "localhost", url.port or _PORT),)

    @property
    def role(self) -> str:
        """What a server must be to be taken, as ``target_session_attrs``."""
        return self.options.get(_ROLE, "read-write" if len(self.nodes) > 1 else "any")

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith(SQLITE_DRIVER)

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for a server and for a database in memory."""
        database = self._made.database
        return Path(database) if self.is_sqlite and database and database != MEMORY else None

    @property
    def is_memory(self) -> bool:
        """Whether it is a SQLite database that ends with its only connection."""
        return self.is_sqlite and self.path is None

    @property
    def options(self) -> Mapping[str, str]:
        """The options in the URL's query, of PostgreSQL only."""
        query = self._made.query
        return {name: str(value) for name, value in query.items() if name != "host"}

    @property
    def max_connections(self) -> int:
        return 1 if self.is_memory else self.pool_size

    @property
    def hosts(self) -> tuple[str, ...]:
        """What errors name: each server as ``name:port``, or the file."""
        if self.is_sqlite:
            return (self._made.database or MEMORY,)
        return tuple(joined(host, port) for host, port in self.nodes)

    @property
    def redacted(self) -> str:
        """The URL for people: the password is masked."""
        return self._made.render_as_string(hide_password=True)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, prefix: str = "JTS_DATABASE_"
    ) -> DatabaseConfig:
        """Read ``<prefix><FIELD>`` variables; an empty one is not set."""
        return of_variables(cls, os.environ if environ is None else environ, prefix, read_url)


def read_url(url: str) -> dict[str, Any]:
    """The fields that a URL names, and the URL with the driver's own options only."""
    if "://" not in url:
        return {"url": url}
    parts = split(url, schemes=_SCHEMES, of_files=_SQLITE)
    # The address is checked first: if it is wrong, options may be a part of the password.
    _parsed(url.partition("?")[0])
    values, left = take_fields(DatabaseConfig, parts.query, but=frozenset({"url"}))
    allowed = _POSTGRES_OPTIONS if parts.scheme in _POSTGRES else ()
    unknown = sorted(name for name, _, _ in left if name not in allowed)
    if unknown:
        known = (*allowed, *(name for name in field_names(DatabaseConfig) if name != "url"))
        raise InvalidConfiguration(
            f"url has the unknown options {unknown}",
            remedy=did_you_mean(unknown[0], known) or f"Known are {', '.join(sorted(known))}.",
        )
    query = "&".join(raw for _, _, raw in left)
    return {"url": url.partition("?")[0] + (f"?{query}" if query else "")} | values


def _parsed(url: str) -> URL:
    with without_collections():
        from sqlalchemy.engine import URL, make_url
        from sqlalchemy.exc import ArgumentError

    if "://" not in url:
        # Not repeated in the message: it may be a server's, with a password.
        if "@" in url:
            raise InvalidConfiguration("url has no scheme", remedy=_SCHEMES)
        if "?" in url:
            raise InvalidConfiguration("the path of a SQLite file must not hold a '?'")
        return URL.create(SQLITE_DRIVER, database=url)
    try:
        parsed = make_url(_with_hosts_as_options(url))
    except (ArgumentError, ValueError):
        # The parser's message repeats the URL, and with it the password.
        raise InvalidConfiguration("url cannot be read", remedy=f"{_SCHEMES} {ENCODE}") from None
    if parsed.drivername in _SQLITE:
        return _sqlite(parsed)
    if url.count("@") > 1:
        raise InvalidConfiguration(
            "url has an @ that belongs to no user and password", remedy=ENCODE
        )
    if parsed.drivername in _POSTGRES:
        return _postgres(parsed)
    raise InvalidConfiguration(f"url has the scheme {parsed.drivername!r}", remedy=_SCHEMES)


def _with_hosts_as_options(url: str) -> str:
    """Several hosts as SQLAlchemy has them, which takes one only before the name."""
    scheme, separator, rest = url.partition("://")
    authority, slash, behind = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    if scheme not in _POSTGRES or "," not in hosts:
        return url
    path, _, query = behind.partition("?")
    named = [f"host={quote(host.strip())}" for host in hosts.split(",")]
    options = "&".join([*named, *filter(None, [query])])
    return f"{scheme}{separator}{credentials}{at}{slash}{path}?{options}"


def _nodes(url: URL) -> tuple[tuple[str, int], ...]:
    named = url.query.get("host", ())
    hosts = (named,) if isinstance(named, str) else named
    return tuple(host_and_port(host, _PORT, schemes=_HOSTS) for host in hosts)


def _sqlite(url: URL) -> URL:
    if url.host:
        raise InvalidConfiguration(
            "url names a host for a SQLite file",
            remedy="Write sqlite:///path with three slashes, four for an absolute path.",
        )
    return url.set(drivername=SQLITE_DRIVER, database=url.database or MEMORY)


def _postgres(url: URL) -> URL:
    mode = url.query.get("sslmode", url.query.get("ssl", "prefer"))
    if mode not in _SSL_MODES:
        raise InvalidConfiguration(f"sslmode must be one of {', '.join(_SSL_MODES)}, got {mode!r}")
    if not url.database:
        raise InvalidConfiguration("url names no database")
    role = url.query.get(_ROLE, "any")
    if role not in _ROLES:
        raise InvalidConfiguration(f"{_ROLE} must be one of {', '.join(_ROLES)}, got {role!r}")
    nodes = _nodes(url)
    if url.host and nodes:
        raise InvalidConfiguration("url names hosts in two ways", remedy=_HOSTS)
    if len(nodes) == 1:
        url = url.set(host=nodes[0][0], port=nodes[0][1]).difference_update_query(["host"])
    return url.set(drivername=POSTGRES_DRIVER)
