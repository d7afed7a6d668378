"""Where Redis is and how to talk to it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

from pydantic import Field as Limit
from pydantic.dataclasses import dataclass

from jts_storage.domain.secret import MASK, Secret, plain
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import (
    STRICT,
    Password,
    PemFile,
    PoolSize,
    Seconds,
    Url,
    check_tls_files,
    configuration,
    did_you_mean,
    field_names,
    must_be,
)
from jts_storage.settings.urls import (
    ENCODE,
    Parts,
    host_and_port,
    joined,
    split,
    take_fields,
)
from jts_storage.settings.variables import of_variables

_SCHEMES: Final = (
    "Use redis://host:6379/0, rediss:// with TLS, redis+sentinel://host:26379,host2/service/0 or"
    " redis+cluster://host:6379,host2."
)
_KINDS: Final = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_PORTS: Final = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_CREDENTIALS: Final = re.compile(r"(?<=://).*@")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SIZE: Final = re.compile(r"[1-9][0-9]*(?:[kmg]b?)?", re.IGNORECASE)

Kind = Literal["single", "sentinel", "cluster"]
Namespace = Annotated[
    str, must_be(lambda v: bool(_NAMESPACE.fullmatch(v)), "letters, digits, '_', '.' and '-'")
]
Size = Annotated[str, must_be(lambda v: bool(_SIZE.fullmatch(v)), 'a size such as "512mb"')]
Eviction = Literal[
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "noeviction",
]


@configuration
@dataclass(frozen=True, slots=True, repr=False, config=STRICT)
class RedisConfig:
    """Everything a `RedisManager` needs to know; checked when it is made.

    :param url: ``redis://user:password@host:6379/0``, ``rediss://`` with TLS,
        ``redis+sentinel://host:26379,host2/service/0`` or ``redis+cluster://host:6379,host2``.
        Other fields of this class may be options of the URL.
    :param password: of the user, where the URL has none.
    :param sentinel_password: of the sentinels, if they ask for one.
    :param namespace: what every key begins with: services that share stores share it, too.
    :param timeout: seconds for a command, connecting included, after which Redis is left alone.
    :param pool_size: connections that may be open at once; a further caller waits for one.
    :param max_memory: what `configure_eviction` sets Redis to, such as ``512mb``.
    :param eviction: what Redis does when it is full, as `configure_eviction` sets it.
    :param max_stale: seconds that a cached value may outlive a commit that Redis was not told of.
    :param coherence: ``"bounded"``: a commit goes on while Redis is away, and what it leaves stale
        lasts `max_stale`; ``"strict"``: such a commit is refused.
    :param lease: seconds for which a writer keeps readers away from a cached value, if it dies.
    :param ca_file: PEM file of the authorities that certificates are checked against.
    :param cert_file: PEM file of the client's certificate.
    :param key_file: PEM file of the client's key.
    :param verify: whether the server's certificate is checked.
    :param health_timeout: seconds within which `health_check` answers.
    :raises InvalidConfiguration: naming the field and its value, without the password.
    """

    url: Url = "redis://localhost:6379/0"
    password: Password | None = field(default=None, repr=False)
    sentinel_password: Password | None = field(default=None, repr=False)
    namespace: Namespace = "jts"
    timeout: Seconds = 0.05
    pool_size: PoolSize = 32
    max_memory: Size | None = None
    eviction: Eviction = "allkeys-lru"
    max_stale: Annotated[float, Limit(ge=1, le=3600)] = 30.0
    coherence: Literal["bounded", "strict"] = "bounded"
    lease: Annotated[float, Limit(ge=1, le=3600)] = 30.0
    ca_file: PemFile | None = None
    cert_file: PemFile | None = None
    key_file: PemFile | None = None
    verify: bool = True
    health_timeout: Annotated[float, Limit(ge=0.01, le=0.5)] = 0.45

    @classmethod
    def _expanded(cls, given: dict[str, Any]) -> dict[str, Any]:
        url = given.get("url")
        if not isinstance(url, str):
            return given
        return read_url(plain(url)) | {name: v for name, v in given.items() if name != "url"}

    def __post_init__(self) -> None:
        parts = _parts(plain(self.url))
        _check(parts)
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidConfiguration("cert_file and key_file go together", remedy="Set both.")
        files = ("ca_file", "cert_file", "key_file")
        check_tls_files(self, files, uses_tls=self.tls, remedy="Use rediss:// in the url.")
        object.__setattr__(self, "url", Secret(plain(self.url), self.redacted))

    def __deepcopy__(self, memo: Any) -> RedisConfig:
        return self

    def __repr__(self) -> str:
        return f"RedisConfig({self.redacted!r}, namespace={self.namespace!r})"

    @property
    def kind(self) -> Kind:
        """One server, a primary that sentinels name, or a cluster."""
        return _KINDS[_parts(plain(self.url)).scheme][0]  # type: ignore[return-value]

    @property
    def tls(self) -> bool:
        return _KINDS[_parts(plain(self.url)).scheme][1]

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """Host and port of the server, of the sentinels, or of nodes of the cluster."""
        return _nodes(_parts(plain(self.url)))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The same as ``name:port``: what errors name."""
        return tuple(joined(host, port) for host, port in self.nodes)

    @property
    def username(self) -> str | None:
        return unquote(self._credentials[0]) or None

    @property
    def secret(self) -> str | None:
        """The password, of the field or of the URL."""
        if self.password is not None:
            return plain(self.password)
        return unquote(self._credentials[1]) or None

    @property
    def service(self) -> str:
        """What the sentinels call the primary."""
        return _path(_parts(plain(self.url)))[0]

    @property
    def db(self) -> int:
        """The number of the database."""
        return _path(_parts(plain(self.url)))[1]

    @property
    def redacted(self) -> str:
        """The URL for people: credentials are masked."""
        return _CREDENTIALS.sub(f"{MASK}@", plain(self.url))

    @property
    def _credentials(self) -> tuple[str, str]:
        user, _, password = _parts(plain(self.url)).authority.rpartition("@")[0].partition(":")
        return user, password

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, prefix: str = "JTS_REDIS_"
    ) -> RedisConfig:
        """Read ``<prefix><FIELD>`` variables; an empty one is not set."""
        return of_variables(cls, os.environ if environ is None else environ, prefix, read_url)


