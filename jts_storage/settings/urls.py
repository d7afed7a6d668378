"""Reading the URLs of all stores: what they have in common."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import field_names, from_text

ENCODE: Final = (
    "Percent-encode what is special in user and password, an @, a / or a ? above all, and an @ in"
    " options, too."
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Parts(NamedTuple):
    """``scheme://authority/path?query``, none of it decoded; the path without its slash."""

    scheme: str
    authority: str
    path: str
    query: str


def split(url: str, *, name: str = "url", schemes: str, of_files: frozenset[str]) -> Parts:
    """Take a URL apart, with several hosts or an IPv6 one, which urllib refuses.

    No message repeats a part of it: in a broken URL any part may be of the password.

    :param schemes: what to use, for the error.
    :param of_files: schemes whose path may hold an @.
    :raises InvalidConfiguration: it has no scheme, or an @ that belongs to no user.
    """
    scheme, separator, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise InvalidConfiguration(f"{name} has no scheme", remedy=schemes)
    is_file = scheme in of_files and not authority
    if "@" in query or ("@" in path and not is_file):
        raise InvalidConfiguration(f"{name} has an @ behind its hosts", remedy=ENCODE)
    return Parts(scheme, authority, path, query)


def options(query: str) -> list[tuple[str, str, str]]:
    """Each option of a query: its name and text decoded, and as it stands there.

    MongoDB's driver takes a semicolon between options, too.
    """
    raw = [part for part in query.replace(";", "&").split("&") if part]
    pairs = ((part, *part.partition("=")[::2]) for part in raw)
    return [(unquote_plus(name), unquote_plus(text), part) for part, name, text in pairs]


def take_fields(
    cls: type, query: str, *, but: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """The fields of a configuration that a query names, and the options that are left."""
    known = set(field_names(cls)) - but
    values: dict[str, Any] = {}
    left = []
    for name, text, raw in options(query):
        if name in known:
            values[name] = from_text(cls, name, text, f"{name} in the url")
        else:
            left.append((name, text, raw))
    return values, left


def host_and_port(text: str, default: int, *, schemes: str) -> tuple[str, int]:
    """The two parts of one host, an IPv6 one without its brackets.

    :param default: the port of a host that names none.
    :param schemes: what to use, for the error.
    :raises InvalidConfiguration: it is no host, or its port no port.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default)
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 2**16:
        # Not repeated: it may be a part of a password.
        raise InvalidConfiguration("url has a host without a valid port", remedy=schemes)
    return host.strip("[]"), int(port)


def joined(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
