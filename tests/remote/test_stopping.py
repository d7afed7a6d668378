"""A gateway that is to stop lets what runs end, and one that died leaves nothing in the way."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.errors import ConnectionFailed, InvalidConfiguration
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.testing.contracts.samples import FOREVER, candle
from tests.remote.gateways import served
from tests.remote.wire import channel, same

KEY = SeriesKey("A", Timeframe.M1, "KRX")
_MAIN = "from jts_storage.cli import command; command()"


async def test_a_commit_that_runs_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = InMemoryBackend()
    begun, goes_on = asyncio.Event(), asyncio.Event()
    async with Storage(backend) as storage:
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=3)))
        await gateway.start()
        work = await in_work(backend)
        commit = work.commit

        async def slow(self: Any) -> Any:
            begun.set()
            await goes_on.wait()
            return await commit(self)

        monkeypatch.setattr(work, "commit", slow)
        url = f"grpc://{gateway.address}?max_retries=0"
        async with Storage.open(StorageSettings(url=url)) as client, channel(gateway.address) as to:
            watched = to.unary_stream("/grpc.health.v1.Health/Watch", same, same)(b"")
            assert await health(watched) == "SERVING"

            async def write() -> Any:
                async with client.unit_of_work() as uow:
                    await uow.candles.save_many(KEY, [candle(1)])
                    return await uow.commit()

            writing = asyncio.create_task(write())
            await begun.wait()
            stopping = asyncio.create_task(gateway.stop())
            assert await health(watched) == "NOT_SERVING"
            async with asyncio.timeout(10):
                while True:
                    try:
                        await client.formulas.list()
                    except ConnectionFailed as exc:
                        assert "No gateway answers" in str(exc)
                        break
            assert not writing.done()
            goes_on.set()
            result = await writing
            assert result.commit is not None
            await stopping
        assert len(await storage.candles.get_range(KEY, *FOREVER)) == 1


async def test_who_watches_is_told_and_holds_nothing_up() -> None:
    backend = InMemoryBackend()
    async with Storage(backend):
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=600)))
        await gateway.start()
        asked = [health_pb2.HealthCheckRequest(service=name) for name in ("", "", "unknown")]
        async with channel(gateway.address) as to:
            watch = to.unary_stream("/grpc.health.v1.Health/Watch", same, same)
            first, second, unknown = (watch(each.SerializeToString()) for each in asked)
            assert await health(first) == await health(second) == "SERVING"
            assert await health(unknown) == "SERVICE_UNKNOWN"
            first.cancel()  # the others go on to listen
            async with asyncio.timeout(20):
                stopping = asyncio.create_task(gateway.stop())
                assert await health(second) == "NOT_SERVING"
                assert await second.read() is aio.EOF
                assert await unknown.read() is aio.EOF
                await stopping


async def in_work(backend: InMemoryBackend) -> type[Any]:
    async with backend.unit_of_work("", None) as uow:
        return type(uow._work)


async def health(watched: Any) -> str:
    answer = health_pb2.HealthCheckResponse.FromString(await watched.read())
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def test_sockets_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "serve.sock"
    backend = InMemoryBackend()
    async with Storage(backend):
        with socket.socket(socket.AF_UNIX) as dead:  # of a process that died
            dead.bind(str(path))
        async with served(backend, tmp_path) as gateway:
            assert path.stat().st_mode & 0o777 == 0o600
            with pytest.raises(InvalidConfiguration, match="another gateway serves at"):
                async with served(backend, tmp_path):
                    pass
            settings = StorageSettings(url=f"grpc+{gateway.address.replace('unix:', 'unix://')}")
            async with Storage.open(settings) as client:
                assert await client.formulas.list() == []
        assert not path.exists()
        path.write_text("a file")
        with pytest.raises(InvalidConfiguration, match="is no socket"):
            async with served(backend, tmp_path):
                pass
        assert path.read_text() == "a file"


@pytest.mark.parametrize(
    "name", ["x" * 110, "x" * 300, "file/x.sock", "with space.sock", "per%41cent.sock", "a?b"]
)
async def test_a_place_where_no_socket_can_be_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    backend = InMemoryBackend()
    async with Storage(backend):
        gateway = Gateway(backend, Place(f"unix:{tmp_path / name}"))
        with pytest.raises(InvalidConfiguration, match=r"no socket can be at|cannot listen on"):
            await gateway.start()
    assert [each.name for each in Path(tmp_path).iterdir()] == ["file"]  # noqa: ASYNC240


async def test_a_second_gateway_on_a_port_is_refused(tmp_path: Path) -> None:
    backend = InMemoryBackend()
    async with Storage(backend):
        first = Gateway(backend, Place("127.0.0.1:0"))
        await first.start()
        with pytest.raises(InvalidConfiguration, match=r"cannot listen on .*Is another gateway"):
            await Gateway(backend, Place(first.address)).start()
        await first.stop()
        again = Gateway(backend, Place(first.address))
        await again.start()
        await again.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_ends_well(fresh_settings: StorageSettings, number: signal.Signals) -> None:
    folder = Path(fresh_settings.data_dir)
    folder.chmod(0o700)  # noqa: ASYNC240 - others must not read what is served
    path = folder / "own.sock"  # beside that of the folder itself
    assert fresh_settings.mongo_url is not None
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JTS_")},
        "JTS_DATA_DIR": str(folder),
        "JTS_MONGO_URL": fresh_settings.mongo_url.get_secret_value(),
        "JTS_MONGO_DATABASE": str(fresh_settings.mongo_database),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _MAIN, "serve", "--listen", f"unix:{path}"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
            assert line.startswith(f"Serving {folder}"), line
            line = (await process.stdout.readline()).decode()
            assert "Serving at" in line, line + (await process.stdout.read()).decode()
            async with Storage.open(StorageSettings(url=f"grpc+unix://{path}")) as client:
                async with client.unit_of_work() as uow:
                    await uow.candles.save_many(KEY, [candle(1)])
                    await uow.commit()
                assert len(await client.candles.get_range(KEY, *FOREVER)) == 1
            process.send_signal(number)
            assert await process.wait() == 0, (await process.stdout.read()).decode()
        assert not path.exists()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
