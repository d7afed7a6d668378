"""How long a call may take, how much it may hold, and how a gateway ends."""

# ruff: noqa: SIM117 - one for what is set up, and one for what is looked at

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from jts_storage import Storage, new_unit_id
from jts_storage.domain.events import IngestionFailed
from jts_storage.errors import (
    ConnectionFailed,
    InUse,
    InvalidConfiguration,
    PoolTimeout,
    StorageError,
)
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.memory.subscriptions import InMemorySource, InMemorySubscriptions
from jts_storage.memory.work import InMemoryWork
from jts_storage.ports.health import Health
from jts_storage.proto.jts.storage.v1 import work_pb2 as work
from jts_storage.remote import connection, session
from jts_storage.remote.backend import GrpcBackend
from jts_storage.remote.server import subscriptions
from jts_storage.remote.server.gateway import Gateway
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import START, make_formula
from tests.remote.gateways import served
from tests.remote.test_frames import KEY
from tests.remote.test_hostile_chunks import batch, candles, described
from tests.remote.wire import channel, same, unit_of_work


@asynccontextmanager
async def client(gateway: Gateway, **options: Any) -> AsyncIterator[Storage]:
    options = {"max_retries": 0, **options}
    config = GatewayConfig(addresses=(gateway.address,), tls=False, **options)
    async with Storage(GrpcBackend(config)) as storage:
        yield storage


@pytest.fixture
async def backend() -> AsyncIterator[InMemoryBackend]:
    backend = InMemoryBackend()
    async with Storage(backend):
        yield backend


class Hanging:
    """A method that takes for ever."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, *_: Any, **__: Any) -> Any:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_a_call_has_a_deadline(backend: InMemoryBackend, tmp_path: Path) -> None:
    for method in ("count", "get_range"):
        hanging = Hanging()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(backend.readable.candles), method, _method(hanging))
            async with served(backend, tmp_path) as gateway, client(gateway, timeout=0.3) as it:
                async with asyncio.timeout(5):
                    with pytest.raises(ConnectionFailed, match=r"raise `timeout`|longer than"):
                        await getattr(it.candles, method)(KEY, *FOREVER)
                    await hanging.ended.wait()  # the stores are not asked any longer


async def test_each_part_of_a_stream_has_a_deadline(
    backend: InMemoryBackend, tmp_path: Path
) -> None:
    async def stream(*_: Any, **__: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(backend.readable.candles), "stream", stream)
        async with served(backend, tmp_path) as gateway, client(gateway, timeout=0.3) as it:
            async with asyncio.timeout(5):
                with pytest.raises(ConnectionFailed, match=r"sent nothing for 0.3 s"):
                    async for _ in it.candles.stream(KEY, *FOREVER):
                        pass


async def test_a_gateway_bounds_a_call_by_what_its_client_says(
    backend: InMemoryBackend, tmp_path: Path
) -> None:
    """Also where a client would not end the call itself."""
    from jts_storage.remote.server.calls import answering

    class Context:
        def time_remaining(self) -> float:
            return 0.05

        def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
            return ()

        async def abort(self, code: Any, details: str, **_: Any) -> None:
            raise RuntimeError(f"{code.name}: {details}")

    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError, match="UNAVAILABLE: The stores took longer"):
            async with answering(Context(), "x"):  # type: ignore[arg-type]
                await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_an_outcome_is_told_whatever_keeps_its_commit_from_a_store(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Such as another commit that is damaged, or a database that a stopped process has locked."""
    begun, is_over = 0, asyncio.Event()

    async def recover() -> int:
        nonlocal begun
        begun += 1
        if how == "hangs":
            await is_over.wait()
        raise StorageError("Another commit cannot be finished.")

    async def lost(work: session.WorkSession, *_: Any) -> Any:
        work.has_asked_to_commit = True
        raise ConnectionFailed("The answer is lost.")

    monkeypatch.setattr("jts_storage.remote.server.finishing._SECONDS", 0.05)
    monkeypatch.setattr(backend, "recover", recover)
    identity = new_unit_id()
    async with served(backend, tmp_path) as gateway, client(gateway) as it:
        async with it.unit_of_work(id=identity) as uow:
            await uow.ingestion.checkpoints.save("A", {})
            done = await uow.commit()
        for _ in range(3):
            outcome = await it.outcome(identity)
            assert (outcome.is_committed, outcome.commit) == (True, done.commit)
        assert begun == (1 if how == "hangs" else 3)  # no more than one at a time
        # Only a commit that lost its answer is done when every store has it.
        async with it.unit_of_work(id=identity) as uow:
            await uow.ingestion.checkpoints.save("A", {})
            monkeypatch.setattr(session.WorkSession, "commit", lost)
            with pytest.raises(StorageError, match="is decided, but not every store has it yet"):
                await uow.commit()
        is_over.set()


