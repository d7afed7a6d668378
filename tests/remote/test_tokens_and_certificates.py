"""Who is let in, what he may do, and what nobody is told."""

from __future__ import annotations

import logging
import os
import subprocess
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2

from jts_storage import Storage, StorageSettings
from jts_storage.cli.serve import _append
from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote.methods import METHODS
from jts_storage.remote.protocol import path_of
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.remote.server.tokens import Tokens, line_of, new_token
from jts_storage.testing.factories import make_formula
from tests.remote.wire import call, channel, same, staged

TOKENS = {scope: new_token() for scope in ("read", "write", "admin")}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority with a certificate for the gateway and one for a client, and another one."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ca", "other"):
        _openssl(
            folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-days", "2",
            "-subj", f"/CN={authority}",
        )  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        _openssl(
            folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        _openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey",
            f"{authority}.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2",
            "-extfile", "names",
        )  # fmt: skip
    return folder


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def tokens_of(folder: Path) -> Tokens:
    file = folder / "tokens"
    file.write_text("".join(line_of(f"a-{scope}", scope, token) for scope, token in TOKENS.items()))
    file.chmod(0o600)
    return Tokens.of_file(file)


@asynccontextmanager
async def gateway(place: Place) -> AsyncIterator[Gateway]:
    backend = InMemoryBackend()
    async with Storage(backend):
        found = Gateway(backend, place)
        await found.start()
        try:
            yield found
        finally:
            await found.stop()


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Gateway]:
    limits = Limits(grace_seconds=0.5)
    async with gateway(Place("127.0.0.1:0", tokens=tokens_of(tmp_path), limits=limits)) as found:
        yield found


def bearer(token: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {token}"),)}


def url_of(gateway: Gateway, token: str | None = None) -> StorageSettings:
    return StorageSettings(url=f"grpc://{f'{token}@' if token else ''}{gateway.address}")


HEALTH = health_pb2.HealthCheckRequest().SerializeToString()
ASKED = pb.Arguments().SerializeToString()


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer "),),
        (("authorization", "Bearer " + new_token()),),
        (("authorization", TOKENS["admin"]),),
        (("authorization", f"bearer {TOKENS['admin']}"),),
        (("authorization", f"Bearer {TOKENS['admin']} "),),
        (("authorization", f"Basic {TOKENS['admin']}"),),
        (("authorization-bin", f"Bearer {TOKENS['admin']}".encode()),),
    ],
)
async def test_who_has_no_token_learns_nothing_but_that(guarded: Gateway, metadata: Any) -> None:
    async with channel(guarded.address) as to:
        told = {await call(to, method, ASKED, metadata=metadata) for method in METHODS}
        told.add(await call(to, "Gateway/GetServer", b"", metadata=metadata))
        told.add(await call(to, "Gateway/Nothing", b"", metadata=metadata))
        told.add(await call(to, "Candles/Nothing", b"\xff", metadata=metadata))
        told.add(await staged(to, metadata=metadata))
        for path in (
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            "/x",
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await to.unary_unary(path, same, same)(HEALTH, metadata=metadata, timeout=10)
            told.add((caught.value.code().name, caught.value.details(), None))  # type: ignore[arg-type]
    assert told == {("UNAUTHENTICATED", "no token that is known here", None)}


async def test_a_token_allows_what_its_scope_says(guarded: Gateway) -> None:
    allowed = {"read": {"read"}, "write": {"read", "write"}, "admin": {"read", "write", "admin"}}
    assert {method.scope for method in METHODS.values()} == {"read", "write", "admin"}
    async with channel(guarded.address) as to:
        for scope, token in TOKENS.items():
            for name, method in METHODS.items():
                told = await call(to, name, ASKED, **bearer(token))
                is_refused = told.code == "PERMISSION_DENIED"
                assert is_refused == (method.scope not in allowed[scope]), (scope, name, told)
            told = await staged(to, **bearer(token))
            assert (told.code == "PERMISSION_DENIED") == (scope == "read")
            told = await call(to, "Gateway/Commit", b"", **bearer(token))
            assert (told.code == "PERMISSION_DENIED") == (scope == "read")
            for name in ("Subscribe", "Listen", "Handle"):
                code = await consumed(to, name, **bearer(token))
                is_refused = code == "PERMISSION_DENIED"
                assert is_refused == (scope == "read" and name != "Listen"), (scope, name)
            found = await call(to, "Gateway/GetServer", b"", **bearer(token))
            assert found.code == "OK"


async def consumed(to: aio.Channel, name: str, **options: Any) -> str:
    """How a subscription ends that says nothing."""
    stream = to.stream_stream(path_of("Gateway", name), same, same)(timeout=10, **options)
    await stream.done_writing()
    return (await stream.code()).name


async def test_a_refused_unit_of_work_is_told_each_time(guarded: Gateway) -> None:
    """Also where the gateway has ended the stream before the client has written all of it."""
    async with Storage.open(url_of(guarded, TOKENS["read"])) as storage:
        for _ in range(50):
            with pytest.raises(StorageError, match="needs the scope write"):
                async with storage.unit_of_work() as uow:
                    await uow.formulas.save(make_formula("g"))


def test_every_method_that_changes_something_asks_for_more_than_reading() -> None:
    reading = {name for name, method in METHODS.items() if method.scope == "read"}
    words = ("create", "delete", "save", "purge", "recover", "outcome", "unsub", "delivered")
    assert not [name for name in reading if any(word in name.lower() for word in words)]


async def test_clients_with_tokens(guarded: Gateway) -> None:
    settings = url_of(guarded, TOKENS["write"])
    async with Storage.open(settings) as storage, storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula("f"))
        await uow.commit()
    async with Storage.open(url_of(guarded, TOKENS["read"])) as storage:
        assert len(await storage.formulas.list()) == 1
        with pytest.raises(StorageError, match=r"needs the scope write.*Use a token"):
            async with storage.unit_of_work() as uow:
                await uow.formulas.save(make_formula("g"))
    for token in (None, new_token()):
        with pytest.raises(StorageError, match="does not know this client"):
            await Storage.open(url_of(guarded, token)).__aenter__()


