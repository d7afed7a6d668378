"""The protocols and the base of the stores that tests use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any, Final, Protocol

from jts_storage.testing.address import Address
from jts_storage.testing.fault_proxy import FaultProxy

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
BOOKS_OF_MIGRATIONS: Final = ("alembic_version", "jts_schema")
"""Prefixes of the tables that record which migrations ran: these are never emptied."""


class Server(Protocol):
    """Something that runs as long as the tests do."""

    def start(self) -> str:
        """Start it and return the URL of its database."""
        ...

    def stop(self) -> None: ...


class Given:
    """A server that was started elsewhere."""

    def __init__(self, url: str) -> None:
        self._url = url

    def start(self) -> str:
        return self._url

    def stop(self) -> None:
        pass


class ScratchStore(Protocol):
    """One database of the tests' own."""

    def start(self) -> None:
        """Start the server; several stores do so at once, each in its thread."""
        ...

    def prepare(self) -> None:
        """Create database and schema. This imports drivers, so it is for one thread."""
        ...

    @property
    def url(self) -> str:
        """Where it is, without a proxy."""
        ...

    @property
    def database(self) -> str:
        """Its name on the server."""
        ...

    @property
    def address(self) -> Address:
        """Where it is for clients that shall meet faults: a proxy, started when first asked."""
        ...

    def clean(self) -> None: ...

    def break_off(self) -> None:
        """End what a test left running, so that the next one finds nothing locked."""
        ...

    def close(self) -> None: ...


class ServerStore(ABC):
    """What stores on a server share: its life, and an address that is made when first asked."""

    def __init__(self, server: Server, database: str = "") -> None:
        self._server = server
        self._database = database
        self._closing = ExitStack()
        self._url = ""
        self._address: Address | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def database(self) -> str:
        return self._database

    def start(self) -> None:
        self._closing.callback(self._server.stop)
        self._url = self._server.start()

    @property
    def address(self) -> Address:
        if self._address is None:
            self._address = self._proxied()
        return self._address

    @abstractmethod
    def _proxied(self) -> Address:
        """Return where the store is, behind a proxy if faults can be made there."""

    def close(self) -> None:
        self._closing.close()


def proxied(host: str, port: int, closing: ExitStack, *, secure: bool) -> FaultProxy | None:
    """Start a proxy, if possible: on this machine only, and not for TLS, which checks the name."""
    if host not in LOOPBACK or secure:
        return None
    return closing.enter_context(FaultProxy(host, port))


def faults_of(proxy: FaultProxy | None) -> dict[str, Any]:
    """The part of an `Address` that a proxy, if there is one, makes possible."""
    if proxy is None:
        return {}
    return {"_faults": proxy.faults, "_open_connections": lambda: proxy.connections.open}
