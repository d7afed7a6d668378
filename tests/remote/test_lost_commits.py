"""A commit that may have been heard is never told as one that failed, whatever gRPC says of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from jts_storage import Storage
from jts_storage.errors import OutcomeUnknown, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote import session
from jts_storage.remote.backend import GrpcBackend
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.sessions import Works, _Work
from jts_storage.remote.server.tokens import Tokens
from jts_storage.remote.session import WorkSession
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.testing.factories import make_formula
from tests.remote.gateways import remote


async def _committed(client: Storage) -> None:
    async with client.unit_of_work() as uow:
        await uow.ingestion.checkpoints.save("c", {"n": 1})
        await uow.commit()


@pytest.mark.parametrize("way", ["whole", "stream"])
@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED", "ABORTED"])
async def test_a_status_after_the_commit_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, code: str
) -> None:
    """As a proxy makes one of its own, or the gateway as it answers."""
    kind, method = (Works, "commit") if way == "whole" else (_Work, "run")
    real: Any = getattr(kind, method)

    async def answer_is_lost(self: Any, *given: Any) -> Any:
        await real(self, *given)
        context = given[1] if way == "whole" else self._context
        await context.abort(grpc.StatusCode[code], "what came then")

    monkeypatch.setattr(kind, method, answer_is_lost)
    if way == "stream":
        monkeypatch.setattr(session, "WHOLE_BYTES", 0)
        monkeypatch.setattr(_Work, "_commit", _without_an_answer)
    backend = InMemoryBackend()
    async with Storage(backend), remote(backend, tmp_path) as client:
        await _committed(client)
        stored = await client.ingestion.checkpoints.get("c")
        assert stored is not None and stored.data == {"n": 1}


async def _without_an_answer(self: Any, asked: pb.Commit) -> None:
    self._uow.take(self._staged.changes(asked.chunks), [])
    await self._uow.commit()


async def test_a_request_to_commit_that_was_sent_counts_although_sending_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = InMemoryBackend()
    write: Any = WorkSession._write

    async def cut(self: WorkSession, request: pb.WorkRequest) -> None:
        await write(self, request)
        if request.WhichOneof("step") == "commit":
            while not await storage.formulas.list():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            raise self._away("The connection was cut.")

    monkeypatch.setattr(WorkSession, "_write", cut)
    async with Storage(backend) as storage, remote(backend, tmp_path) as client:
        async with client.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            await uow.commit()
        assert len(await storage.formulas.list()) == 1


@pytest.mark.parametrize("whole_bytes", [session.WHOLE_BYTES, 0])
async def test_who_may_not_commit_is_told_that_and_not_that_it_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(session, "WHOLE_BYTES", whole_bytes)
    backend = InMemoryBackend()
    place = Place(f"unix:{tmp_path / 'serve.sock'}", tokens=Tokens.of("a", "read"))
    async with Storage(backend):
        gateway = Gateway(backend, place)
        await gateway.start()
        config = GatewayConfig(addresses=(gateway.address,), tls=False, token="a")
        async with Storage(GrpcBackend(config)) as client:
            with pytest.raises(StorageError, match="needs the scope write") as caught:
                await _committed(client)
        assert not isinstance(caught.value, OutcomeUnknown)
        await gateway.stop()
