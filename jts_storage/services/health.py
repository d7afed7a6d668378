"""Whether a service is well, asked in its own protocol: a port that is open says little."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.local_servers.mongod import takes_writes
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.local_servers.redis import ping
from jts_storage.services.stack import HOST

_SECONDS: Final = 3.0
_NO_PROXY: Final = (("grpc.enable_http_proxy", 0),)

log = logging.getLogger(__name__)


def why_not_well(url: str) -> str:
    """Why a service is not well, or nothing.

    :param url: of a `Service`, such as ``redis://127.0.0.1:6379``.
    """
    parts = urlsplit(url)
    assert parts.port is not None
    try:
        return _PROBES[parts.scheme](parts.port, parts.path)
    except (OSError, StorageError) as failure:
        return f"it does not answer: {_first_line(failure)}"
    except Exception as failure:  # drivers have more of them than they say, and nobody may end here
        log.exception("%s could not be asked.", parts.scheme)
        return f"it could not be asked: {_first_line(failure)}"


def _redis(port: int, _: str) -> str:
    answer = ping(port, _SECONDS)
    # Other answers, such as LOADING, come from one that is there and not ready.
    return "" if answer.startswith("+PONG") else f"it says {answer.lstrip('-')!r}"


def _mongodb(port: int, _: str) -> str:
    return "" if takes_writes(port) else "it takes no writes yet"


def _postgres(port: int, _: str) -> str:
    import asyncio

    import asyncpg
    from asyncpg.connect_utils import SessionAttribute

    async def ask() -> str:
        connection = await asyncpg.connect(
            host=HOST,
            port=port,
            user=LocalPostgres.user,
            database="postgres",
            timeout=_SECONDS,
            # What PGSSLMODE and its like ask for is meant for other servers.
            ssl=False,
            password="",
            target_session_attrs=SessionAttribute.any,
        )
        try:
            answer = await connection.fetchval("SELECT 1", timeout=_SECONDS)
        finally:
            await connection.close(timeout=_SECONDS)
        return "" if answer == 1 else f"SELECT 1 gives {answer!r}"

    try:
        return asyncio.run(ask())
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as exc:
        raise ConnectionFailed(str(exc) or type(exc).__name__) from exc


def _clickhouse(port: int, _: str) -> str:
    from jts_storage.clickhouse import connector
    from jts_storage.clickhouse.config import ClickHouseConfig
    from jts_storage.clickhouse.errors import translated

    _refuse_at_once(port)  # the driver logs a refusal with a traceback
    config = ClickHouseConfig(
        host=HOST,
        port=port,
        database="default",
        connect_timeout=_SECONDS,
        send_receive_timeout=_SECONDS,
    )
    with translated("a health check", config.hosts):
        connection = connector.connect(config)
        try:
            answer = connection.transport.execute("SELECT 1")
        finally:
            connection.close()
    return "" if answer == [(1,)] else f"SELECT 1 gives {answer!r}"


def _grpc(port: int, _: str) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"{HOST}:{port}", _NO_PROXY) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=_SECONDS)
        except grpc.RpcError as exc:
            raise ConnectionFailed(str(exc.details())) from exc
    is_well = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if is_well else "it answers, and one of its stores does not"


def _http(port: int, path: str) -> str:
    connection = http.client.HTTPConnection(HOST, port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except http.client.HTTPException as exc:
        raise ConnectionFailed(str(exc) or type(exc).__name__) from exc
    finally:
        connection.close()
    return "" if status == http.client.OK else f"{path} gives {status}"


def _tls(port: int, _: str) -> str:
    """Of a service that ends TLS for another: whether it shakes hands. Whom others should trust is
    not asked here.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((HOST, port), _SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=HOST),
    ):
        return ""


def _refuse_at_once(port: int) -> None:
    """:raises OSError: nobody listens."""
    socket.create_connection((HOST, port), _SECONDS).close()


_PROBES: Final[Mapping[str, Callable[[int, str], str]]] = {
    "redis": _redis,
    "mongodb": _mongodb,
    "postgresql": _postgres,
    "clickhouse": _clickhouse,
    "grpc": _grpc,
    "http": _http,
    "tls": _tls,
}


def _first_line(failure: Exception) -> str:
    lines = str(failure).strip().splitlines()
    return (lines[0] if lines else type(failure).__name__)[:200]
