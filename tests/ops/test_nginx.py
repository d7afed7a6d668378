"""nginx before a gateway: what is encrypted, who is let in, and what a reload does to streams."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.domain.events import CandlesImported
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.local_servers.folder import free_port
from jts_storage.remote.server.tokens import line_of, new_token
from jts_storage.services.certs import make_certificates
from jts_storage.testing.factories import make_candles, make_formula
from tests.ops.nginx import TEMPLATE, Edge, installed, served, variables
from tests.prepared import Prepared

TOKEN = new_token()
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
ROWS = 200_000
STREAM = "/jts.storage.v1.Candles/Stream"
SUBSCRIBE = "/jts.storage.v1.Gateway/Subscribe"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder, ["gateway"])
    return folder


@pytest.fixture(scope="module")
def dashboards() -> Iterator[int]:
    """A page that tells how it was asked for, in place of Grafana."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header(
                "X-Seen", f"{self.headers['Host']} {self.headers['X-Forwarded-Proto']}"
            )
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def gateway(
    certificates: Path,
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[tuple[int, int]]:
    """The ports of `jts-storage serve` and of its metrics; it lets nobody in but nginx."""
    installed()
    for engine in ("chDB", "SQLite", "mongod"):
        engine_used(engine)
    folder = tmp_path_factory.mktemp("gateway")
    tokens = folder / "tokens"
    tokens.write_text(line_of("tests", "write", TOKEN))
    tokens.chmod(0o600)
    listen, metrics = free_port(), free_port()
    server = certificates / "server"
    arguments = [
        *("--listen", f"127.0.0.1:{listen}", "--metrics", f"127.0.0.1:{metrics}"),
        *("--tls-cert", str(server / "server.pem"), "--tls-key", str(server / "server.key")),
        *("--client-ca", str(server / "ca.pem"), "--tokens", str(tokens), "--grace", "0.5"),
    ]
    with prepared.stores(folder) as settings:
        folder.chmod(0o700)  # it would not be served otherwise
        assert settings.mongo_url is not None
        environment = {
            **os.environ,
            "JTS_DATA_DIR": str(settings.data_dir),
            "JTS_MONGO_DATABASE": str(settings.mongo_database),
            "JTS_MONGO_URL": settings.mongo_url.get_secret_value(),
        }
        with served(arguments, environment, folder):
            yield listen, metrics


@pytest.fixture(scope="module")
def edge(
    certificates: Path,
    gateway: tuple[int, int],
    dashboards: int,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Edge]:
    engine_used("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    behind = {
        "EDGE_GATEWAY": f"127.0.0.1:{gateway[0]}",
        "EDGE_METRICS": f"127.0.0.1:{gateway[1]}",
        "EDGE_DASHBOARDS": f"127.0.0.1:{dashboards}",
    }
    found = Edge(folder, certificates, behind)
    with ExitStack() as ending:
        found.start()
        ending.callback(found.stop)
        yield found


def client(edge: Edge, token: str = TOKEN) -> StorageSettings:
    authority = edge.certificates / "client" / "ca.pem"
    url = f"grpcs://{token}@localhost:{edge.https}?ca_file={authority}&connect_timeout=30"
    return StorageSettings(url=url)


def test_nginx_accepts_the_file_without_a_warning(edge: Edge) -> None:
    assert variables(edge.file.read_text()) == set()
    assert {name[:5] for name in variables(TEMPLATE.read_text())} == {"EDGE_"}
    done = edge.run("-t")
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr + edge.log.read_text()


def spoken(edge: Edge, version: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0") -> str:
    """What TLS is spoken with a client that speaks one version only.

    :raises OSError: none.
    """
    context = edge.context(minimum_version=version, maximum_version=version)
    context.set_ciphers(ciphers)
    with (
        socket.create_connection(("127.0.0.1", edge.https), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as found,
    ):
        return str(found.version())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_is_1_3_or_1_2_and_nothing_older_or_weaker(edge: Edge) -> None:
    assert spoken(edge, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert spoken(edge, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            spoken(edge, version)
    for weak in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            spoken(edge, ssl.TLSVersion.TLSv1_2, f"{weak}:@SECLEVEL=0")


def test_http_is_sent_to_https_with_its_method(edge: Edge) -> None:
    answer = edge.get("/d/overview?from=now-1h", tls=False)
    assert answer.status == 308
    place = f"https://storage.example.com:{edge.https}/d/overview?from=now-1h"
    assert answer.getheader("Location") == place
    # Of a header that came unencrypted nobody may believe anything.
    assert answer.getheader("Strict-Transport-Security") is None
    assert edge.get("/metrics", tls=False).status == 308


def test_pages_say_that_they_are_had_encrypted_only(edge: Edge) -> None:
    answer = edge.get("/")
    assert answer.status == 200
    assert answer.getheader("Strict-Transport-Security") == "max-age=63072000"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("X-Seen") == f"storage.example.com:{edge.https} https"
    assert answer.getheader("Server") != "nginx/1.22.1"


def test_metrics_are_told_on_this_host_alone(edge: Edge) -> None:
    assert edge.get("/metrics").status == 200
    refused = edge.get("/metrics", source="127.0.0.2")
    assert refused.status == 403
    assert refused.getheader("Strict-Transport-Security")
    for path in ("/metrics/", "/METRICS", "//metrics", "/x/../metrics", "/%6detrics"):
        answer = edge.get(path, source="127.0.0.2")
        assert answer.status == 403 or answer.getheader("X-Seen"), path  # or the dashboards'


async def test_our_client_goes_through(edge: Edge) -> None:
    async with Storage.open(client(edge)) as storage:
        async with storage.unit_of_work(source="collector") as uow:
            await uow.candles.save_many(KEY, make_candles(KEY, 390))
            await uow.formulas.save(make_formula("f"))
            await uow.commit()
        assert await storage.candles.count(KEY) == 390
        assert (await storage.health()).is_well
    with pytest.raises(StorageError, match="does not know this client"):
        async with Storage.open(client(edge, new_token())):
            pass


async def test_nobody_goes_round_nginx(edge: Edge, gateway: tuple[int, int]) -> None:
    authority = edge.certificates / "client" / "ca.pem"
    url = f"grpcs://{TOKEN}@localhost:{gateway[0]}?ca_file={authority}&connect_timeout=30"
    with pytest.raises(ConnectionFailed):
        async with Storage.open(StorageSettings(url=f"{url}&max_retries=0")):
            pass
    shown = authority.with_name("client.pem")
    url += f"&cert_file={shown}&key_file={shown.with_suffix('.key')}"
    async with Storage.open(StorageSettings(url=url)) as storage:
        assert (await storage.health()).is_well


def shown(edge: Edge) -> str:
    """The certificate that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", edge.https))


async def test_a_renewed_certificate_is_taken_and_no_stream_is_dropped(edge: Edge) -> None:
    key = SeriesKey("000660", Timeframe.M1, "KRX")
    candles = make_candles(key, ROWS)
    before, workers = await asyncio.to_thread(shown, edge), edge.workers()
    async with Storage.open(client(edge)) as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, candles)
            await uow.commit()
        reading = storage.candles.stream(
            key, candles[0].timestamp, candles[-1].timestamp, block_rows=1_000
        )
        async with storage.subscribe("scanner", CandlesImported, from_="now") as events:
            rows = len(await anext(reading))  # of the rest little has been sent yet

            await asyncio.to_thread(make_certificates, edge.certificates, renew=True)
            assert await asyncio.to_thread(shown, edge) == before
            await asyncio.to_thread(edge.reload)
            renewed = await newly_shown(edge, before)
            assert renewed == (edge.certificates / "server" / "server.pem").read_text()

            assert edge.requests(STREAM) == []  # it runs on

            async with Storage.open(client(edge)) as other, other.unit_of_work() as uow:
                uow.events.add(CandlesImported(series=KEY, rows=1))
                await uow.commit()
            assert await events.next(within=30) is not None
            await events.acknowledge()
            rows += sum([len(block) async for block in reading])
        assert rows == ROWS
    # Once each: the kit would have asked again for what had been cut off, and nobody would see it.
    await ended(edge, workers)
    assert edge.requests(STREAM) == [200]
    assert edge.requests(SUBSCRIBE) == [200]


@pytest.mark.slow  # nginx gives up after a minute, unless it is told not to
async def test_streams_that_wait_are_not_given_up(edge: Edge) -> None:
    """A reader that works on what it has got, and a subscription without events."""
    key = SeriesKey("035720", Timeframe.M1, "KRX")
    candles = make_candles(key, ROWS)
    begun = [len(edge.requests(path)) for path in (STREAM, SUBSCRIBE)]
    async with Storage.open(client(edge)) as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, candles)
            await uow.commit()
        reading = storage.candles.stream(
            key, candles[0].timestamp, candles[-1].timestamp, block_rows=1_000
        )
        async with storage.subscribe("silent", CandlesImported, from_="now") as events:
            rows = len(await anext(reading))
            await asyncio.sleep(75)
            assert [len(edge.requests(path)) for path in (STREAM, SUBSCRIBE)] == begun
            rows += sum([len(block) async for block in reading])
            assert rows == ROWS
            async with storage.unit_of_work() as uow:
                uow.events.add(CandlesImported(series=KEY, rows=1))
                await uow.commit()
            assert await events.next(within=30) is not None
            await events.acknowledge()


async def newly_shown(edge: Edge, before: str) -> str:
    """Old workers take connections until they have heard of their end."""
    for _ in range(600):
        found = await asyncio.to_thread(shown, edge)
        if found != before:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("the old certificate is still shown")


async def ended(edge: Edge, workers: set[int]) -> None:
    """The old workers end with their last stream."""
    for _ in range(600):
        if not workers & edge.workers():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("old workers are still there")


def test_no_token_is_in_its_log(edge: Edge) -> None:
    assert TOKEN not in edge.log.read_text()


def test_its_folder_of_state_is_all_that_it_writes_to(edge: Edge) -> None:
    """A container's root is read-only, but for this folder."""
    opened = subprocess.run(
        ["ls", "-l", *(f"/proc/{pid}/fd" for pid in (edge.process.pid, *edge.workers()))],
        capture_output=True,
        text=True,
    ).stdout
    files = {line.rpartition("-> ")[2] for line in opened.splitlines() if "-> /" in line}
    outside = {
        file
        for file in files
        if not file.startswith((str(edge.folder), "/dev/", "/proc/", "/[aio]")) and " " not in file
    }
    assert outside == set()
    assert (edge.folder / "nginx.pid").exists()