@pytest.mark.parametrize(
    "token",
    [TOKENS["read"], new_token(), "s%C3%A4cret-odd", "sec%0Aret-odd"],
    ids=["known", "unknown", "with a letter", "with a line"],  # workers collect the same names
)
async def test_no_token_is_in_a_log_an_error_or_a_repr(
    guarded: Gateway, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    from urllib.parse import unquote

    caplog.set_level(logging.DEBUG)
    seen = []
    try:
        settings = url_of(guarded, token)
        seen.append(repr(settings))
        storage = Storage.open(settings)
        seen.append(repr(storage))
        async with storage, storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula("g"))
    except StorageError as exc:
        seen.append("".join(traceback.format_exception(exc)))
    assert seen
    seen += [caplog.text, *(str(record.__dict__) for record in caplog.records)]
    for text in seen:
        assert token not in text
        assert unquote(token) not in text
        assert repr(unquote(token))[1:-1] not in text


async def test_a_file_of_tokens_may_change_while_a_gateway_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jts_storage.remote.server.tokens._LOOK_SECONDS", 0.0)
    known, file, given = tokens_of(tmp_path), tmp_path / "tokens", new_token()
    place = Place("127.0.0.1:0", tokens=known, limits=Limits(grace_seconds=0.5))
    async with gateway(place) as found, channel(found.address) as to:

        async def is_let_in(token: str) -> bool:
            return (await call(to, "Formulas/List", ASKED, **bearer(token))).code == "OK"

        assert [await is_let_in(each) for each in (TOKENS["read"], given)] == [True, False]
        replacement = tmp_path / "replacement"
        replacement.write_text(line_of("new", "read", given))
        replacement.chmod(0o600)
        replacement.replace(file)
        assert [await is_let_in(each) for each in (TOKENS["read"], given)] == [False, True]
        for spoil in (
            lambda: file.chmod(0o644),
            lambda: file.write_text("no token\n"),
            file.unlink,
        ):
            caplog.clear()
            spoil()
            assert await is_let_in(given)
            assert "let in before still are" in caplog.text
            assert given not in caplog.text


def test_tokens_that_are_being_written_are_not_read_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [0.0]
    monkeypatch.setattr("jts_storage.remote.server.tokens.monotonic", lambda: moment[0])
    known, file = tokens_of(tmp_path), tmp_path / "tokens"
    file.write_text("")  # an editor has emptied it, and writes what it held
    moment[0] += 10
    assert known.caller(TOKENS["read"])
    os.utime(file, (0, 0))
    moment[0] += 10
    assert not known.caller(TOKENS["read"])


