"""Gateways die, hang and come back: what only reads goes on, nothing twice and nothing missing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jts_storage import FormulaCategory, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage import sync as blocking
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.remote.resuming import Resuming
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.testing.fault_proxy import FaultProxy
from tests.remote.gateway_processes import memory_gateway

KEYS = [SeriesKey(f"S{number}", Timeframe.M1, "KRX") for number in range(6)]
LONG = SeriesKey("S2", Timeframe.M1, "KRX")
ROWS, MANY = 300, 5_000


class Net:
    """A backend behind gateways that each have a proxy before them."""

    def __init__(self, backend: InMemoryBackend, storage: Storage) -> None:
        self.backend, self.storage = backend, storage
        self.gateways: list[Gateway] = []
        self.proxies: list[FaultProxy] = []

    async def add(self, **limits: Any) -> FaultProxy:
        bounds = Limits(**{"grace_seconds": 0.2, **limits})
        gateway = Gateway(self.backend, Place("127.0.0.1:0", limits=bounds))
        await gateway.start()
        host, _, port = gateway.address.rpartition(":")
        proxy = FaultProxy(host, int(port)).start()
        self.gateways.append(gateway)
        self.proxies.append(proxy)
        return proxy

    def settings(self, **options: Any) -> StorageSettings:
        addresses = ",".join(f"{proxy.host}:{proxy.port}" for proxy in self.proxies)
        given = "&".join(f"{name}={value}" for name, value in options.items())
        return StorageSettings(url=f"grpc://{addresses}?retry_base_delay=0.02&{given}")

    async def close(self) -> None:
        for proxy in self.proxies:
            proxy.stop()
        for gateway in self.gateways:
            await gateway.stop()


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    backend = InMemoryBackend()
    async with Storage(backend) as storage:
        async with storage.unit_of_work() as uow:
            for number, key in enumerate(KEYS):
                rows = MANY if key == LONG else ROWS
                await uow.candles.save_many(key, make_candles(key, rows, seed=number))
            await uow.formulas.save(make_formula("f"))
            await uow.commit()
        net = Net(backend, storage)
        yield net
        await net.close()


async def broken(proxy: FaultProxy, after: int) -> None:
    """As a gateway that is killed, and is back a moment later."""
    proxy.faults.refuse()
    await asyncio.sleep(0.05)
    proxy.faults.clear()


@pytest.mark.parametrize("breaks", [1, 2, 5])
async def test_a_stream_of_candles_goes_on(net: Net, breaks: int) -> None:
    proxy = await net.add()
    async with Storage.open(net.settings()) as client:
        found, number = [], 0
        async for block in client.candles.stream(LONG, *FOREVER, block_rows=100):
            found += [each.timestamp for each in block]
            number += 1
            if number <= breaks:
                await broken(proxy, number)
        expected = await net.storage.candles.get_range(LONG, *FOREVER)
    assert found == [each.timestamp for each in expected]


@pytest.mark.parametrize(
    "asked",
    [{}, {"keys": KEYS[1:4]}, {"keys": reversed(KEYS)}, {"exchange": "KRX"}, {"fields": ["close"]}],
)
async def test_a_stream_of_panels_goes_on(net: Net, asked: dict[str, Any]) -> None:
    proxy = await net.add()
    keys = list(asked["keys"]) if "keys" in asked else None
    async with Storage.open(net.settings()) as client:
        found: list[tuple[SeriesKey, int]] = []
        number = 0
        given = asked if keys is None else {**asked, "keys": iter(keys)}
        async for panel in client.candles.stream_panels(
            Timeframe.M1, *FOREVER, block_rows=700, **given
        ):
            found += rows_of(panel)
            number += 1
            if number in (1, 2, 5):
                await broken(proxy, number)
        whole = await net.storage.candles.get_panel(
            Timeframe.M1, *FOREVER, **({**asked, "keys": keys} if keys else asked)
        )
    assert number > 5 or keys
    assert found == rows_of(whole)


def rows_of(panel: Any) -> list[tuple[SeriesKey, int]]:
    names, offsets = list(panel.keys()), panel.offsets.tolist()
    stamps = panel.column("timestamp").tolist()
    return [
        (name, stamp)
        for name, begin, end in zip(names, offsets, offsets[1:], strict=False)
        for stamp in stamps[begin:end]
    ]


async def test_a_range_that_runs_backwards_is_refused_as_ever(net: Net) -> None:
    await net.add()
    async with Storage.open(net.settings()) as client:
        with pytest.raises(StorageError, match="must not lie before start"):
            async for _ in client.candles.stream(LONG, FOREVER[1], FOREVER[0]):
                pass


async def test_values_in_lists_are_counted() -> None:
    resuming = Resuming("Backtests/Trades", {"result_id": "x"})
    values = [[1, 2, 3], [4, 5, 6], [7]]
    found = [each for value in values[:2] for each in resuming.new(value)]
    assert resuming.goes_on()
    assert [arguments async for arguments in resuming.rest(no_call)] == [{"result_id": "x"}]
    found += [each for value in ([1, 2, 3, 4], [5, 6, 7]) for each in resuming.new(value)]
    assert found == [1, 2, 3, 4, 5, 6, 7]


async def no_call(*_: Any) -> Any:
    raise AssertionError


async def test_a_panel_whose_last_candle_is_at_the_end(net: Net) -> None:
    """Nothing is left of its series: the next one is asked for."""
    panel = await net.storage.candles.get_panel(Timeframe.M1, *FOREVER, keys=KEYS[:1])
    end = list(panel.column("timestamp"))[-1]
    resuming = Resuming(
        "Candles/StreamPanels", {"start": FOREVER[0], "end": moment(end), "keys": KEYS}
    )
    resuming.new(panel)
    asked = [arguments["keys"] async for arguments in resuming.rest(no_call)]
    assert asked == [KEYS[1:]]


def moment(milliseconds: int) -> Any:
    from jts_storage.domain.checks import from_ms

    return from_ms(int(milliseconds))


async def test_the_first_address_is_dead_from_the_start(net: Net) -> None:
    first = await net.add()
    await net.add()
    first.faults.refuse()
    async with Storage.open(net.settings()) as client:
        assert len(await client.formulas.list()) == 1


async def test_the_first_address_hangs_from_the_start(net: Net) -> None:
    first = await net.add()
    await net.add()
    first.faults.hang()
    async with Storage.open(net.settings(connect_timeout=1.0)) as client:
        assert len(await client.formulas.list()) == 1


async def test_the_used_address_dies_under_many_calls(net: Net) -> None:
    """Each call that fails turns to the other address, and not two of them back again."""
    first, second = await net.add(), await net.add()
    async with Storage.open(net.settings()) as client:
        for dies, other in ((first, second), (second, first)):
            dies.faults.refuse()
            found = await asyncio.gather(*(client.formulas.list() for _ in range(20)))
            assert all(len(each) == 1 for each in found)
            dies.faults.clear()
            assert other.connections.open


async def test_a_gateway_that_hangs_is_told_and_left(net: Net) -> None:
    first, _ = await net.add(), await net.add()
    async with Storage.open(net.settings(timeout=3.0, commit_timeout=3.0)) as client:
        first.faults.hang()
        with pytest.raises(ConnectionFailed, match=r"took too long|sent nothing for 3 s"):
            await client.formulas.list()
        assert len(await client.formulas.list()) == 1

        async def work(uow: Any) -> None:
            await uow.formulas.save(make_formula("g"))

        await client.run(work)
        assert len(await client.formulas.list()) == 2
        first.faults.clear()


async def test_a_short_deadline_frees_both_sides(net: Net) -> None:
    await net.add()
    ended = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with Storage.open(net.settings(timeout=0.05)) as client:
        formulas = net.backend.readable.formulas
        type(formulas).get_by_category, before = slow, type(formulas).get_by_category  # type: ignore[method-assign]
        try:
            with pytest.raises(ConnectionFailed, match=r"took too long|sent nothing"):
                async with asyncio.timeout(5):
                    await client.formulas.get_by_category(FormulaCategory.ENTRY)
            async with asyncio.timeout(5):
                await ended.wait()
        finally:
            type(formulas).get_by_category = before  # type: ignore[method-assign]


async def test_one_that_leaves_a_stream_ends_it(net: Net) -> None:
    await net.add()
    async with Storage.open(net.settings()) as client:
        before = len(asyncio.all_tasks())
        for _ in range(20):
            stream = client.candles.stream(LONG, *FOREVER, block_rows=10)
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]
        for _ in range(100):
            if len(asyncio.all_tasks()) <= before:
                break
            await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) <= before + 1


async def test_a_slow_reader_stops_the_reading(net: Net) -> None:
    """What a client does not read is not read from the stores either."""
    await net.add()
    read = 0
    candles = type(net.backend.readable.candles)
    before = candles.stream

    async def counted(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal read
        async for block in before(self, *given, **named):
            read += 1
            for _ in range(40):  # of some MB
                yield block

    candles.stream = counted  # type: ignore[method-assign]
    key = SeriesKey("BIG", Timeframe.M1, "KRX")
    async with net.storage.unit_of_work() as uow:
        await uow.candles.save_many(key, make_candles(key, 60_000))
        await uow.commit()
    try:
        async with Storage.open(net.settings()) as client:
            stream = client.candles.stream(key, *FOREVER, block_rows=1_000)
            await anext(stream)
            for _ in range(50):
                await asyncio.sleep(0.02)
            assert read < 60
            await stream.aclose()  # type: ignore[attr-defined]
    finally:
        candles.stream = before  # type: ignore[method-assign]


async def test_calls_end_when_the_storage_is_closed(net: Net) -> None:
    proxy = await net.add()
    client = Storage.open(net.settings(timeout=20))
    await client.__aenter__()
    proxy.faults.hang()
    calls = [asyncio.create_task(client.formulas.list()) for _ in range(5)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        await client.__aexit__(None, None, None)
        found = await asyncio.gather(*calls, return_exceptions=True)
    proxy.faults.clear()
    assert all(isinstance(each, StorageError) for each in found), found


async def test_another_loop_is_told(net: Net) -> None:
    """A storage belongs to one event loop; the blocking twin is for threads."""
    await net.add()
    told: list[BaseException] = []
    async with Storage.open(net.settings()) as client:

        def other() -> None:
            try:
                asyncio.run(asyncio.wait_for(client.formulas.list(), 10))
            except Exception as exc:  # noqa: BLE001 - what comes is looked at
                told.append(exc)

        await asyncio.to_thread(other)
        assert len(await client.formulas.list()) == 1
    assert len(told) == 1
    assert isinstance(told[0], StorageError), told


@pytest.fixture
def process() -> Iterator[tuple[str, Any]]:
    """A gateway in a process of its own."""
    with memory_gateway() as found:
        yield found


def test_threads_share_a_blocking_twin(process: tuple[str, Any]) -> None:
    with blocking.Storage.open(StorageSettings(url=f"grpc://{process[0]}")) as storage:
        found: list[int] = []

        def work(number: int) -> None:
            for turn in range(5):
                with storage.unit_of_work() as uow:
                    uow.formulas.save(make_formula(f"f{number}.{turn}"))
                    uow.commit()
            found.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 4
        assert len(storage.formulas.list()) == 20


def test_a_stopped_gateway_is_told(process: tuple[str, Any]) -> None:
    """SIGSTOP: the connection stands, and nothing answers."""
    address, gateway = process
    url = f"grpc://{address}?timeout=1&commit_timeout=1&max_retries=1"
    with blocking.Storage.open(StorageSettings(url=url)) as storage:
        os.kill(gateway.pid, signal.SIGSTOP)
        with pytest.raises(ConnectionFailed, match=r"took too long|sent nothing"):
            storage.formulas.list()
        os.kill(gateway.pid, signal.SIGCONT)
        assert storage.formulas.list() == []


async def test_a_fork_is_told_and_never_hangs(process: tuple[str, Any]) -> None:
    """Of the storage of its parent, which goes on."""
    async with Storage.open(StorageSettings(url=f"grpc://{process[0]}")) as storage:
        await storage.formulas.list()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            asyncio._set_running_loop(None)
            try:
                asyncio.new_event_loop().run_until_complete(storage.formulas.list())
                told = b"nothing"
            except StorageError as exc:
                told = str(exc).encode()
            except BaseException as exc:  # noqa: BLE001 - told to the parent
                told = repr(exc).encode()
            os.write(write, told)
            os._exit(0)
        os.close(write)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        answer = os.read(read, 10_000).decode()
        os.close(read)
        assert os.waitstatus_to_exitcode(status) == 0
        assert "before the process forked" in answer
        assert await storage.formulas.list() == []
