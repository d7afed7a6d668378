"""The server itself: where it listens, with what certificate, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2_grpc

from jts_storage._version import __version__
from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.proto.jts.storage.v1 import work_pb2
from jts_storage.remote.protocol import BOTH_ENDS, CAPABILITIES, HANDLERS, MAJOR, MINOR, PACKAGE
from jts_storage.remote.server.calls import Context, handlers
from jts_storage.remote.server.guard import Guard
from jts_storage.remote.server.handlers import Listeners
from jts_storage.remote.server.health import HealthServicer
from jts_storage.remote.server.limits import Limits
from jts_storage.remote.server.served import Served, ServedBackend
from jts_storage.remote.server.sessions import Works
from jts_storage.remote.server.subscriptions import Consumers
from jts_storage.remote.server.tokens import Tokens
from jts_storage.settings.gateway import LONGEST_SOCKET, is_near, is_socket_path

_OPTIONS: Final = (
    *BOTH_ENDS,
    ("grpc.so_reuseport", 0),  # a second gateway on the port is an error, not a half of the calls
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    # A client whose host is gone must not keep an event for as long as a handler may take.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
_LOOK_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway listens, and who may come.

    :param listen: ``host:port``, or ``unix:/path``.
    :param tokens: None lets everybody in who reaches it, on this machine only.
    :param client_ca: certificates that clients must have one of.
    """

    listen: str
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca: Path | None = None
    tokens: Tokens | None = None
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """:raises InvalidConfiguration: what is sent there could be read, or asked, by others."""
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidConfiguration(
                "a certificate and its key go together",
                remedy="Give --tls-cert and --tls-key.",
            )
        if self.client_ca is not None and self.cert_file is None:
            raise InvalidConfiguration(
                "clients are to show certificates, and the gateway has none",
                remedy="Give --tls-cert and --tls-key, too.",
            )
        if is_near(self.listen):
            return
        if self.cert_file is None:
            raise InvalidConfiguration(
                f"{self.listen} would be served without encryption",
                remedy="Give --tls-cert and --tls-key, or listen on 127.0.0.1 or unix:PATH.",
            )
        if self.tokens is None and self.client_ca is None:
            raise InvalidConfiguration(
                f"{self.listen} would be served to everybody",
                remedy="Give --tokens FILE, or --client-ca.",
            )