def test_a_file_of_tokens_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(line_of("a", "read", TOKENS["read"]))
    assert TOKENS["read"] not in file.read_text()
    for mode in (0o640, 0o604, 0o620, 0o644, 0o666):
        file.chmod(mode)
        with pytest.raises(InvalidConfiguration, match=r"can be read by others.*chmod 600"):
            Tokens.of_file(file)
    file.chmod(0o600)
    assert Tokens.of_file(file).caller(TOKENS["read"])
    for line in ("a read\n", "a all " + "0" * 64, "a read 00\n", "\0"):
        file.write_text(line)
        with pytest.raises(InvalidConfiguration, match=r"line 1 of .* is no token"):
            Tokens.of_file(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidConfiguration):
        Tokens.of_file(file)


def secure(certificates: Path, **more: Any) -> Place:
    return Place(
        "localhost:0",
        certificates / "server.pem",
        certificates / "server.key",
        limits=Limits(grace_seconds=0.5),
        **more,
    )


def tls_url(
    gateway: Gateway, certificates: Path, ca: str = "ca", client: str = ""
) -> StorageSettings:
    options = [f"ca_file={certificates / ca}.pem", "max_retries=0", "connect_timeout=5"]
    if client:
        options += [
            f"cert_file={certificates / client}.pem",
            f"key_file={certificates / client}.key",
        ]
    return StorageSettings(url=f"grpcs://{gateway.address}?{'&'.join(options)}")


async def can_open(settings: StorageSettings) -> bool:
    try:
        async with Storage.open(settings) as storage:
            return await storage.formulas.list() is not None
    except ConnectionFailed:
        return False


async def test_encrypted(certificates: Path) -> None:
    async with gateway(secure(certificates)) as found:
        assert await can_open(tls_url(found, certificates))
        assert not await can_open(tls_url(found, certificates, "other"))
        async with channel(found.address) as to:  # without encryption
            assert (await call(to, "Formulas/List", b"", timeout=5)).code == "UNAVAILABLE"


async def test_clients_show_certificates(certificates: Path) -> None:
    async with gateway(secure(certificates, client_ca=certificates / "ca.pem")) as found:
        assert await can_open(tls_url(found, certificates, client="client"))
        assert not await can_open(tls_url(found, certificates))
        assert not await can_open(tls_url(found, certificates, client="stranger"))


async def test_a_certificate_of_another_name_is_refused(certificates: Path) -> None:
    async with gateway(secure(certificates)) as found:
        url = tls_url(found, certificates).url
        assert url is not None
        named = StorageSettings(url=f"{url.get_secret_value()}&server_name=elsewhere")
        assert not await can_open(named)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (Place("0.0.0.0:0"), "without encryption"),
        (Place("[::]:0"), "without encryption"),
        (Place("127.0.0.1:0", cert_file=Path("a")), "go together"),
        (Place("127.0.0.1:0", client_ca=Path("a")), "show certificates"),
        (Place("0.0.0.0:0", Path("a"), Path("b")), "to everybody"),
    ],
)
async def test_places_that_are_open_to_all_are_refused(place: Place, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says):
        Gateway(InMemoryBackend(), place)


async def test_a_broken_certificate_is_told(tmp_path: Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text("no certificate")
    with pytest.raises(InvalidConfiguration, match="cannot listen"):
        async with gateway(Place("127.0.0.1:0", tmp_path / "cert", tmp_path / "key")):
            pass
    with pytest.raises(InvalidConfiguration, match="No such file"):
        async with gateway(Place("127.0.0.1:0", tmp_path / "none", tmp_path / "key")):
            pass


@pytest.mark.parametrize("there", ["", "# those of the team", "# those of the team\n"])
def test_a_token_is_a_line_of_its_own(tmp_path: Path, there: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(there)
    file.chmod(0o600)
    _append(file, line_of("a", "read", TOKENS["read"]))
    _append(file, line_of("b", "write", TOKENS["write"]))
    known = Tokens.of_file(file)
    names = [(known.caller(TOKENS[scope]) or [None])[0] for scope in ("read", "write")]
    assert names == ["a", "b"]