async def test_no_more_calls_at_once_than_it_takes(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging()
    monkeypatch.setattr(type(backend.readable.candles), "count", _method(hanging))
    async with served(backend, tmp_path, calls=1) as gateway, client(gateway) as it:
        first = asyncio.create_task(it.candles.count(KEY))
        await hanging.begun.wait()
        with pytest.raises(PoolTimeout, match=r"as many calls as it takes.*--calls"):
            await it.formulas.list()
        first.cancel()


async def test_a_unit_of_work_that_asks_nothing_is_dropped(
    backend: InMemoryBackend, tmp_path: Path
) -> None:
    async with served(backend, tmp_path, idle_seconds=0.2) as gateway, client(gateway) as it:
        async with it.unit_of_work() as uow:
            await uow.formulas.save(make_formula("f"))
            await asyncio.sleep(0.5)
            async with asyncio.timeout(5):
                with pytest.raises(StorageError, match=r"asked nothing for 0.2 s"):
                    await uow.commit()
    assert not await backend.formulas.list()


async def test_a_call_within_a_unit_of_work_is_of_a_size(
    backend: InMemoryBackend, tmp_path: Path
) -> None:
    async with served(backend, tmp_path, call_bytes=1_000) as gateway, client(gateway) as it:
        with pytest.raises(StorageError, match="larger than 1,000 bytes"):
            async with it.unit_of_work() as uow:
                await uow.formulas.save_many([make_formula(f"f{n}") for n in range(50)])


async def test_all_that_is_staged_is_weighed(backend: InMemoryBackend, tmp_path: Path) -> None:
    async with served(backend, tmp_path, staged_bytes=10_000) as gateway, client(gateway) as it:
        with pytest.raises(StorageError, match="stages more than 10,000 bytes"):
            async with it.unit_of_work() as uow:
                await uow.ingestion.checkpoints.save("c", {"text": "x" * 20_000})
                await uow.commit()


@pytest.mark.parametrize("said", [0, 1, 3])
async def test_all_that_was_staged_is_committed_or_nothing(
    backend: InMemoryBackend, tmp_path: Path, said: int
) -> None:
    steps = [
        work.WorkRequest(begin=work.Begin(id=new_unit_id())),
        work.WorkRequest(chunk=described()),
        work.WorkRequest(chunk=candles(batch())),
        work.WorkRequest(commit=work.Commit(chunks=said)),
    ]
    async with served(backend, tmp_path) as gateway, channel(gateway.address) as to:
        told = await unit_of_work(to, [step.SerializeToString() for step in steps])
    assert (told.code, "are not all here" in told.details) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize("identity", ["", "x", "01890a5d-ac96-774b-bcce-b302099a8057"])
async def test_a_unit_of_work_has_an_id_of_this_week(
    backend: InMemoryBackend, tmp_path: Path, identity: str
) -> None:
    step = work.WorkRequest(begin=work.Begin(id=identity))
    async with served(backend, tmp_path) as gateway, channel(gateway.address) as to:
        told = await unit_of_work(to, [step.SerializeToString()])
    assert told.code == "INVALID_ARGUMENT"
    assert "'id'" in told.details


async def test_health_is_told_by_store(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def health(_: object) -> Health:
        return Health(clickhouse=True, mongo=False)

    monkeypatch.setattr(InMemoryBackend, "health", health)
    async with served(backend, tmp_path) as gateway, channel(gateway.address) as to:
        check = to.unary_unary("/grpc.health.v1.Health/Check", same, same)
        told = {}
        for name in ("clickhouse", "mongo", ""):
            asked = health_pb2.HealthCheckRequest(service=name).SerializeToString()
            answer = health_pb2.HealthCheckResponse.FromString(await check(asked))
            told[name] = answer.status == health_pb2.HealthCheckResponse.SERVING
    assert told == {"clickhouse": True, "mongo": False, "": False}


async def test_calls_that_run_may_end(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def count(*_: Any, **__: Any) -> int:
        begun.set()
        await asyncio.sleep(0.3)
        return 5

    monkeypatch.setattr(type(backend.readable.candles), "count", count)
    async with served(backend, tmp_path, grace_seconds=10) as gateway, client(gateway) as it:
        counting = asyncio.create_task(it.candles.count(KEY))
        await begun.wait()
        await gateway.stop()
        assert await counting == 5


async def test_a_socket_belongs_to_one_gateway_and_one_user(
    backend: InMemoryBackend, tmp_path: Path
) -> None:
    path = tmp_path / "serve.sock"
    async with served(backend, tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(InvalidConfiguration, match="another gateway serves"):
            async with served(backend, tmp_path):
                pass
        assert path.exists()
    assert not path.exists()


async def test_the_socket_of_a_dead_gateway_is_taken(
    backend: InMemoryBackend, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "serve.sock"))
    async with served(backend, tmp_path) as gateway, client(gateway) as it:
        assert await it.formulas.list() == []
    assert not (tmp_path / "serve.sock").exists()


async def test_what_is_left_without_commit_is_over_at_the_gateway_too(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    async def end(self: InMemoryWork) -> None:
        await asyncio.sleep(0.1)
        ended.append(self)

    monkeypatch.setattr(InMemoryWork, "end", end)
    async with served(backend, tmp_path) as gateway, client(gateway) as it:
        async with it.unit_of_work() as uow:
            await uow.formulas.save(make_formula("f"))
            await uow.rollback()
        assert ended


async def test_a_commit_whose_answer_was_lost_is_finished(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway that was to finish it may be gone."""
    recovered = []

    async def recover(self: InMemoryBackend) -> int:
        recovered.append(self)
        return 0

    monkeypatch.setattr(InMemoryBackend, "recover", recover)
    committed, given_up = new_unit_id(), new_unit_id()
    async with served(backend, tmp_path) as gateway, client(gateway) as it:
        async with it.unit_of_work(id=committed) as uow:
            await uow.ingestion.checkpoints.save("c", {})
            await uow.commit()
        assert not (await it.outcome(given_up)).is_committed
        assert not recovered
        assert (await it.outcome(committed)).is_committed
        assert recovered == [backend]


async def test_another_protocol_is_told(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAJOR", 2)
    async with served(backend, tmp_path) as gateway:
        with pytest.raises(StorageError, match=r"speaks protocol 1, this client 2.*same release"):
            async with client(gateway):
                pass


async def tell(storage: Storage, count: int = 1, reason: str = "x") -> None:
    async with storage.unit_of_work() as uow:
        for number in range(count):
            uow.events.add(
                IngestionFailed(symbol=str(number), trading_day=START.date(), reason=reason)
            )
        await uow.commit()


async def test_who_gives_up_subscribing_holds_nothing(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, ended = InMemorySource.begin, asyncio.Event()

    async def begin(self: InMemorySource) -> None:
        await whole(self)
        try:
            await asyncio.Event().wait()
        except BaseException:
            await self.end()
            ended.set()
            raise

    async with served(backend, tmp_path) as gateway, client(gateway) as it:
        monkeypatch.setattr(InMemorySource, "begin", begin)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), it.subscribe("s"):
                pass
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_subscription_waits_for_the_lease_of_a_lost_gateway(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host is gone, and for a minute nobody else can tell."""
    begin, refused = InMemorySource.begin, 0

    async def still_held(source: InMemorySource) -> None:
        nonlocal refused
        if is_lost and refused < 3:
            refused += 1
            raise InUse("A dead host has it.")
        await begin(source)

    monkeypatch.setattr(InMemorySource, "begin", still_held)
    monkeypatch.setattr("jts_storage.remote.subscriptions._PAUSE_SECONDS", 0.01)
    is_lost = False
    async with served(backend, tmp_path) as gateway, client(gateway) as it:
        async with it.subscribe("x", IngestionFailed) as events:
            source = events._source  # type: ignore[attr-defined]
            is_lost = True
            source._stream.cancel()
            async with it.unit_of_work() as uow:
                uow.events.add(
                    IngestionFailed(symbol="A", trading_day=START.date(), reason="no answer")
                )
                await uow.commit()
            event = await events.next(within=30)
            assert (event is not None and event.symbol, refused) == ("A", 3)
        is_lost, refused = True, 0
        with pytest.raises(InUse, match="A dead host has it"):  # who begins is told at once
            async with it.subscribe("x", IngestionFailed):
                pass


async def test_a_subscription_does_not_wait_for_ever(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(backend, tmp_path) as gateway, client(gateway, timeout=1.0) as it:
        async with it.subscribe("s") as events:
            assert await events.next(within=1.5) is None  # it waits for events all the same
            await tell(it)
            assert await events.next(within=5)
            with monkeypatch.context() as patch:
                patch.setattr(InMemorySource, "acknowledge", _method(Hanging()))
                async with asyncio.timeout(10):
                    with pytest.raises(ConnectionFailed, match=r"sent nothing for 1 s"):
                        await events.acknowledge()
            await events.acknowledge()
            await tell(it, reason="y")
            found: Any = await events.next(within=5)
            assert found.reason == "y"


async def test_a_page_of_large_events_comes_in_several_messages(
    backend: InMemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "PIECE_BYTES", 1_000)
    async with served(backend, tmp_path) as gateway, client(gateway) as it:
        async with it.subscribe("s") as events:
            await tell(it, 9, "x" * 300)
            found: list[Any] = [await events.next(within=5) for _ in range(9)]
    assert [each and each.symbol for each in found] == [str(number) for number in range(9)]


async def test_one_that_is_not_durable_says_that_it_missed_events(
    backend: InMemoryBackend, tmp_path: Path
) -> None:
    # Subscriptions do not end by themselves, and are not waited for.
    async with served(backend, tmp_path, grace_seconds=20) as first, client(first) as it:
        async with it.subscribe("s", durable=False) as events, it.subscribe("d") as durable:
            assert await events.next(within=0.1) is None
            async with asyncio.timeout(5):
                await first.stop()
            async with served(backend, tmp_path) as second, client(second) as other:
                with pytest.raises(ConnectionFailed, match="may have been missed"):
                    await events.next(within=5)
                await tell(other)
                assert await durable.next(within=5)


async def test_handled_events_are_not_told_again(backend: InMemoryBackend, tmp_path: Path) -> None:
    told: list[list[str]] = []

    async def handled(_: object, events: list[str]) -> int:
        told.append(list(events))
        return len(events)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InMemorySubscriptions, "handled", handled)
        async with served(backend, tmp_path) as gateway, client(gateway) as it:
            heard: list[Any] = []
            it.events.register_handler(IngestionFailed, heard.append)
            await tell(it)
    assert told == [[heard[0].id]]


def _method(hanging: Hanging) -> Any:
    async def method(*_: Any, **__: Any) -> Any:
        return await hanging()

    return method