def read_url(url: str) -> dict[str, Any]:
    """The fields that a URL names, and the URL without them.

    :raises InvalidConfiguration: saying what is wrong, without the password.
    """
    parts = _parts(url)
    # The address is checked first: if it is wrong, options may be a part of the password.
    _check(parts)
    values, left = take_fields(RedisConfig, parts.query, but=frozenset({"url"}))
    if left:
        known = tuple(name for name in field_names(RedisConfig) if name != "url")
        if any("password" in name for name in values):  # it may hold an &
            raise InvalidConfiguration(
                "url has an unknown option beside its password", remedy=ENCODE
            )
        raise InvalidConfiguration(
            f"url has the unknown option {left[0][0]!r}", remedy=did_you_mean(left[0][0], known)
        )
    return {"url": url.partition("?")[0]} | values


def _parts(url: str) -> Parts:
    return split(url, schemes=_SCHEMES, of_files=frozenset())


def _check(parts: Parts) -> None:
    """:raises InvalidConfiguration: it is no address of a Redis."""
    if parts.scheme not in _KINDS:
        raise InvalidConfiguration(f"url has the scheme {parts.scheme!r}", remedy=_SCHEMES)
    if "/" in parts.authority or len(_nodes(parts)) == 0:
        raise InvalidConfiguration("url names no host", remedy=_SCHEMES)
    if _KINDS[parts.scheme][0] == "single" and len(_nodes(parts)) > 1:
        raise InvalidConfiguration("url names several hosts of one server", remedy=_SCHEMES)
    service, db = _path(parts)
    if _KINDS[parts.scheme][0] == "sentinel" and not service:
        raise InvalidConfiguration("url names no service of the sentinels", remedy=_SCHEMES)
    if _KINDS[parts.scheme][0] == "cluster" and db:
        raise InvalidConfiguration("url names a database, and a cluster has only 0")


def _nodes(parts: Parts) -> tuple[tuple[str, int], ...]:
    kind = _KINDS[parts.scheme][0]
    hosts = parts.authority.rpartition("@")[2]
    return tuple(
        host_and_port(each.strip(), _PORTS[kind], schemes=_SCHEMES)
        for each in hosts.split(",")
        if each.strip()
    )


def _path(parts: Parts) -> tuple[str, int]:
    """The service of sentinels, and the number of the database."""
    path = unquote(parts.path).strip("/")
    service = ""
    if _KINDS[parts.scheme][0] == "sentinel":
        service, _, path = path.partition("/")
    if path and not (path.isascii() and path.isdecimal()):
        raise InvalidConfiguration("url has a database that is no number", remedy=_SCHEMES)
    return service, int(path or 0)
