"""Where the bookkeeping is and how to talk to it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from jts_storage.domain.secret import Secret, plain
from jts_storage.errors import InvalidConfiguration

MEMORY = ":memory:"
SQLITE_DRIVER = "sqlite+aiosqlite"
POSTGRES_DRIVER = "postgresql+asyncpg"
_SQLITE = frozenset({"sqlite", SQLITE_DRIVER})
_POSTGRES = frozenset({"postgresql", "postgres", POSTGRES_DRIVER})
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_POSTGRES_OPTIONS = frozenset({"ssl", "sslmode", "application_name"})
_SYNCHRONOUS = ("FULL", "NORMAL")


@dataclass(frozen=True, slots=True, repr=False)
class DatabaseConfig:
    """Everything a `DatabaseManager` needs to know; checked when it is made.

    :param url: ``postgresql://user:password@host:port/name?sslmode=require``, ``sqlite:///path``,
        the path of a SQLite file, or ``":memory:"`` (a single connection, and the
        data are gone with it).
    :param pool_size: connections that may be open at once; one more never is.
    :param pool_timeout: seconds a caller waits for a free connection before `PoolTimeout`.
    :param pool_recycle: seconds after which an idle connection is replaced.
    :param idle_check: seconds of idleness after which a connection is pinged before use.
    :param connect_timeout: seconds for a server to accept and greet.
    :param statement_timeout: seconds for one statement on PostgreSQL.
    :param lock_timeout: seconds to wait for another writer before `Conflict`.
    :param close_timeout: seconds that `close` waits for what is running.
    :param health_timeout: seconds within which `health_check` answers.
    :param max_retries: repetitions after the first attempt.
    :param retry_base_delay: first pause between attempts; each further one doubles it.
    :param retry_max_delay: no pause is longer.
    :param retry_timeout: no new attempt begins later than this after the first.
    :param synchronous: ``"FULL"``: what SQLite acknowledged is on disk; ``"NORMAL"``: a power cut
        may take the last transactions, a crash of the process none.
    :raises InvalidConfiguration: naming the field and its value, without the password.
    """

    url: str = "sqlite:///jts.db"
    pool_size: int = 8
    pool_timeout: float = 30
    pool_recycle: float = 3600
    idle_check: float = 30
    connect_timeout: float = 10
    statement_timeout: float = 60
    lock_timeout: float = 10
    close_timeout: float = 10
    health_timeout: float = 0.45
    max_retries: int = 20
    retry_base_delay: float = 0.1
    retry_max_delay: float = 2
    retry_timeout: float = 30
    synchronous: str = "FULL"

    def __post_init__(self) -> None:
        url = _parsed(self.url)
        shown = url.render_as_string(hide_password=True)
        object.__setattr__(self, "url", Secret(url.render_as_string(hide_password=False), shown))
        for name, rule, wanted in _RULES:
            value = getattr(self, name)
            if not rule(value):
                raise InvalidConfiguration(f"{name} must be {wanted}, got {value!r}")
        if self.retry_max_delay < self.retry_base_delay:
            raise InvalidConfiguration(
                f"retry_max_delay must be at least retry_base_delay ({self.retry_base_delay!r}), "
                f"got {self.retry_max_delay!r}"
            )

    def __deepcopy__(self, memo: Any) -> DatabaseConfig:
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.redacted!r}, pool_size={self.pool_size})"

    @property
    def sqlalchemy_url(self) -> URL:
        """The URL with the asynchronous driver; options for the driver go another way."""
        return make_url(plain(self.url)).set(query={})

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith(SQLITE_DRIVER)

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for a server and for a database in memory."""
        database = make_url(plain(self.url)).database
        return Path(database) if self.is_sqlite and database and database != MEMORY else None

    @property
    def is_memory(self) -> bool:
        """Whether it is a SQLite database that ends with its only connection."""
        return self.is_sqlite and self.path is None

    @property
    def options(self) -> Mapping[str, str]:
        """What the URL's query says, of PostgreSQL only."""
        return {name: str(value) for name, value in make_url(plain(self.url)).query.items()}

    @property
    def max_connections(self) -> int:
        return 1 if self.is_memory else self.pool_size

    @property
    def hosts(self) -> tuple[str, ...]:
        """What errors name: the server as ``name:port``, or the file."""
        url = make_url(plain(self.url))
        if self.is_sqlite:
            return (url.database or MEMORY,)
        host = url.host or "localhost"
        return (f"[{host}]:{url.port or 5432}" if ":" in host else f"{host}:{url.port or 5432}",)

    @property
    def redacted(self) -> str:
        """The URL for people: the password is masked."""
        return make_url(plain(self.url)).render_as_string(hide_password=True)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, prefix: str = "JTS_DATABASE_"
    ) -> DatabaseConfig:
        """Read ``<prefix><FIELD>`` variables."""
        environ = os.environ if environ is None else environ
        return cls(
            **{
                f.name: _read(prefix + f.name.upper(), environ, str(f.type))
                for f in fields(cls)
                if prefix + f.name.upper() in environ
            }
        )


