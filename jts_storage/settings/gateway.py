"""Where a gateway is and how to talk to it."""

from __future__ import annotations

import os
import re
from dataclasses import field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote

from pydantic.dataclasses import dataclass

from jts_storage.domain.secret import MASK, plain
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.fields import (
    STRICT,
    Password,
    Pause,
    PemFile,
    RetryCount,
    RetryPolicy,
    Seconds,
    Text,
    configuration,
    did_you_mean,
    field_names,
)
from jts_storage.settings.urls import joined, split, take_fields

PORT: Final = 7420
_SCHEMES: Final = (
    "Use grpcs://token@host:port,host2:port, grpc://host:port on this machine, or"
    " grpc+unix:///path of a socket."
)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MADE_HERE: Final = frozenset({"addresses", "tls", "token"})

LONGEST_SOCKET: Final = 100
"""Bytes of a socket's path; the system takes 107, and gRPC makes others of its own beside it."""

_PLAIN: Final = re.compile(rb"[\w/.+-]+")
"""What gRPC takes for a path and not for a part of a URL."""


@configuration
@dataclass(frozen=True, slots=True, repr=False, config=STRICT)
class GatewayConfig(RetryPolicy):
    """Everything a client of a gateway needs to know; checked when it is made.

    :param addresses: ``host:port`` of each gateway, or ``unix:/path``; the first that answers is
        used.
    :param tls: whether the connection is encrypted; without it, only this machine is talked to.
    :param token: that the gateway knows, if it asks for one.
    :param timeout: seconds for a call, and for each part of what comes in parts.
    :param commit_timeout: seconds for a commit, after which its outcome is asked for.
    :param connect_timeout: seconds for a gateway to accept and greet.
    :param ca_file: certificates to trust, in place of those of the system.
    :param cert_file: of this client, where the gateway asks for one; with `key_file`.
    :param server_name: that the gateway's certificate has, if it is not the host.
    :param compression: of candles on the way: ``"zstd"`` pays below some 1.2 GBit/s.
    :param max_retries: repetitions of a read after the first attempt; a commit is never repeated.
    :raises InvalidConfiguration: naming the field and its value, without the token.
    """

    addresses: tuple[Text, ...]
    tls: bool = True
    token: Password | None = None
    timeout: Seconds = 30
    commit_timeout: Seconds = 120
    connect_timeout: Seconds = 5
    ca_file: PemFile | None = None
    cert_file: PemFile | None = None
    key_file: PemFile | None = None
    server_name: Text | None = None
    compression: Literal["none", "zstd"] = "none"
    max_retries: RetryCount = 8
    retry_max_delay: Pause = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        self.check_pauses()
        if not self.addresses:
            raise InvalidConfiguration("the url names no gateway", remedy=_SCHEMES)
        if not self.tls and (far := [each for each in self.addresses if not is_near(each)]):
            raise InvalidConfiguration(
                f"{', '.join(far)} would be talked to without encryption",
                remedy="Use grpcs://; grpc:// is for 127.0.0.1 and [::1].",
            )
        if self.token is not None and not _is_sent_as_it_is(plain(self.token)):
            # gRPC would refuse it with the token in its message.
            raise InvalidConfiguration(
                "the token has characters that no token has",
                remedy="Use one that `jts-storage token` made.",
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidConfiguration("cert_file and key_file go together", remedy="Set both.")

    @property
    def redacted(self) -> str:
        """Its address, for messages."""
        user = f"{MASK}@" if self.token is not None else ""
        return f"{'grpcs' if self.tls else 'grpc'}://{user}{','.join(self.addresses)}"

    def __repr__(self) -> str:
        return f"GatewayConfig({self.redacted!r})"


def is_near(address: str) -> bool:
    """Whether an address is on this machine."""
    return address.startswith("unix:") or address.rpartition(":")[0] in _LOOPBACK


def is_socket_path(path: Path) -> bool:
    """Whether a gateway can listen at a socket of this path."""
    name = os.fsencode(path)
    return len(name) <= LONGEST_SOCKET and _PLAIN.fullmatch(name) is not None


def _is_sent_as_it_is(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def read_url(url: str) -> dict[str, Any]:
    """The fields that a URL names.

    :raises InvalidConfiguration: saying what is wrong, without the token.
    """
    parts = split(plain(url), schemes=_SCHEMES, of_files=frozenset({"grpc+unix"}))
    values, left = take_fields(GatewayConfig, parts.query, but=_MADE_HERE)
    if left:
        name = left[0][0]
        hint = did_you_mean(name, field_names(GatewayConfig))
        raise InvalidConfiguration(f"url has an unknown option {name!r}", remedy=hint or _SCHEMES)
    if parts.scheme == "grpc+unix":
        if not parts.path:
            raise InvalidConfiguration("url names no socket", remedy=_SCHEMES)
        token, separator, _ = parts.authority.rpartition("@")
        place = f"unix:/{unquote(parts.path)}"
        return values | _with_token(token, separator) | {"addresses": (place,), "tls": False}
    if parts.scheme not in ("grpc", "grpcs"):
        raise InvalidConfiguration(f"url has the scheme {parts.scheme!r}", remedy=_SCHEMES)
    if parts.path:
        raise InvalidConfiguration("url has a path behind its hosts", remedy=_SCHEMES)
    token, separator, hosts = parts.authority.rpartition("@")
    addresses = tuple(_address(each) for each in hosts.split(",") if each)
    return (
        values
        | _with_token(token, separator)
        | {"addresses": addresses, "tls": parts.scheme == "grpcs"}
    )


def _with_token(token: str, separator: str) -> dict[str, Any]:
    return {"token": unquote(token)} if separator else {}


def _address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(PORT)
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InvalidConfiguration("url has a host without a valid port", remedy=_SCHEMES)
    return joined(host.strip("[]"), int(port))