class Gateway:
    """Serves a backend that is open. It belongs to one event loop."""

    def __init__(self, backend: ServedBackend, place: Place) -> None:
        place.check()
        self._backend, self._place = backend, place
        self._server: aio.Server | None = None
        self._health = HealthServicer()
        self._consumers, self._listeners = Consumers(backend), Listeners(backend)
        self._looking: asyncio.Task[None] | None = None
        self._socket: tuple[int, int] | None = None
        self.address = place.listen
        """Where it listens: the port that was free where port 0 was asked for."""

    async def start(self) -> None:
        """
        :raises InvalidConfiguration: it cannot listen there, or the certificate is none.
        """
        place = self._place
        server = aio.server(
            interceptors=[Guard(place.tokens)],
            options=_OPTIONS,
            maximum_concurrent_rpcs=place.limits.calls,
        )
        works = Works(self._backend, place.limits)
        self._consumers, self._listeners = Consumers(self._backend), Listeners(self._backend)
        for handler in handlers(Served(self._backend)):
            server.add_generic_rpc_handlers((handler,))
        server.add_generic_rpc_handlers((self._own_handler(works),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._listen(server)
        self._server = server
        await self._look()
        await server.start()
        self._looking = asyncio.create_task(self._look_again())
        log.info("Serving at %s.", self.address)

    async def stop(self) -> None:
        """Take no more calls, and let those that run end, for as long as the limits say."""
        server, self._server = self._server, None
        if self._looking is not None:
            self._looking.cancel()
        if server is None:
            return
        self._health.end()  # these would not end by themselves
        self._consumers.end()
        self._listeners.end()
        await server.stop(self._place.limits.grace_seconds)
        self._remove_socket()

    def _remove_socket(self) -> None:
        """Unless another gateway has it by now."""
        path = Path(self.address.removeprefix("unix:"))
        if self._socket is not None and self._socket == _identity(path):
            with suppress(OSError):
                path.unlink()

    async def wait(self) -> None:
        """Return once it has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()

    def _listen(self, server: aio.Server) -> None:
        place = self._place
        if place.listen.startswith("unix:"):
            self._listen_on_socket(server, Path(place.listen.removeprefix("unix:")))
            return
        try:
            if place.cert_file is None or place.key_file is None:
                port = server.add_insecure_port(place.listen)
            else:
                port = server.add_secure_port(place.listen, _credentials(place))
        except (RuntimeError, OSError) as exc:
            raise InvalidConfiguration(
                f"cannot listen on {place.listen}: {str(exc).splitlines()[0]}",
                remedy="Is another gateway running there, or the certificate unreadable?",
            ) from exc
        self.address = f"{place.listen.rpartition(':')[0]}:{port}"

    def _listen_on_socket(self, server: aio.Server, path: Path) -> None:
        if not is_socket_path(path):
            raise InvalidConfiguration(
                f"no socket can be at {path}",
                remedy=f"At most {LONGEST_SOCKET} letters, digits and _ / . + - make its path.",
            )
        try:
            _make_way(path)
        except OSError as exc:
            raise InvalidConfiguration(
                f"cannot listen on {path}: {exc.strerror}",
                remedy="Name a place in a folder of this user.",
            ) from exc
        before = os.umask(0o177)  # nobody else may connect, from the first moment on
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as exc:
            raise InvalidConfiguration(
                f"cannot listen on {path}: {str(exc).splitlines()[0]}",
                remedy="May this user write there?",
            ) from exc
        finally:
            os.umask(before)
        self._socket = _identity(path)

    def _own_handler(self, works: Works) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            f"{PACKAGE}.Gateway",
            {
                "GetServer": grpc.unary_unary_rpc_method_handler(
                    self._greet,
                    response_serializer=pb.ServerAnswer.SerializeToString,
                ),
                "Subscribe": _consuming(self._consumers.subscribe),
                "Listen": _consuming(self._consumers.listen),
                "Handle": grpc.stream_stream_rpc_method_handler(
                    self._listeners.listen,
                    response_serializer=work_pb2.HandlersAnswer.SerializeToString,
                ),
                "Commit": grpc.unary_unary_rpc_method_handler(
                    works.commit,
                    response_serializer=work_pb2.Committed.SerializeToString,
                ),
                "Work": grpc.stream_stream_rpc_method_handler(
                    works.work,
                    response_serializer=work_pb2.WorkAnswer.SerializeToString,
                ),
            },
        )

    async def _greet(self, _asked: bytes, _: Context) -> pb.ServerAnswer:
        return pb.ServerAnswer(
            major=MAJOR,
            minor=MINOR,
            version=__version__,
            capabilities=(
                *CAPABILITIES,
                *([HANDLERS] if self._backend.subscriptions.keeps_events else []),
            ),
            models=[model.name for model in self._backend.models],
        )

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Tell by store whether it answers."""
        try:
            answers = dict(await self._backend.health())
        except StorageError:
            answers = {}
        self._health.set({**answers, "": bool(answers) and all(answers.values())})


def _consuming(method: Any) -> Any:
    return grpc.stream_stream_rpc_method_handler(
        method,
        response_serializer=work_pb2.SubscriptionAnswer.SerializeToString,
    )


def _make_way(path: Path) -> None:
    """Make the folder of a socket, and remove that of a process that died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise InvalidConfiguration(f"{path} is there, and is no socket")
    if _is_listened_to(path):
        raise InvalidConfiguration(
            f"another gateway serves at {path}", remedy="Stop it, or listen elsewhere."
        )
    path.unlink()


def _is_listened_to(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1)
        try:
            asking.connect(str(path))
        except TimeoutError:
            return True
        except OSError:
            return False
        return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _credentials(place: Place) -> grpc.ServerCredentials:
    assert place.cert_file is not None
    assert place.key_file is not None
    authority = None if place.client_ca is None else place.client_ca.read_bytes()
    pair = (place.key_file.read_bytes(), place.cert_file.read_bytes())
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authority, require_client_auth=authority is not None
    )