def _parsed(url: object) -> URL:
    if isinstance(url, Path):
        url = str(url)
    if not isinstance(url, str) or not url or "\0" in url:
        shown = type(url).__name__ if url else repr(url)
        raise InvalidConfiguration(f"url must be a text that says where the database is: {shown}")
    url = plain(url)
    if "://" not in url:
        # Not repeated in the message: it may be a server's, with a password.
        if "@" in url:
            raise InvalidConfiguration(
                "url has no scheme", remedy="Write postgresql://user:password@host:port/name."
            )
        if "?" in url:
            raise InvalidConfiguration("the path of a SQLite file must not hold a '?'")
        return URL.create(SQLITE_DRIVER, database=url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The parser's message repeats the URL, and with it the password.
        raise InvalidConfiguration(
            "url cannot be read",
            remedy=f"Write postgresql://user:password@host:port/name, with {quote('@')} for an @ "
            "in the password.",
        ) from None
    if parsed.drivername in _SQLITE:
        return _sqlite(parsed)
    if url.count("@") > 1 or "@" in (parsed.database or "") or "@" in str(parsed.query):
        raise InvalidConfiguration(
            "url has an @ that belongs to no user and password",
            remedy=f"Percent-encode what is special in user and password: {quote('@')} for an @.",
        )
    if parsed.drivername in _POSTGRES:
        return _postgres(parsed)
    raise InvalidConfiguration(
        f"url has the scheme {parsed.drivername!r}", remedy="Use postgresql:// or sqlite:///path."
    )


def _sqlite(url: URL) -> URL:
    if url.host:
        raise InvalidConfiguration(
            "url names a host for a SQLite file",
            remedy="Write sqlite:///path with three slashes, four for an absolute path.",
        )
    if url.query:
        raise InvalidConfiguration(f"url has the unknown options {sorted(url.query)}")
    return url.set(drivername=SQLITE_DRIVER, database=url.database or MEMORY)


def _postgres(url: URL) -> URL:
    unknown = set(url.query) - _POSTGRES_OPTIONS
    if unknown:
        raise InvalidConfiguration(
            f"url has the unknown options {sorted(unknown)}",
            remedy=f"Known are {', '.join(sorted(_POSTGRES_OPTIONS))}.",
        )
    mode = url.query.get("sslmode", url.query.get("ssl", "prefer"))
    if mode not in _SSL_MODES:
        raise InvalidConfiguration(f"sslmode must be one of {', '.join(_SSL_MODES)}, got {mode!r}")
    if not url.database:
        raise InvalidConfiguration("url names no database")
    return url.set(drivername=POSTGRES_DRIVER)


def _read(name: str, environ: Mapping[str, str], kind: str) -> Any:
    text = environ[name]
    if kind == "str":
        return text
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        raise InvalidConfiguration(f"{name} is {text!r}, which is no {kind}") from None


def _is_count(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _is_seconds(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0


_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("pool_size", _is_count(1, 1000), "a number from 1 to 1000"),
    ("max_retries", _is_count(0, 100), "a number from 0 to 100"),
    ("synchronous", lambda v: v in _SYNCHRONOUS, "FULL or NORMAL"),
    *(
        (f.name, _is_seconds, "a positive number of seconds")
        for f in fields(DatabaseConfig)
        if f.type == "float"
    ),
)
